"""Tokens with real nodes: the first one, a service's, revocation on both nodes of a cluster, and no secret in a log."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.node import run_discovery, running_node, wait_for

pytestmark = pytest.mark.e2e


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_from_the_first_token_to_a_service_that_registers(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    with running_node(tmp_path / "store", ["log.level=debug"], log=log) as node:
        made = run_discovery("token", "make", "admin", "--role", "operate", "--node", node.url)
        assert made.returncode == 0, made.stderr
        admin = tmp_path / "admin.token"
        admin.write_text(made.stdout)
        assert run_discovery("list", "--node", node.url).returncode == 1
        operator = ("--node", node.url, "--token-file", str(admin))
        made = run_discovery("token", "make", "web", "--role", "register", "--names", "web.prod", *operator)
        service = ("--node", node.url, "--token", made.stdout.strip())
        put = run_discovery("register", "web.prod", "i1", "--host", "10.0.0.1", "--port", "80", *service)
        assert put.returncode == 0, put.stderr
        assert node.answers("web.prod.discovery.internal", "A") == ["10.0.0.1"]
        refused = run_discovery("register", "db.prod", "i1", "--host", "10.0.0.1", *service)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "is not among the names that web may write" in refused.stderr
        listed = run_discovery("token", "list", *operator).stdout
        web_id = next(line.split()[0] for line in listed.splitlines() if " web " in line)
        assert run_discovery("token", "revoke", web_id, *operator).returncode == 0
        assert run_discovery("list", *service).returncode == 1
        for status in (
            run_discovery("cluster", "status", *operator),
            run_discovery("store", "stats", *operator),
        ):
            assert status.returncode == 0, status.stderr
    with running_node(tmp_path / "store", ["log.level=debug"], log=log) as node:  # they are kept
        assert node.call("GET", "/v1/services")[0] == 401
        assert node.call("GET", "/v1/services", headers=bearer(admin.read_text().strip()))[0] == 200
        assert node.call("GET", "/healthz")[0] == 200
    for token in (admin.read_text().strip(), made.stdout.strip()):
        assert token.removeprefix("dsc_") not in log.read_text()


def test_tokens_of_the_configuration_change_with_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("http: {tokens: [operate the-first-of-all]}\n")
    with running_node(tmp_path / "store", before=("--config", str(file))) as node:
        assert node.call("GET", "/v1/services", headers=bearer("the-first-of-all"))[0] == 200
        file.write_text("http: {tokens: [operate the-second-of-all]}\n")
        node.process.send_signal(signal.SIGHUP)
        wait_for(
            lambda: node.call("GET", "/v1/services", headers=bearer("the-second-of-all"))[0] == 200,
            30,
            "the new token is taken",
        )
        assert node.call("GET", "/v1/services", headers=bearer("the-first-of-all"))[0] == 401

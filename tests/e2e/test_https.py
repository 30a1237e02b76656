"""HTTPS with real nodes: curl, the command line, client certificates that stand for roles, renewal while it runs."""

from __future__ import annotations

import signal
import subprocess
from contextlib import aclosing
from pathlib import Path

import pytest
import trustme

from discovery.client import Client, NotAllowed, Registration, Unavailable
from tests.e2e.test_tls import shown
from tests.support.certificates import AUTHORITY, certificate
from tests.support.node import run_discovery, running_node, wait_for

pytestmark = pytest.mark.e2e


def client_files(folder: Path, name: str, authority: trustme.CA = AUTHORITY) -> tuple[str, ...]:
    """A client's certificate for `name`, as options of the command line, with the nodes' CA."""
    issued = authority.issue_cert(common_name=name)
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    return "--ca", str(folder / "ca.pem"), "--cert", str(folder / f"{name}.pem")


def test_https_and_a_renewed_certificate(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = [f"http.tls={{cert: {files.cert}, key: {files.key}}}", "http.tokens=[operate sesame]"]
    with running_node(tmp_path / "s", settings) as node:
        assert node.url.startswith("https://")
        curl = ["curl", "-sS", "--cacert", str(tmp_path / "ca.pem"), f"{node.url}/healthz"]
        assert '"ok"' in subprocess.run(curl, capture_output=True, text=True, timeout=30, check=True).stdout
        token = ("--node", node.url, "--token", "sesame")
        assert run_discovery("list", *token, "--ca", str(tmp_path / "ca.pem")).returncode == 0
        metrics = [*curl[:-1], "-H", "Authorization: Bearer sesame", f"{node.url}/metrics"]
        told = subprocess.run(metrics, capture_output=True, text=True, timeout=30, check=True).stdout
        assert 'discovery_certificate_expires_seconds{setting="http.tls.cert"}' in told
        strange = run_discovery("list", *token)
        assert strange.returncode == 1
        assert "its certificate is not trusted" in strange.stderr
        first = shown(node.http_port)
        files.renew()
        assert shown(node.http_port) == first
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: shown(node.http_port) != first, 30, "the renewed certificate")
        files.cert.write_text("no certificate")
        renewed = shown(node.http_port)
        reload = [
            "curl",
            "-sS",
            "--cacert",
            str(tmp_path / "ca.pem"),
            "-XPOST",
            f"{node.url}/v1/config/reload",
        ]
        refused = subprocess.run(
            [*reload, "-H", "Authorization: Bearer sesame"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert "are no certificate chain and its key" in refused.stdout
        assert shown(node.http_port) == renewed


def test_a_client_certificate_stands_for_a_role(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = [
        f"http.tls={{cert: {files.cert}, key: {files.key}, client_ca: {tmp_path / 'ca.pem'}}}",
        "http.tokens=[operate cert:admin, register web.prod cert:web, read sesame]",
    ]
    admin, web, nobody = (client_files(tmp_path, name) for name in ("admin", "web", "nobody"))
    forged = client_files(tmp_path, "forged", trustme.CA())
    with running_node(tmp_path / "s", settings) as node:
        here = ("--node", node.url)
        put = ("register", "web.prod", "i1", "--host", "10.0.0.1")
        assert run_discovery(*put, *here, *web).returncode == 0
        refused = run_discovery("register", "db", "i1", "--host", "10.0.0.1", *here, *web)
        assert "not among the names that web may write" in refused.stderr
        assert run_discovery("token", "list", *here, *web).returncode == 1
        assert run_discovery("token", "list", *here, *admin).returncode == 0
        assert "needs a token" in run_discovery("list", *here, *nobody).stderr
        assert run_discovery("list", *here, *nobody, "--token", "sesame").returncode == 0
        # A token that is shown counts, and not the certificate beside it.
        assert run_discovery(*put, *here, *web, "--token", "sesame").returncode == 1
        for stranger in (forged, ("--ca", str(tmp_path / "ca.pem"))):
            turned_away = run_discovery("list", *here, *stranger)
            assert turned_away.returncode == 1
            assert "no node answers" in turned_away.stderr


async def test_the_client_over_a_nodes_own_tls(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    ca = str(tmp_path / "ca.pem")
    AUTHORITY.cert_pem.write_to_path(ca)
    settings = [
        f"http.tls={{cert: {files.cert}, key: {files.key}, client_ca: {ca}}}",
        "http.tokens=[register web cert:web]",
    ]
    _, _, _, cert = client_files(tmp_path, "web")
    with running_node(tmp_path / "s", settings) as node:
        async with Client(node.url, ca=ca, cert=cert) as client:
            async with Registration("web", "i1", client=client, host="10.0.0.1") as kept:
                await kept.registered(60)
                assert [each.host for each in await client.instances("web")] == ["10.0.0.1"]
                async with aclosing(client.watch("web")) as events:
                    assert (await anext(events)).type == "put"
            assert await client.instances("web") == []
            with pytest.raises(NotAllowed):
                await client.register("db", "i1", host="10.0.0.1")
        for options in ({}, {"ca": ca}):  # the authority is not known; no certificate is shown
            async with Client(node.url, **options) as stranger:
                with pytest.raises(Unavailable):
                    await stranger.services()

"""The commands that call a node, one after the other against a real one: what they say, and what they leave."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.node import DISCOVERY, ROOT, RunningNode, environment, run_discovery, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMIT = 120.0  # seconds for a command


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node") / "store") as node:
        yield node


def told(node: RunningNode, *arguments: str, status: int = 0) -> str:
    done = run_discovery(*arguments, "--node", node.url, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (status, ""), done.stdout
    return done.stdout


def document(node: RunningNode, *arguments: str) -> Any:
    return json.loads(told(node, *arguments, "--output", "json"))


def test_leases(node: RunningNode) -> None:
    lease = told(node, "lease", "grant", "60").strip()
    told(node, "register", "leased", "i1", "--host", "10.0.0.1", "--lease", lease)
    shown = told(node, "lease", "show", lease)
    assert shown.startswith(f"lease {lease} of 60 s ends in ")
    assert "i1.leased.discovery.internal." in shown
    assert told(node, "lease", "renew", lease) == f"renewed lease {lease} for 60 s\n"
    other = document(node, "lease", "grant", "60")["id"]
    assert told(node, "lease", "renew", lease, other) == "renewed 2 leases\n"
    assert told(node, "heartbeat", "leased", "i1") == f"renewed i1 of leased for 60 s (lease {lease})\n"
    told(node, "lease", "revoke", lease)
    gone = told(node, "lease", "renew", lease, other, status=1)
    assert gone == f"renewed 1 leases\nlease {lease} is gone: what it held must be registered again\n"
    assert told(node, "list", "leased") == "no instances of leased\n"


def test_a_batch(node: RunningNode, tmp_path: Path) -> None:
    file = tmp_path / "batch.yaml"
    operations = [
        {"put": {"service": "many", "instance": f"i{n}", "host": "10.0.0.1", "lease_ttl": 0}}
        for n in range(2500)
    ]
    file.write_text(yaml.safe_dump(operations))
    assert told(node, "batch", str(file)) == "2500 of 2500 operations are done\n"
    assert document(node, "list", "--prefix", "many")["services"] == [{"service": "many", "instances": 2500}]
    file.write_text(
        json.dumps([{"delete": {"service": "many", "instance": name}} for name in ("i7", "none")])
    )
    told_ = told(node, "batch", str(file), status=1)
    assert told_.startswith("1 of 2 operations are done\n")
    assert "delete none.many" in told_


def test_how_a_node_is(node: RunningNode) -> None:
    assert told(node, "health", "--writes").startswith("ready at revision ")
    found = document(node, "health")
    assert (found["ready"], found["status"], found["alive"]) == (True, "ready", True)
    assert "discovery_view_ready 1.0" in told(node, "metrics")
    assert told(node, "config", "reload") == "the configuration is read anew\n"


def test_any_other_call(node: RunningNode) -> None:
    put = told(
        node, "api", "PUT", "/v1/services/api.test/a%2Db", "--body", '{"host": "10.0.0.1", "lease_ttl": 0}'
    )
    assert json.loads(put)["name"] == "a-b.api.test.discovery.internal."
    key = "/v2/keys/skydns/internal/discovery/raw/1"
    told(node, "api", "PUT", key, "--form", 'value={"host": "10.0.0.9"}')
    assert (
        json.loads(told(node, "api", "get", f"{key}?quorum=true"))["node"]["value"] == '{"host": "10.0.0.9"}'
    )
    assert node.answers("raw.discovery.internal.", "A") == ["10.0.0.9"]
    wrong = run_discovery("api", "GET", "/v1/nothing", "--node", node.url, timeout=LIMIT)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)
    assert "nothing is served at /v1/nothing" in wrong.stderr


def test_several_nodes_of_which_the_first_is_gone(node: RunningNode) -> None:
    nodes = f"http://127.0.0.1:1,{node.url}"
    assert run_discovery("health", "--node", nodes, timeout=LIMIT).returncode == 0


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_watch_prints_documents(node: RunningNode, form: str) -> None:
    told(node, "register", "watched", "i1", "--host", "10.0.0.1")
    process = subprocess.Popen(
        [*DISCOVERY, "watch", "watched", "--output", form, "--node", node.url],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = [process.stdout.readline()]
        if form == "yaml":
            assert first == ["---\n"]
            first = [process.stdout.readline() for _ in range(4)]
            assert yaml.safe_load("".join(first))["type"] == "put"
        else:
            assert json.loads(first[0])["instance"] == "i1"
    finally:
        process.kill()
        process.communicate()

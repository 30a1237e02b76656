"""Whatever the API can do, a command does: each of its calls is made by one, with the method and path it has there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.api.described import CALLS
from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode

ONE = {"service": "web", "instance": "i1", "name": "i1.web.test.", "host": "", "port": 0, "lease_ttl": 30}
SEATS: dict[str, object] = {"store": {"members": []}}

# By the operation's id in the API's description: the command, and what the node answers. `api` makes all others.
COMMANDS: dict[str, tuple[str, object]] = {
    "list_services": ("list", {"revision": 1, "services": [], "next": None}),
    "list_instances": ("list web", {"service": "web", "instances": []}),
    "get_instance": ("show web i1", ONE),
    "register": ("register web i1 --host 10.0.0.1", ONE),
    "deregister": ("deregister web i1", {}),
    "heartbeat": ("heartbeat web i1", {"lease": "6a", "lease_ttl": 30}),
    "drain": ("drain web i1", ONE),
    "undrain": ("undrain web i1", ONE),
    "drain_lease": ("drain --lease 6a", {}),
    "undrain_lease": ("undrain --lease 6a", {}),
    "grant_lease": ("lease grant 60", {"id": "6a"}),
    "get_lease": ("lease show 6a", {"id": "6a"}),
    "revoke_lease": ("lease revoke 6a", {}),
    "renew_lease": ("lease renew 6a", {"id": "6a", "ttl": 30}),
    "renew_leases": ("lease renew 6a 6b", {"renewed": 2, "missing": []}),
    "batch": ("batch FILE", {"revision": 1, "results": [{"status": 204}]}),
    "lookup": ("explain web.test", {}),
    "export_zone": ("zone export", {}),
    "healthz": ("health", {"status": "ok", "time_ms": 1}),
    "readyz": ("health", {"status": "ready", "revision": 1, "stale": False}),
    "metrics": ("metrics", {}),
    "reload": ("config reload", {"restart_needed": []}),
    "get_cluster": (
        "cluster status",
        {"nodes": [], "store": {"members": [], "errors": [], "reachable": True}},
    ),
    "add_member": ("cluster add http://10.0.0.4:2380", {}),
    "remove_member": ("cluster remove n3", {}),
    "promote_member": ("cluster promote n3", {}),
    "defrag": ("cluster defrag", {"done": [], "undone": []}),
    "get_store": ("store stats --node URL", {"revision": 1}),
    "compact": ("store compact --node URL", {"compact_revision": 1}),
    "snapshot": ("store snapshot NEW", {}),
    "list_tokens": ("token list", {"tokens": []}),
    "make_token": ("token make web --role read", {"token": "t", "id": "1"}),
    "revoke_token": ("token revoke 1", {}),
    "put_key": ("api PUT /v2/keys/skydns/a --form value=1", {}),
    "post_key": ("api POST /v2/keys/skydns/a --form value=1", {}),
}
STREAMED = {"watch"}  # `discovery watch`: tests/e2e/test_watch.py
IN_PATH = {"{service}": "web", "{instance}": "i1", "{lease}": "6a", "{token}": "1", "{key}": "/skydns/a"}


def test_the_commands_are_for_calls_that_there_are() -> None:
    assert {call.id for call in CALLS.values()} >= COMMANDS.keys() | STREAMED


@pytest.fixture
def node() -> Iterator[HttpNode]:
    with HttpNode() as node:
        yield node


@pytest.mark.parametrize("operation", [call.id for call in CALLS.values() if call.id not in STREAMED])
def test_the_command_makes_that_call(
    run: Run, node: HttpNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    (method, template), *_ = (route for route, call in CALLS.items() if call.id == operation)
    path = re.sub(r"{\w+}", lambda found: IN_PATH.get(found[0], "n3"), template)
    line, answer = COMMANDS.get(operation, (f"api {method} {path}", {}))
    node.answers[method, path] = answer
    for probe in ("/healthz", "/readyz", "/v1/cluster"):  # which some commands ask besides
        node.answers.setdefault(("GET", probe), SEATS | {"revision": 1})
    batch = tmp_path / "batch.json"
    batch.write_text(json.dumps([{"delete": {"service": "web", "instance": "i1"}}]))
    words = {"FILE": str(batch), "NEW": str(tmp_path / "new"), "URL": node.url}
    monkeypatch.setenv("DISCOVERY_NODE", node.url)
    status, _, err = run(*(words.get(word, word) for word in line.split()), *_output(line))
    assert (status, err if operation != "make_token" else "") == (0, "")
    assert (method, path) in [(method, path.partition("?")[0]) for method, path in node.calls]


def _output(line: str) -> tuple[str, ...]:
    plain = ("api", "metrics", "zone")
    return () if line.startswith(plain) else ("--output", "yaml")

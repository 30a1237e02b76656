"""`health` with its exit status, and what `api` refuses before it calls anybody."""

from __future__ import annotations

import json

import pytest

from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode, problem


def test_a_node_that_is_not_ready_is_1_and_says_why(run: Run) -> None:
    with HttpNode() as node:
        node.answers["GET", "/healthz"] = {"status": "ok", "time_ms": 1}
        node.answers["GET", "/readyz"] = {"status": "ready", "revision": 7, "stale": True}
        status, out, _ = run("health", "--node", node.url)
        assert (status, out) == (
            0,
            "ready at revision 7; its answers may be old, the store is out of reach\n",
        )
    with HttpNode() as node:
        node.answers["GET", "/healthz"] = {"status": "ok", "time_ms": 1}
        status, out, _ = run("health", "--node", node.url)
        assert (status, out.startswith("not ready: ")) == (1, True)
        status, out, _ = run("health", "--json", "--node", node.url)
        assert (status, json.loads(out)["ready"], json.loads(out)["status"]) == (1, False, "not ready")


def test_writes_are_asked_for(run: Run) -> None:
    with HttpNode() as node:
        node.answers["GET", "/healthz"] = {"status": "ok", "time_ms": 1}
        node.answers["GET", "/readyz"] = {"status": "ready", "revision": 7, "stale": False}
        run("health", "--writes", "--node", node.url)
        assert node.calls[-1] == ("GET", "/readyz?writes=true")


def test_no_node_is_one_line_and_1(run: Run) -> None:
    status, out, err = run("health", "--node", "http://127.0.0.1:1")
    assert (status, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("PATCH", "/"), "'PATCH' is not one of"),
        (("GET", "v1"), "does not begin with /"),
        (("PUT", "/v1", "--body", "{"), "it is no JSON"),
        (("PUT", "/v1", "--body", "@nothing-there"), "nothing-there cannot be read"),
        (("PUT", "/v1", "--body", "{}", "--form", "a=b"), "give one of them"),
        (("PUT", "/v1", "--form", "a"), "expected NAME=VALUE"),
    ],
)
def test_wrong_calls_are_2_and_call_nobody(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    with HttpNode() as node:
        status, out, err = run("api", *arguments, "--node", node.url)
        assert (status, out, node.calls) == (2, "", [])
    assert complaint in err


def test_a_refusal_of_the_node_is_one_line(run: Run) -> None:
    with HttpNode() as node:
        node.refusals.append(("GET", problem(403, "not yours")))
        assert run("api", "GET", "/v1/services", "--node", node.url) == (1, "", "discovery: not yours\n")

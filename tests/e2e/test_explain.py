"""`discovery explain` and `discovery zone export` against a running node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.node import run_discovery, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_person_and_a_program_are_told_why(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        node.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.1", "port": 80})
        node.call("PUT", "/v1/services/web.prod/i2", {"host": "2001:db8::1"})
        at = ("--node", node.url)
        told = run_discovery("explain", "web.prod.discovery.internal", *at)
        assert told.returncode == 0, told.stderr
        assert "web.prod.discovery.internal. A: NOERROR (zone discovery.internal." in told.stdout
        assert "made anew" in told.stdout
        assert "its address is of the other family" in told.stdout
        node.ask("web.prod.discovery.internal.", "SRV")
        as_json = run_discovery("explain", "web.prod.discovery.internal", "SRV", "--json", *at)
        answer = json.loads(as_json.stdout)
        assert [service["used"] for service in answer["services"]] == [True, True]
        assert answer["cached"] is True
        wrong = run_discovery("explain", "a..b", *at)
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
        exported = run_discovery("zone", "export", *at)
        assert "i1.web.prod.discovery.internal. 5 IN A 10.0.0.1" in exported.stdout
        unknown = run_discovery("zone", "export", "no.such.zone", *at)
        assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)
        assert "discovery.internal." in unknown.stderr

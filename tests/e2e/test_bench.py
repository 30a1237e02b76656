"""`discovery bench` against a running node: what it sent arrives there, and nothing stays registered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.node import run_discovery, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMIT = 180  # seconds


def test_the_node_has_seen_what_the_summary_says(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        node.call("PUT", "/v1/services/web/i1", {"host": "10.0.0.1"})
        done = run_discovery(
            *("bench", "dns", "web.discovery.internal", "nothing.discovery.internal"),
            *(
                "--server",
                f"127.0.0.1:{node.dns_port}",
                "--count",
                "200",
                "--seconds",
                "60",
                "--output",
                "json",
            ),
            timeout=LIMIT,
        )
        found = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (0, "")
        assert found["asked"] == 200
        assert found["answered"] + found["lost"] == 200
        assert found["outcomes"].keys() == {"NOERROR", "NXDOMAIN"}
        assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p100"]
        seen = run_discovery("metrics", "--node", node.url).stdout
        (udp,) = re.findall(r'^discovery_dns_queries_total{transport="udp"} (\S+)$', seen, re.M)
        assert float(udp) == 200

        done = run_discovery(
            *("bench", "register", "--node", node.url, "--count", "30", "--clients", "4", "--seconds", "60"),
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr
        assert re.search(r"^  registered +30$", done.stdout, re.M)
        assert node.call("GET", "/v1/services")[1]["services"] == [{"service": "web", "instances": 1}]

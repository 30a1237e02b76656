"""/v1/busiest of a whole node: what is sampled in the process itself, or in workers, reaches whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_what_is_asked_most_is_told(tmp_path: Path, workers: int, tcp: bool) -> None:
    with running_node(tmp_path / "store", [f"dns.workers={workers}"]) as node:
        node.call("PUT", "/v1/services/web/i1", {"host": "10.0.0.1"})
        for _ in range(70):
            node.ask("Web.discovery.internal.", "A", tcp=tcp)
        status, found = node.call("GET", "/v1/busiest")
        assert status == 200
        assert 1 <= found["sampled"] <= 70
        assert found["names"] == [
            {"name": "web.discovery.internal.", "type": "A", "sampled": found["sampled"]}
        ]
        assert node.call("GET", "/v1/busiest")[1]["sampled"] == found["sampled"]  # nothing counts twice

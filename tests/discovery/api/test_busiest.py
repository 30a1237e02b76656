"""GET /v1/busiest: what was sampled, the most frequent first."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.api import problem, running_api
from tests.support.dns import query


async def test_the_most_frequent_first(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        empty = await api.call("GET", "/v1/busiest")
        assert empty.body | {"seconds": 0} == {"seconds": 0, "sampled": 0, "names": []}
        now = time.perf_counter()
        for name, rtype, times in (("web.d.test.", "A", 2), ("db.d.test.", "SRV", 3)):
            for _ in range(times):
                api.parts.metrics.dns.busiest.note(query(name, rtype).to_wire(), now)
        found = (await api.call("GET", "/v1/busiest")).body
        assert found["sampled"] == 5
        assert found["seconds"] >= 0
        assert found["names"] == [
            {"name": "db.d.test.", "type": "SRV", "sampled": 3},
            {"name": "web.d.test.", "type": "A", "sampled": 2},
        ]
        assert len((await api.call("GET", "/v1/busiest?limit=1")).body["names"]) == 1
        problem(await api.call("GET", "/v1/busiest?limit=0"), 400, "invalid-field", "limit")
        problem(await api.call("GET", "/v1/busiest?x=1"), 400, "invalid-field", "x")

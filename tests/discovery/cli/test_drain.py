"""drain and undrain against a node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.discovery.cli.conftest import Run
from tests.support.api import running_api

AT, SAFE = "2023-11-14T22:13:20.250Z", "2023-11-14T22:13:26.250Z"


async def test_drain_and_undrain(tmp_path: Path, run: Run) -> None:
    async with running_api(tmp_path) as api:
        url = f"http://{api.host}:{api.port}"

        async def cli(*words: str) -> tuple[int, str, str]:
            return await asyncio.to_thread(run, *words, "--node", url)

        lease = (await api.call("POST", "/v1/leases", {"ttl": 15})).body["id"]
        await api.call("PUT", "/v1/services/web/i1", {"host": "10.0.0.1", "lease": lease})
        name = "i1.web.discovery.internal."
        assert await cli("drain", "web", "i1") == (0, f"drained {name} at {AT}, safe at {SAFE}\n", "")
        assert await cli("undrain", "web", "i1") == (0, f"{name} is in DNS\n", "")
        what = f"1 instances of lease {lease}"
        assert await cli("drain", "--lease", lease) == (0, f"drained {what} at {AT}, safe at {SAFE}\n", "")
        status, out, _ = await cli("undrain", "--lease", lease, "--json")
        assert (status, json.loads(out)["id"]) == (0, lease)
        status, _, err = await cli("drain", "web", "i2")
        assert status == 1
        assert "there is no instance" in err


def test_wrong_usage(run: Run) -> None:
    for words in (("web",), (), ("web", "i1", "--lease", "6a"), ("web", "i1", "--wait", "-1"), ("", "i1")):
        assert run("drain", *words).status == 2

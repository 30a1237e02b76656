"""The client's watch of a real node that is killed and comes back: each change once, and nothing missed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from discovery.client import Client
from tests.support.node import environment, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LONG = 60.0  # seconds that only bound a wait


async def test_a_watch_outlives_its_node(tmp_path: Path) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def watch(client: Client) -> None:
        async with aclosing(client.watch("web", subtree=True)) as events:
            async for event in events:
                told.put_nowait(f"{event.type} {event.instance.instance if event.instance else ''}".strip())

    async def next_of(count: int) -> list[str]:
        return [await asyncio.wait_for(told.get(), LONG) for _ in range(count)]

    with running_node(tmp_path / "store") as node:
        async with Client(node.url) as client:
            await client.register("web", "i1", host="10.0.0.1", lease_ttl=600)
            watching = asyncio.create_task(watch(client))
            assert await next_of(2) == ["put i1", "synced"]
            await client.register("a.web", "i2", host="10.0.0.2", lease_ttl=600)
            assert await next_of(1) == ["put i2"]
            again = [f"http.listen=['127.0.0.1:{node.http_port}']"]
            node.kill()
            with running_node(tmp_path / "store", again) as restarted:
                async with Client(restarted.url) as other:
                    await other.deregister("web", "i1")
                    await other.register("web", "i3", host="10.0.0.3", lease_ttl=600)
                    assert await next_of(2) == ["delete i1", "put i3"]
                    await other.deregister("web", "i3")
                    assert await next_of(1) == ["delete i3"]
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            assert told.empty()


def test_a_program_that_ends_within_its_watch_ends_clean(tmp_path: Path) -> None:
    """The thread of the client's loop has ended before the generator is closed: nothing is waited for then."""
    script = (
        "from discovery.client.sync import Client\n"
        "client = Client()\n"
        "client.__enter__()\n"
        "watch = client.watch('web')\n"
        "print(next(watch).type)\n"
    )
    with running_node(tmp_path / "store") as node:
        ran = subprocess.run(
            [sys.executable, "-c", script],
            env={**environment(), "DISCOVERY_NODE": node.url},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (ran.returncode, ran.stdout) == (0, "synced\n"), ran.stderr
    assert "Traceback" not in ran.stderr

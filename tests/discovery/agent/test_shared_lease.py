"""Many instances on one lease, against the real API whose clock the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.agent.shared_lease import SharedLease
from discovery.client import Client, Fields, NotAllowed
from tests.support.api import Api, running_api, until

LONG = 30.0  # seconds that only bound a wait
LEASE = 3600  # the lease's seconds; it beats when the test says so
HOST: Fields = {"host": "10.0.0.1"}


class Kept:
    def __init__(self, api: Api, lease: SharedLease, client: Client) -> None:
        self.api, self.lease, self.client = api, lease, client

    def want(self, *instances: str, port: int) -> None:
        for instance in instances:
            self.lease.want(("web", instance), {"host": "10.0.0.1", "port": port})

    async def there(self) -> dict[str, int]:
        return {each.instance: each.port for each in await self.client.instances("web")}

    async def settled(self) -> None:
        await asyncio.wait_for(self.lease.registered.wait(), LONG)

    async def beat(self) -> None:
        """The loop does what it does when a heartbeat is due."""
        self.lease._due = 0.0
        before = self.lease._beats
        self.lease._wake.set()
        await until(lambda: self.lease._beats != before or self.lease._lease is None or not before, LONG)


@asynccontextmanager
async def kept(path: Path, ttl: int = LEASE) -> AsyncIterator[Kept]:
    async with running_api(path) as api, Client(f"http://{api.host}:{api.port}") as client:
        lease = SharedLease(client, ttl)
        task = asyncio.create_task(lease.live())
        try:
            yield Kept(api, lease, client)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await lease.end()
        assert await client.services() == {}
        assert await api.leases() == 0


async def test_only_what_differs_is_touched(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.want("i1", "i2", port=80)
        await one.settled()
        assert await one.there() == {"i1": 80, "i2": 80}
        assert await one.api.leases() == 1
        before = await one.client.instance("web", "i1")
        one.want("i2", port=81)
        one.lease.want(("web", "i3"), HOST)
        await one.settled()
        assert await one.there() == {"i1": 80, "i2": 81, "i3": 0}
        assert (await one.client.instance("web", "i1")).revision == before.revision
        one.lease.want(("web", "i2"), None)
        await one.settled()
        assert await one.there() == {"i1": 80, "i3": 0}
        assert one.lease.counts == (2, 2)


async def test_a_lease_that_is_gone_is_made_anew_with_all_of_it(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.want("i1", "i2", port=80)
        await one.settled()
        await one.api.expire(LEASE + 1)
        assert await one.there() == {}
        one.lease.registered.clear()
        await one.beat()
        await one.settled()
        assert await one.there() == {"i1": 80, "i2": 80}
        assert await one.api.leases() == 1


async def test_what_others_took_off_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discovery.agent.shared_lease.LOOK_EVERY", 1)
    async with kept(tmp_path) as one:
        one.want("i1", "i2", port=80)
        await one.settled()
        await one.client.deregister("web", "i1")
        one.lease.registered.clear()
        await one.beat()
        await one.settled()
        assert await one.there() == {"i1": 80, "i2": 80}


async def test_one_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.want("bad", port=70000)
        one.want("good", port=80)
        await until(lambda: one.lease.counts == (1, 2), LONG)
        assert await one.there() == {"good": 80}
        one.want("bad", port=81)
        await one.settled()
        assert await one.there() == {"good": 80, "bad": 81}


async def test_it_leaves_for_good(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.want("i1", port=80)
        await one.settled()
        assert await one.lease.leave() >= 5  # the records' TTL
        assert await one.there() == {}
        one.want("i2", port=80)
        one.lease._wake.set()
        await asyncio.sleep(0.05)
        assert await one.there() == {}


async def test_one_that_is_there_twice_in_other_words_is_there_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with kept(tmp_path) as one:
        one.want("i1", port=80)
        await one.settled()
        one.lease.want(("web.discovery.internal.", "i1"), {"host": "10.0.0.1", "port": 81})
        await one.settled()
        assert "i1 of web.discovery.internal. is i1 of web in other words" in caplog.text
        assert await one.there() == {"i1": 80}
        before = await one.client.instance("web", "i1")
        one.lease.registered.clear()
        await one.beat()
        await one.settled()
        assert (await one.client.instance("web", "i1")).revision == before.revision
        one.lease.want(("web.discovery.internal.", "i1"), None)
        await one.settled()
        assert await one.there() == {"i1": 80}


async def test_one_that_is_named_in_other_words_stays_all_the_time(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.want("i1", port=80)
        await one.settled()
        before = await one.client.instance("web", "i1")
        one.lease.want(("web", "i1"), None)
        one.lease.want(("web.discovery.internal.", "i1"), {"host": "10.0.0.1", "port": 80})
        await one.settled()
        assert (await one.client.instance("web", "i1")).revision == before.revision
        assert one.lease.counts == (1, 1)


async def test_what_another_has_registered_in_its_place_stays(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.want("i1", "i2", port=80)
        await one.settled()
        await one.client.register("web", "i1", host="10.0.0.9", port=99)
        one.lease.want(("web", "i1"), None)
        await one.settled()
        assert await one.there() == {"i1": 99, "i2": 80}
        await one.client.deregister("web", "i1")


async def test_a_refused_deregistration_is_tried_again(tmp_path: Path) -> None:
    """It holds up no other, and what could not be taken out is not forgotten."""
    async with kept(tmp_path) as one:
        one.want("i1", "i2", port=80)
        await one.settled()
        refusing = one.client.deregister

        async def refuse(*_: object, **__: object) -> None:
            raise NotAllowed("the token was revoked", answered=403)

        one.client.deregister = refuse  # type: ignore[method-assign]
        one.lease.want(("web", "i1"), None)
        one.want("i3", port=80)
        await until(lambda: one.lease.counts == (3, 2), LONG)
        assert await one.there() == {"i1": 80, "i2": 80, "i3": 80}
        one.client.deregister = refusing  # type: ignore[method-assign]
        await one.beat()
        await one.settled()
        assert await one.there() == {"i2": 80, "i3": 80}


async def test_nothing_wanted_is_no_lease(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        await one.settled()
        assert await one.api.leases() == 0
        assert await one.lease.leave() == 0

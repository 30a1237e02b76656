"""The client's calls against the real API, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.client import BadCall, Client, Endpoint, NotRegistered
from discovery.errors import ConfigError
from tests.support.api import Api, running_api, until
from tests.support.http_node import HttpNode


@asynccontextmanager
async def called(path: Path) -> AsyncIterator[tuple[Api, Client]]:
    async with running_api(path) as api, Client(f"http://{api.host}:{api.port}") as client:
        yield api, client


async def test_an_instance_from_its_registration_to_its_end(tmp_path: Path) -> None:
    async with called(tmp_path) as (_, client):
        made = await client.register("web.prod", "i1", host="10.0.0.1", port=80, tags=["blue"], lease_ttl=15)
        assert (made.name, made.lease_ttl, made.heartbeat_every) == ("i1.web.prod.discovery.internal.", 15, 5)
        assert await client.instance("web.prod", "i1") == made
        beat = await client.heartbeat("web.prod", "i1")
        assert (beat.lease, beat.heartbeat_every) == (made.lease, 5)
        (listed,) = await client.instances("web.prod")
        assert (listed.instance, listed.expires_at, listed.tags) == ("i1", None, ("blue",))
        assert await client.instances("prod", subtree=True) == [listed]
        assert await client.services("web") == {"web.prod": 1}
        await client.deregister("web.prod", "i1")
        for call in (client.deregister, client.heartbeat, client.instance):
            with pytest.raises(NotRegistered):
                await call("web.prod", "i1")
        assert await client.services() == {}


async def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    async with called(tmp_path) as (_, client):
        with pytest.raises(BadCall) as raised:
            await client.register("web", "i1", host="10.0.0.1", port=65536)
        assert raised.value.field == "port"


async def test_a_lease_that_many_share(tmp_path: Path) -> None:
    async with called(tmp_path) as (api, client):
        lease = await client.grant_lease(15)
        for instance in ("i1", "i2"):
            await client.register("web", instance, host="10.0.0.1", lease=lease.id)
        assert [each.instance for each in await client.lease_instances(lease.id)] == ["i1", "i2"]
        api.clock.advance(10)
        assert (await client.lease_heartbeat(lease.id)).heartbeat_every == 5
        await api.expire(10)
        assert await client.services() == {"web": 2}
        await client.revoke_lease(lease.id)
        assert await client.services() == {}
        with pytest.raises(NotRegistered):
            await client.lease_heartbeat(lease.id)


async def test_services_come_in_pages() -> None:
    with HttpNode() as node:
        async with Client(node.url) as client:
            for service in "abcde":
                await client.register(service, "i1")
            assert list(await client.services()) == list("abcde")


async def test_resolving_over_http(tmp_path: Path) -> None:
    async with called(tmp_path) as (_, client):
        for instance, fields in {
            "i1": {"host": "10.0.0.1", "port": 80, "priority": 2},
            "i2": {"host": "db.example.com", "port": 81, "priority": 1},
            "no-port": {"host": "10.0.0.3"},
            "no-host": {"host": "", "port": 80, "text": "only this"},
        }.items():
            await client.register("web", instance, **fields)  # type: ignore[arg-type]
        assert await client.resolve("web") == [
            Endpoint("db.example.com", 81, 1, 100),
            Endpoint("10.0.0.1", 80, 2, 100, ("10.0.0.1",)),
        ]
        assert await client.resolve("nothing") == []
        with pytest.raises(ConfigError, match="no DNS server is known"):
            await client.resolve("web", over="dns")


async def test_a_cancelled_registration_leaves_nothing_behind(tmp_path: Path) -> None:
    """At every moment at which it can be cancelled: before it is sent, on its way, and when it is stored."""
    async with called(tmp_path) as (api, client):
        for turns in range(40):
            task = asyncio.create_task(client.register("web", f"i{turns}", host="10.0.0.1"))
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.sleep(0.0005 * (turns % 4))
            done = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert done != task.cancelled()
            if done:
                await client.deregister("web", f"i{turns}")
            assert await client.services() == {}
        assert await api.leases() == 0


async def test_a_cancelled_registration_leaves_what_was_there() -> None:
    with HttpNode() as node:
        async with Client(node.url) as client:
            await client.register("web", "i1", port=80)
            task = asyncio.create_task(client.register("web", "i1", port=81))
            await until(lambda: node.count("PUT") == 2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert node.count("DELETE") == 0


async def test_a_cancelled_lease_is_revoked(tmp_path: Path) -> None:
    async with called(tmp_path) as (api, client):
        for turns in range(0, 40, 3):
            task = asyncio.create_task(client.grant_lease(15))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            made = await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                await client.revoke_lease(made[0].id)  # type: ignore[union-attr]
        assert await api.leases() == 0

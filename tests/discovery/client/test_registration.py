"""An instance that stays registered, against real HTTP servers that go away, forget, hang and refuse."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from discovery.client import Checking, Client, NotAllowed, Registration
from discovery.client.registration import instance_id
from tests.discovery.client.test_transport import unused_port
from tests.support.api import until
from tests.support.http_node import HttpNode, problem

LONG = 30.0  # seconds that only bound a wait


async def quiet(before: set[asyncio.Task[object]]) -> None:
    """Nothing runs that did not run before."""
    await until(lambda: asyncio.all_tasks() == before, LONG)


async def test_it_beats_and_registers_again_and_deregisters() -> None:
    before = asyncio.all_tasks()
    with HttpNode(heartbeat_every=0.02) as node:
        async with Client(node.url) as client, Registration("web", "i1", client=client, port=80) as kept:
            assert (await kept.registered(LONG)).name == "i1.web.test."
            await until(lambda: node.count("POST", "/heartbeat") >= 3, LONG)
            assert node.count("PUT") == 1
            node.forget("web", "i1")
            await until(lambda: ("web", "i1") in node.instances, LONG)
            assert node.count("PUT") == 2
        assert node.instances == {}
    await quiet(before)


async def test_it_enters_without_a_node_and_registers_when_there_is_one() -> None:
    node = HttpNode(heartbeat_every=0.02)
    node.port = unused_port()
    async with Client(node.url) as client, Registration("web", "i1", client=client) as kept:
        await until(lambda: kept.error is not None, LONG)
        assert "Connection refused" in str(kept.error)
        with pytest.raises(TimeoutError):
            await kept.registered(0.01)
        with node:
            await kept.registered(LONG)
            assert kept.error is None
            node.stop()
            await until(lambda: kept.error is not None, LONG)
            node.instances.clear()  # what was not renewed has expired meanwhile
            node.start()
            await until(lambda: ("web", "i1") in node.instances, LONG)


async def test_it_goes_on_with_another_node() -> None:
    with HttpNode(heartbeat_every=0.02) as one, HttpNode(heartbeat_every=0.02) as two:
        async with Client([one.url, two.url]) as client, Registration("web", "i1", client=client) as kept:
            await kept.registered(LONG)
            one.stop()
            await until(lambda: two.count("POST") >= 2, LONG)
        assert two.calls[-1] == ("DELETE", "/v1/services/web/i1")


@pytest.mark.slow  # it waits out half a second, twice
async def test_a_hung_node_holds_up_neither_the_heartbeat_nor_the_end() -> None:
    with HttpNode(heartbeat_every=0.02) as node, HttpNode(heartbeat_every=0.02) as other:
        async with Client([node.url, other.url]) as client, Registration("web", "i1", client=client) as kept:
            await kept.registered(LONG)
            node.hangs = True
            await until(lambda: other.count("POST") >= 1, LONG)


async def test_a_no_is_told_to_whoever_waits_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discovery.client.pace.REFUSED", 0.02)
    with HttpNode() as node:
        node.refusals.append(("PUT", problem(403, "the token may not register web")))
        async with Client(node.url) as client, Registration("web", "i1", client=client) as kept:
            with pytest.raises(NotAllowed, match="may not register web"):
                await kept.registered(LONG)
            await until(lambda: kept.error is None, LONG)
            await kept.registered(LONG)
            assert ("web", "i1") in node.instances


async def test_what_was_refused_is_not_deregistered() -> None:
    with HttpNode() as node:
        node.refusals.append(("PUT", problem(403, "the token may not register web")))
        async with Client(node.url) as client, Registration("web", "i1", client=client) as kept:
            assert (await kept.refused()).answered == 403
        assert node.count("DELETE") == 0


async def test_what_is_gone_is_not_registered_until_a_node_has_it_again() -> None:
    with HttpNode(heartbeat_every=0.02) as node:
        async with Client(node.url) as client, Registration("web", "i1", client=client) as kept:
            await kept.registered(LONG)
            refusal = problem(503, "no quorum")
            refusal.headers["Retry-After"] = "60"
            node.refusals.append(("PUT", refusal))
            node.forget("web", "i1")
            await until(lambda: kept.error is not None, LONG)
            registering = asyncio.create_task(kept.registered(LONG))
            await asyncio.sleep(0)
            assert not registering.done()
            await registering
            assert ("web", "i1") in node.instances


async def test_it_stands_back_while_it_is_not_healthy() -> None:
    with HttpNode(heartbeat_every=0.02) as node:
        well = False

        async def check() -> bool:
            return well

        checking = Checking(check, every=0.005, rise=2, fall=2)
        async with (
            Client(node.url) as client,
            Registration("web", "i1", client=client, checking=checking) as kept,
        ):
            await asyncio.sleep(0.05)
            assert node.calls == []
            for _ in range(2):
                well = True
                await until(lambda: ("web", "i1") in node.instances, LONG)
                well = False
                await until(lambda: node.instances == {} and not kept._sent, LONG)
        assert node.count("DELETE") == 2  # none at the end: it was out already


async def test_cancelled_at_any_moment_it_leaves_nothing_behind(rng: random.Random) -> None:
    before = asyncio.all_tasks()
    with HttpNode(heartbeat_every=0.003) as node:
        async with Client(node.url) as client:

            async def program() -> None:
                async with Registration("web", "i1", client=client):
                    await asyncio.Event().wait()

            for _ in range(25):
                task = asyncio.create_task(program())
                await asyncio.sleep(rng.random() * 0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert node.instances == {}
    await quiet(before)


async def test_an_end_that_is_cancelled_still_deregisters() -> None:
    with HttpNode() as node:
        async with Client(node.url) as client:
            kept = Registration("web", "i1", client=client)
            await kept.__aenter__()
            await kept.registered(LONG)
            ending = asyncio.create_task(kept.__aexit__(None, None, None))
            await asyncio.sleep(0)
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending
            assert node.instances == {}


async def test_that_it_could_not_deregister_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with HttpNode() as node:
        async with Client(node.url) as client, Registration("web", "i1", client=client) as kept:
            await kept.registered(LONG)
            node.stop()
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage() == (
        f"could not deregister i1.web.test. (no node answers at {node.url} (Connection refused)): "
        "its lease runs out by itself within 30 s"
    )


def test_the_default_id_is_a_label() -> None:
    assert instance_id(8080).endswith("-8080")
    assert len(instance_id(None)) <= 63


async def test_it_leaves_at_once_and_for_good() -> None:
    with HttpNode(heartbeat_every=0.02) as node:
        async with Client(node.url) as client:
            async with Registration("web", "i1", client=client, ttl=5) as kept:
                await kept.registered(LONG)
                assert await kept.leave() >= 5
                assert node.instances == {}
                calls = len(node.calls)
                kept.healthy = False
                kept.healthy = True
                await asyncio.sleep(0.1)
                assert len(node.calls) == calls
            assert len(node.calls) == calls
            async with Registration("web", "i1", client=client) as never:
                node.stop()
                assert await never.leave() == 0

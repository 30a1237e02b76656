"""The live nodes, over a real store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.kv.contract import Unavailable
from discovery.kv.embedded import EmbeddedStore
from discovery.nodes import PREFIX, TTL, NodeRecord, Nodes
from discovery.view import View
from tests.support.api import until
from tests.support.clock import FakeClock


def record(name: str, *addresses: str) -> NodeRecord:
    return NodeRecord(name, addresses, (), "0.1.0", "2026-01-01T00:00:00.000Z")


def make_view() -> View:
    return View("/skydns", apexes=[], grace_of=lambda path: 0.0)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[EmbeddedStore, FakeClock]]:
    clock = FakeClock()
    store = EmbeddedStore(path, clock=clock)
    await store.start()
    try:
        yield store, clock
    finally:
        await store.close()


async def test_nodes_know_each_other_until_one_stops(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, _):
        one, other = make_view(), make_view()
        first = Nodes(store, one, record("a", "192.0.2.1", "2001:db8::1"))
        second = Nodes(store, other, record("b", "192.0.2.2"))
        first.start()
        second.start()
        both = (
            (b"a", (bytes((192, 0, 2, 1)), b"\x20\x01\x0d\xb8" + bytes(11) + b"\1")),
            (b"b", (bytes((192, 0, 2, 2)),)),
        )
        epoch = one.epoch.version
        await until(lambda: one.nodes == both and other.nodes == both)
        assert one.epoch.version > epoch
        assert [each.name for each in first.others()] == ["b"]
        await second.close()
        await until(lambda: one.nodes == both[:1])
        assert not first.others()
        await first.close()
        assert not (await store.range(PREFIX, b"\xff")).kvs


class Failing(EmbeddedStore):
    """The first put is not taken, as while a leader is elected."""

    refuses = True

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        if self.refuses:
            self.refuses = False
            raise Unavailable("no leader")
        return await super().put(key, value, lease=lease)


async def test_a_node_whose_key_was_not_taken_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discovery.nodes.RETRY", 0.0)
    store = Failing(tmp_path)
    await store.start()
    view = make_view()
    nodes = Nodes(store, view, record("a", "192.0.2.1"))
    nodes.start()
    await until(lambda: [name for name, _ in view.nodes] == [b"a"])
    await nodes.close()
    await store.close()


async def test_a_node_that_says_nothing_is_gone_and_one_that_was_taken_for_gone_is_back(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (store, clock):
        view = make_view()
        dead, alive = (
            Nodes(store, make_view(), record("dead", "192.0.2.1")),
            Nodes(store, view, record("x", "192.0.2.2")),
        )
        dead.start()
        alive.start()
        await until(lambda: len(view.nodes) == 2)
        for task in dead._tasks:  # as if it were killed
            task.cancel()
        clock.advance(TTL + 1)
        await store.expire_due()
        await until(lambda: not view.nodes)  # neither has renewed its lease
        for task in alive._tasks[:1]:
            task.cancel()
        alive._tasks[0] = asyncio.create_task(alive._announce())  # its next beat, at once
        await until(lambda: [name for name, _ in view.nodes] == [b"x"])
        await alive.close()


async def test_two_nodes_of_one_name_are_one_name_server(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, _):
        view = make_view()
        nodes = [Nodes(store, view, record("a", f"192.0.2.{number}")) for number in (1, 2, 2)]
        for each in nodes:
            each.start()
        await until(lambda: len(nodes[0].others()) == 2 and bool(view.nodes) and len(view.nodes[0][1]) == 2)
        assert len(view.nodes) == 1
        for each in nodes:
            await each.close()


async def test_a_key_that_is_no_node_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as (store, _):
        view = make_view()
        await store.put(PREFIX + b"odd", b"{}")
        nodes = Nodes(store, view, record("a", "192.0.2.1"))
        with caplog.at_level(logging.WARNING):
            nodes.start()
            await until(lambda: len(view.nodes) == 1)
        assert "/discovery/nodes/odd" in caplog.text
        await nodes.close()

"""discovery.key_locks: writes of one key take turns; writes of others do not wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from discovery import names
from discovery.key_locks import KeyLocks
from discovery.service import Service
from tests.support.api import running_parts

PATH = names.from_text("i1.web.discovery.internal.")


async def test_turns_are_taken_in_order_and_nothing_stays_behind() -> None:
    locks = KeyLocks()
    seen: list[str] = []

    async def work(key: bytes, name: str, hold: asyncio.Event) -> None:
        async with locks.hold(key):
            seen.append(name)
            await hold.wait()

    gate, free = asyncio.Event(), asyncio.Event()
    free.set()
    first = asyncio.create_task(work(b"a", "first", gate))
    second = asyncio.create_task(work(b"a", "second", free))
    other = asyncio.create_task(work(b"b", "other", free))
    await other
    assert seen == ["first", "other"]
    gate.set()
    await asyncio.gather(first, second)
    assert seen == ["first", "other", "second"]
    with pytest.raises(ValueError):
        async with locks.hold(b"a"):
            raise ValueError
    assert len(locks) == 0


async def test_no_write_of_this_node_loses_a_race_to_another_of_its_own(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        registry = parts.registry
        puts = [registry.register(PATH, Service(host="10.0.0.1", port=port)) for port in range(200)]
        raw = [registry.raw.put(b"/skydns/internal/discovery/raw", b"%d" % n, 30) for n in range(100)]
        done = await asyncio.gather(*puts, *raw, return_exceptions=True)
        assert [each for each in done if isinstance(each, BaseException)] == []
        assert (await parts.store.status()).leases == 2

"""An export that was cut off is refused: its first line counts what follows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.errors import InvalidField
from discovery.kv.embedded import EmbeddedStore
from discovery.transfer import Moved, export_lines, import_items, read_lines


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(path, clock=lambda: 0.0)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def take_in(store: EmbeddedStore, lines: list[bytes]) -> Moved:
    items = read_lines(lines, lease_ttl=300)
    return await import_items(store, items, overwrite=True, progress=lambda done: None)


async def test_a_part_of_an_export_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as store:
        await store.lease_grant(15, 0xABC)
        for number in range(3):
            await store.put(b"/a/%d" % number, b"")
        lines = [line async for line in export_lines(store, store.lease_ids())]
    assert json.loads(lines[0])["keys"] == 3
    async with opened(tmp_path / "two") as store:
        for part in (lines[:-1], lines[:1], [lines[0], *lines[2:]]):
            with pytest.raises(InvalidField, match="the export is not whole"):
                await take_in(store, part)
        assert await take_in(store, lines) == Moved(3, 1)

"""Neither engine starts beside data of the other that it would pass over in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv.moved import KEPT, MOVING, check_not_moved, until_moved
from discovery.kv.sqlite_file import DirectoryLock


async def test_a_member_waits_for_a_move_that_is_under_way(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    lock = DirectoryLock(tmp_path / MOVING)
    waiting = asyncio.create_task(until_moved(tmp_path))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    (tmp_path / "store.db").rename(tmp_path / KEPT)
    lock.release()
    await waiting


async def test_a_member_does_not_start_beside_an_embedded_store(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    with pytest.raises(ConfigError, match=r"store\.db is an embedded store.*discovery cluster init"):
        await until_moved(tmp_path)
    DirectoryLock(tmp_path / MOVING).release()  # what a move that was killed leaves
    with pytest.raises(ConfigError, match=r"store\.db is an embedded store"):
        await until_moved(tmp_path)


async def test_without_an_embedded_store_a_member_starts_at_once(tmp_path: Path) -> None:
    await until_moved(tmp_path)
    await until_moved(tmp_path / "not there")


def test_an_embedded_store_does_not_begin_anew_where_it_was_moved_away(tmp_path: Path) -> None:
    check_not_moved(tmp_path)
    (tmp_path / "etcd").mkdir()
    check_not_moved(tmp_path)  # a member that was there from the beginning
    (tmp_path / "etcd" / "moved.json").touch()
    with pytest.raises(ConfigError, match="was moved into the cluster"):
        check_not_moved(tmp_path)
    (tmp_path / "store.db").touch()  # put back by hand
    check_not_moved(tmp_path)

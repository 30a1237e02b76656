"""Checking, looking and compacting by hand; and files that are really damaged, page by page."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv import offline
from discovery.kv.contract import Corrupt, InvalidRequest, Put
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.sqlite_file import DirectoryLock

PAGE = 4096


async def make_store(path: Path, keys: int = 300) -> None:
    store = EmbeddedStore(path)
    await store.start()
    for first in range(0, keys, 50):
        await store.txn([], [Put(b"/k/%05d" % number, bytes(500)) for number in range(first, first + 50)])
    lease = await store.lease_grant(60)
    await store.put(b"/leased", b"1", lease=lease.id)
    await store.delete(b"/k/00000")
    await store.close()


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "lock"}


async def test_a_sound_store_is_whole_and_the_check_changes_nothing(tmp_path: Path) -> None:
    await make_store(tmp_path)
    before = contents(tmp_path)
    told: list[str] = []
    found = offline.check(tmp_path / "store.db", lambda what, done, total: told.append(what))
    assert (found.keys, found.leases, found.revision, found.changes) == (300, 1, 9, 302)
    assert offline.summary(tmp_path / "store.db") == found
    assert contents(tmp_path) == before


async def test_a_check_after_a_kill_reads_the_log_and_leaves_it(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store")
    await store.start()
    await store.put(b"a", b"1")
    (tmp_path / "killed").mkdir()
    for name in ("store.db", "store.db-wal"):
        (tmp_path / "killed" / name).write_bytes((tmp_path / "store" / name).read_bytes())
    await store.close()
    wal = (tmp_path / "killed" / "store.db-wal").read_bytes()
    assert offline.check(tmp_path / "killed" / "store.db").keys == 1
    assert (tmp_path / "killed" / "store.db-wal").read_bytes() == wal


async def test_every_damaged_page_is_found_or_does_not_matter(tmp_path: Path, rng: random.Random) -> None:
    """Each page of the file in turn is overwritten with noise: the check says so, naming the file."""
    await make_store(tmp_path / "store")
    whole = (tmp_path / "store" / "store.db").read_bytes()
    file = tmp_path / "damaged.db"
    pages = len(whole) // PAGE
    assert pages > 50
    for page in range(pages):
        file.write_bytes(whole[: page * PAGE] + rng.randbytes(PAGE) + whole[(page + 1) * PAGE :])
        with pytest.raises(Corrupt) as refused:
            offline.check(file)
        assert str(file) in refused.value.detail
        assert "discovery store restore" in refused.value.detail
        assert "\n" not in refused.value.detail


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM lease",
        "UPDATE meta SET v = 5 WHERE k = 'revision'",
        "DELETE FROM kv WHERE key = CAST('/k/00007' AS BLOB)",
        "INSERT INTO kv VALUES (CAST('/k/00000' AS BLOB), 1, 1, 1, 0, x'')",
        "UPDATE kv SET mod_rev = 1 WHERE key = CAST('/k/00007' AS BLOB)",
    ],
)
async def test_tables_that_contradict_each_other_are_found(tmp_path: Path, statement: str) -> None:
    await make_store(tmp_path)
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(Corrupt):
        offline.check(tmp_path / "store.db")


async def test_damage_that_is_met_while_running_names_the_file(tmp_path: Path) -> None:
    """After a clean end the file is not read through at the start."""
    await make_store(tmp_path)
    file = tmp_path / "store.db"
    whole = file.read_bytes()
    noise = b"\xa5" * PAGE
    file.write_bytes(whole[: 2 * PAGE] + noise * (len(whole) // PAGE - 2))

    async def look() -> None:
        store = EmbeddedStore(tmp_path)
        await store.start()
        try:
            await store.range(b"", b"\0")
        finally:
            await store.close()

    with pytest.raises(Corrupt, match=str(file)):
        await look()


async def test_compaction_gives_space_back(tmp_path: Path) -> None:
    await make_store(tmp_path, keys=2_000)
    before = offline.summary(tmp_path / "store.db")
    after = offline.compact(tmp_path)
    assert (after.keys, after.leases, after.revision) == (before.keys, before.leases, before.revision)
    assert after.compact_revision == after.revision
    assert after.changes == 1
    assert after.size == (tmp_path / "store.db").stat().st_size < before.size * 0.6
    assert offline.check(tmp_path / "store.db").keys == before.keys


async def test_a_directory_in_use_or_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no store"), offline.store_file(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists()
    with pytest.raises(InvalidRequest, match="does not exist"):
        offline.check(tmp_path / "none.db")
    await make_store(tmp_path)
    lock = DirectoryLock(tmp_path)
    with pytest.raises(ConfigError, match="in use"):
        offline.compact(tmp_path)
    lock.release()

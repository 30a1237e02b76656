"""Snapshots: whole or not there, and nothing is overwritten."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv.contract import Corrupt, InvalidRequest
from discovery.kv.snapshot import BUMP, LATEST, restore_snapshot, write_snapshot
from discovery.kv.sqlite_file import DirectoryLock, close_writer, connect_writer, read_meta


def make_store(directory: Path) -> Path:
    directory.mkdir()
    connection = connect_writer(directory / "store.db")
    connection.execute("UPDATE meta SET v = 7 WHERE k = 'revision'")
    connection.execute("INSERT INTO kv VALUES (x'61', 7, 7, 1, 0, zeroblob(100000))")
    close_writer(connection)
    return directory / "store.db"


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_snapshot_is_one_file_that_will_be_checked(tmp_path: Path) -> None:
    file = make_store(tmp_path / "store")
    assert write_snapshot(file, tmp_path / "copy") == 7
    assert names(tmp_path) == {"store", "copy"}
    copy = sqlite3.connect(tmp_path / "copy")
    assert read_meta(copy, "clean") == 0
    assert copy.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    copy.close()


def test_a_snapshot_that_fails_leaves_nothing(tmp_path: Path) -> None:
    file = make_store(tmp_path / "store")
    with file.open("r+b") as opened:
        opened.write(b"\0" * 100)
    with pytest.raises(Corrupt):
        write_snapshot(file, tmp_path / "copy")
    with pytest.raises(InvalidRequest, match="cannot be written"):
        write_snapshot(file, tmp_path / "none" / "copy")
    assert names(tmp_path) == {"store"}


def test_a_restore_refuses_what_it_would_overwrite(tmp_path: Path) -> None:
    file = make_store(tmp_path / "store")
    write_snapshot(file, tmp_path / "copy")
    before = file.read_bytes()
    with pytest.raises(InvalidRequest, match=r"holds store\.db of a store already"):
        restore_snapshot(tmp_path / "copy", tmp_path / "store")
    assert file.read_bytes() == before
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "store.db-wal").write_bytes(b"x")
    with pytest.raises(InvalidRequest, match=r"store\.db-wal"):
        restore_snapshot(tmp_path / "copy", tmp_path / "new")


def test_a_restore_refuses_a_directory_in_use_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    write_snapshot(make_store(tmp_path / "store"), tmp_path / "copy")
    lock = DirectoryLock(tmp_path / "new")
    with pytest.raises(ConfigError, match="in use"):
        restore_snapshot(tmp_path / "copy", tmp_path / "new")
    lock.release()
    with pytest.raises(InvalidRequest, match="does not exist"):
        restore_snapshot(tmp_path / "nothing", tmp_path / "new")
    assert restore_snapshot(tmp_path / "copy", tmp_path / "new", clock=lambda: 0.0) == 7 + BUMP


def test_a_store_restored_again_begins_above_all_that_the_first_could_reach(tmp_path: Path) -> None:
    write_snapshot(make_store(tmp_path / "store"), tmp_path / "copy")
    begins = [
        restore_snapshot(tmp_path / "copy", tmp_path / f"{now}", clock=partial(float, now))
        for now in (1.8e9, 1.8e9 + 60, 1e11)
    ]
    assert begins == [1_800_000_000_000_000, 1_800_000_060_000_000, LATEST]


def test_a_file_with_a_write_ahead_log_is_no_snapshot(tmp_path: Path) -> None:
    write_snapshot(make_store(tmp_path / "store"), tmp_path / "copy")
    wal = tmp_path / "copy-wal"
    wal.write_bytes(b"x")
    with pytest.raises(InvalidRequest, match=r"copy-wal holds changes that .*copy lacks"):
        restore_snapshot(tmp_path / "copy", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    wal.write_bytes(b"")
    restore_snapshot(tmp_path / "copy", tmp_path / "new")


def test_a_damaged_snapshot_is_not_restored(tmp_path: Path) -> None:
    write_snapshot(make_store(tmp_path / "store"), tmp_path / "copy")
    for damage in (b"\xa5" * 60_000, b"not a database at all" * 10, b""):
        whole = (tmp_path / "copy").read_bytes()
        bad = tmp_path / "bad"
        bad.write_bytes(whole[:20_000] + damage if len(damage) > 1_000 else damage)
        with pytest.raises(Corrupt):
            restore_snapshot(bad, tmp_path / "new")
        assert names(tmp_path / "new") == {"lock"}

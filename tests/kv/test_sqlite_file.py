"""The data directory: its lock, the checks at the open, and SQLite's errors in our words."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv.contract import Corrupt, NoSpace, Unavailable
from discovery.kv.sqlite_file import (
    DirectoryLock,
    close_writer,
    connect_reader,
    connect_writer,
    read_meta,
    translate,
)

HOLD = """
import sys
from pathlib import Path
from discovery.kv.sqlite_file import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_in_one_line_and_its_death_frees_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "store"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError) as refused:
            DirectoryLock(path)
        child.kill()
    assert refused.value.detail == (
        f"the data directory {path} is in use by another process (pid {child.pid}): "
        "stop that process, or set another store.path"
    )
    lock = DirectoryLock(path)
    lock.release()
    lock.release()


def test_a_directory_that_cannot_be_used_is_a_setting_s_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"{path} cannot be used"):
            DirectoryLock(path)


def test_a_directory_of_another_user_is_a_setting_s_fault(tmp_path: Path) -> None:
    """In a child that gives up root's rights, so that the test holds for root too."""
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    path.chmod(0o000)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65_534)
        try:
            DirectoryLock(path)
            os.write(write, b"opened")
        except ConfigError as refused:
            os.write(write, refused.detail.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as said:
        assert "cannot be used (Permission denied)" in said.read()
    path.chmod(0o700)


def test_a_clean_end_leaves_one_file_and_an_unclean_one_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    first = connect_writer(file)
    assert read_meta(first, "clean") == 0
    close_writer(first)
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]
    looked = sqlite3.connect(file)
    assert read_meta(looked, "clean") == 1
    looked.close()
    again = connect_writer(file)
    assert read_meta(again, "clean") == 0
    again.close()


def fill(file: Path, *, clean: bool) -> None:
    connection = connect_writer(file)
    rows = ((b"%05d" % n, bytes(200)) for n in range(5_000))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO kv VALUES (?, 1, 1, 1, 0, ?)", rows)
    connection.execute("COMMIT")
    if clean:
        close_writer(connection)
    else:
        connection.close()


def overwrite(offset: int, size: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        with file.open("r+b") as opened:
            opened.seek(offset)
            opened.write(b"\xa5" * size)

    return damage


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def other_tables(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE other (x)")
    connection.close()


@pytest.mark.parametrize("damage", [overwrite(0, 4_096), overwrite(200_000, 200_000), truncate, other_tables])
def test_a_damaged_file_is_corrupt_with_its_name_and_the_way_out(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "store.db"
    fill(file, clean=False)
    damage(file)
    with pytest.raises(Corrupt) as refused:
        connect_writer(file)
    assert str(file) in refused.value.detail
    assert f"put a snapshot into {tmp_path} with `discovery store restore`" in refused.value.detail
    assert "\n" not in refused.value.detail


def test_a_whole_file_is_opened_after_an_unclean_end(tmp_path: Path) -> None:
    fill(tmp_path / "store.db", clean=False)
    connection = connect_writer(tmp_path / "store.db")
    assert connection.execute("SELECT count(*) FROM kv").fetchone()[0] == 5_000
    close_writer(connection)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    connection = connect_writer(file)
    connection.execute("UPDATE meta SET v = 99 WHERE k = 'schema'")
    close_writer(connection)
    with pytest.raises(ConfigError, match="schema version 99, and this program knows 2"):
        connect_writer(file)


def test_the_read_connection_can_t_write(tmp_path: Path) -> None:
    writer = connect_writer(tmp_path / "store.db")
    reader = connect_reader(tmp_path / "store.db")
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM kv")
    assert reader.execute("PRAGMA wal_autocheckpoint").fetchone()[0] == 0
    reader.close()
    close_writer(writer)


def test_writes_are_synced_at_each_commit(tmp_path: Path) -> None:
    writer = connect_writer(tmp_path / "store.db")
    assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert writer.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    close_writer(writer)


def test_keys_of_a_lease_are_found_by_the_index(tmp_path: Path) -> None:
    writer = connect_writer(tmp_path / "store.db")
    plan = writer.execute(
        "EXPLAIN QUERY PLAN SELECT key FROM kv WHERE lease = ? AND lease <> 0", (1,)
    ).fetchall()
    assert "kv_lease" in plan[0][3]
    close_writer(writer)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, NoSpace),
        (sqlite3.SQLITE_CORRUPT, Corrupt),
        (sqlite3.SQLITE_NOTADB, Corrupt),
        (sqlite3.SQLITE_IOERR_WRITE, Unavailable),
        (sqlite3.SQLITE_BUSY, Unavailable),
    ],
)
def test_sqlite_s_errors_become_ours(code: int, kind: type[Exception]) -> None:
    error = sqlite3.OperationalError("what it says")
    error.sqlite_errorcode = code
    assert type(translate(error, Path("/data/store.db"))) is kind
    assert "/data/store.db" in translate(error, Path("/data/store.db")).detail
    assert isinstance(translate(sqlite3.ProgrammingError("closed"), Path("x")), Unavailable)
    assert isinstance(translate(OSError(28, "no space"), Path("x")), NoSpace)


@pytest.mark.parametrize("left", [None, b""])
def test_a_log_without_its_file_is_no_new_store(tmp_path: Path, left: bytes | None) -> None:
    file, wal = tmp_path / "store.db", tmp_path / "store.db-wal"
    connection = connect_writer(file)
    log = wal.read_bytes()
    connection.close()
    assert log
    file.unlink()
    wal.write_bytes(log)
    if left is not None:
        file.write_bytes(left)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(
        Corrupt, match=r"store\.db is corrupt .it is missing or empty while .*store\.db-wal is not"
    ):
        connect_writer(file)
    assert {path.name for path in tmp_path.iterdir()} == before
    assert wal.read_bytes() == log


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be locked .No locks available."):
        DirectoryLock(tmp_path)


def test_a_directory_that_is_open_to_others_is_closed_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    DirectoryLock(tmp_path).release()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert "was open to others (0755)" in caplog.text
    caplog.clear()
    DirectoryLock(tmp_path).release()
    assert not caplog.text

    def not_mine(path: Path, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    tmp_path.chmod(0o750)
    monkeypatch.setattr(Path, "chmod", not_mine)
    DirectoryLock(tmp_path).release()
    assert "is open to others (0750) and cannot be closed to them (Operation not permitted)" in caplog.text

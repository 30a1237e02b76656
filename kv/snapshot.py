"""Copies of the embedded store: taken while it runs, put back where there is none.

Owns the snapshot file: one SQLite file without a WAL, whole and synced, or not there at all. It never
overwrites anything. How: SQLite's backup API copies from a read transaction into a file beside the target,
which takes the target's name only when it is complete. A restored store begins, without history, at a revision far
above any that a store of this snapshot can have reached: the time in microseconds, for no store commits a million
revisions a second. So no watcher takes an old revision for a new one, however often the same snapshot is restored.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from discovery.errors import StoreError
from discovery.kv import schema
from discovery.kv.contract import Corrupt, InvalidRequest, Unavailable
from discovery.kv.sqlite_file import (
    FILE_NAME,
    DirectoryLock,
    connect_reader,
    damage,
    read_meta,
    schema_version,
    sync_directory,
    translate,
)

BUMP = 1_000_000_000
"""Revisions that a restored store is ahead of its snapshot at least, even if the clock is wrong."""

LATEST = 1 << 52
"""A clock beyond this (the year 2112) does not count: revisions stay below 2^53, where JSON readers lose digits."""

SENT_PREFIX, SENT_NAME = "snapshot-", "snapshot"
"""The folder that a snapshot to be sent is made in, beside the store, and its name there."""

PIECE = 4 << 20  # bytes copied between two reports of progress

Progress = Callable[[str, int, int], None]
"""Told what is done now, how much of it (bytes), and of how much (0: unknown)."""


def no_progress(what: str, done: int, total: int) -> None:
    pass


def write_snapshot(file: Path, target: Path) -> int:
    """Copies the store in `file` to the new file `target`; the revision it holds. Blocks: call it in a thread.

    Raises InvalidRequest (the target exists or can't be made), NoSpace, Unavailable, Corrupt.
    """
    try:
        os.close(
            os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        )  # the name is ours
    except FileExistsError as error:
        raise InvalidRequest(
            f"{target} exists already, and is not overwritten: choose another name"
        ) from error
    except OSError as error:
        raise InvalidRequest(
            f"{target} cannot be written ({error.strerror}): choose another place"
        ) from error
    try:
        return _fill(target, lambda partial: _copy(file, partial))
    except StoreError:
        target.unlink(missing_ok=True)
        raise


def remove_left_over(directory: Path) -> None:
    """Snapshots that a node that was killed was about to send, in folders of its own. The directory is locked."""
    for folder in directory.glob(f"{SENT_PREFIX}*"):
        if folder.is_dir() and not folder.is_symlink():
            with suppress(OSError):  # it holds something else: not ours
                for name in (SENT_NAME, f"{SENT_NAME}.partial", f"{SENT_NAME}.partial-journal"):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()


def restore_snapshot(
    snapshot: Path,
    directory: Path,
    progress: Progress = no_progress,
    *,
    clock: Callable[[], float] = time.time,
) -> int:
    """Puts `snapshot` into the data directory of a node that is not running; the revision it begins at. Blocks.

    `clock`: the Unix time in seconds.
    Raises InvalidRequest (no such file, one with a write-ahead log, or the directory has a store already), Corrupt,
    NoSpace, Unavailable, ConfigError (the directory is in use, or can't be used).
    """
    if not snapshot.is_file():
        raise InvalidRequest(
            f"the snapshot {snapshot} does not exist: name a file that a snapshot was written to"
        )
    wal = snapshot.with_name(snapshot.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        raise InvalidRequest(
            f"{wal} holds changes that {snapshot} lacks, so that file is no snapshot but a store's: start a node on "
            "the two and take a snapshot with `discovery store snapshot`"
        )
    lock = DirectoryLock(directory)
    try:
        for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
            if (directory / name).exists():
                raise InvalidRequest(f"{directory} holds {name} of a store already: move it away first")
        least = min(int(clock() * 1_000_000), LATEST)
        return _fill(directory / FILE_NAME, lambda partial: _copy_checked(snapshot, partial, progress, least))
    finally:
        lock.release()


def _fill(target: Path, copy: Callable[[Path], int]) -> int:
    """`copy` fills a private file beside `target`, which takes its name when all of it is on disk."""
    partial = target.with_name(target.name + ".partial")
    try:
        for left in (partial, partial.with_name(partial.name + "-journal")):  # of one that was killed
            left.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        revision = copy(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
        sync_directory(target.parent)
    except StoreError:
        partial.unlink(missing_ok=True)
        raise
    except (sqlite3.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        raise translate(error, partial) from error
    return revision


def _copy(file: Path, partial: Path) -> int:
    source = connect_reader(file)
    try:
        copy = sqlite3.connect(partial, isolation_level=None)
        try:
            source.execute("BEGIN")
            revision = read_meta(source, "revision")
            source.backup(copy)  # in one step: one state of the store, while writes go on
            source.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
            copy.execute("UPDATE meta SET v = 0 WHERE k = 'clean'")
            if read_meta(copy, "revision") != revision:
                raise Unavailable(
                    f"the copy {partial} is not of revision {revision}: take the snapshot again"
                )
        finally:
            copy.close()
    finally:
        source.close()
    return revision


def _copy_checked(snapshot: Path, partial: Path, progress: Progress, least: int) -> int:
    _copy_bytes(snapshot, partial, progress)
    connection = sqlite3.connect(partial, isolation_level=None)
    try:
        connection.set_progress_handler(lambda: progress("checking", 0, 0), 1_000_000)
        if found := damage(connection):
            raise Corrupt(f"the snapshot {snapshot} is damaged ({found}): restore another one")
        version = schema_version(connection, snapshot)
        connection.execute("PRAGMA journal_mode = OFF").fetchone()  # when it fails, the copy is thrown away
        if version < schema.SCHEMA_VERSION:
            schema.migrate(connection, version)
        revision = max(read_meta(connection, "revision") + BUMP, least)
        connection.execute("BEGIN")
        connection.execute("DELETE FROM log")
        connection.execute("UPDATE lease SET remaining = NULL")
        connection.execute("UPDATE meta SET v = ? WHERE k IN ('revision', 'compact')", (revision,))
        connection.execute("UPDATE meta SET v = 0 WHERE k = 'clean'")
        connection.execute("COMMIT")
        return revision
    finally:
        connection.close()


def _copy_bytes(source: Path, target: Path, progress: Progress) -> None:
    total, done = source.stat().st_size, 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while piece := reading.read(PIECE):
            writing.write(piece)
            done += len(piece)
            progress("copying", done, total)

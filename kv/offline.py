"""A store that no node has open: checked, looked at, made smaller.

Owns what an operator does with a data directory or a snapshot by hand. Every call blocks. A check and a look
change nothing, not even the write-ahead log; compaction drops the history and gives free pages back to the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from discovery.kv.contract import InvalidRequest
from discovery.kv.snapshot import Progress, no_progress
from discovery.kv.sqlite_file import (
    FILE_NAME,
    DirectoryLock,
    close_writer,
    connect_writer,
    corrupt,
    damage,
    read_meta,
    schema_version,
    translate,
)

STEPS = 1_000_000  # of SQLite's machine between two reports of progress: some milliseconds

# What must hold between the tables: a sentence, and the number of rows that break it.
RULES = (
    (
        "keys hang on leases that do not exist",
        "SELECT count(*) FROM kv WHERE lease <> 0 AND NOT EXISTS (SELECT 1 FROM lease WHERE id = kv.lease)",
    ),
    (
        "keys or changes are of a revision that the store has not reached",
        "SELECT (SELECT count(*) FROM kv WHERE mod_rev > r.v) + (SELECT count(*) FROM log WHERE rev > r.v) "
        "FROM meta AS r WHERE r.k = 'revision'",
    ),
    (
        "keys are not as their last change left them",
        "SELECT count(*) FROM (SELECT key, max(rev) AS rev, value IS NULL AS gone FROM log GROUP BY key) AS last "
        "LEFT JOIN kv ON kv.key = last.key WHERE CASE WHEN last.gone THEN kv.key IS NOT NULL "
        "ELSE kv.mod_rev IS NOT last.rev END",
    ),
)


class Summary(msgspec.Struct, frozen=True):
    """`changes`: rows of history; `size` in bytes, `free` those of them that compaction would give back at least."""

    revision: int
    compact_revision: int
    schema: int
    keys: int
    leases: int
    changes: int
    size: int
    free: int


@contextmanager
def store_file(directory: Path) -> Iterator[Path]:
    """The store's file in a data directory that nobody else uses meanwhile. Raises InvalidRequest, ConfigError."""
    file = directory / FILE_NAME
    if not file.is_file():
        raise InvalidRequest(f"{directory} holds no store: name the folder that store.path names (--path)")
    lock = DirectoryLock(directory)
    try:
        yield file
    finally:
        lock.release()


def summary(file: Path) -> Summary:
    """What a store or a snapshot holds. Raises Corrupt, ConfigError (a newer version's)."""
    with _reading(file) as connection:
        return _summary(connection, file)


def check(file: Path, progress: Progress = no_progress) -> Summary:
    """Reads all of a store or a snapshot: SQLite's structure and ours. Raises Corrupt, ConfigError."""
    with _reading(file) as connection:
        connection.set_progress_handler(lambda: progress("checking", 0, 0), STEPS)
        if found := damage(connection, whole=True):
            raise corrupt(file, found)
        found_summary = _summary(connection, file)
        for sentence, query in RULES:
            count = connection.execute(query).fetchone()[0]
            if count:
                raise corrupt(file, f"{count} {sentence}")
        return found_summary


def compact(directory: Path, progress: Progress = no_progress) -> Summary:
    """Drops all history and gives free pages back to the disk. Raises what opening a store raises, and NoSpace."""
    with store_file(directory) as file:
        connection = connect_writer(file)
        try:
            connection.set_progress_handler(lambda: progress("compacting", 0, 0), STEPS)
            connection.execute("BEGIN IMMEDIATE")
            revision = read_meta(connection, "revision")
            connection.execute("UPDATE meta SET v = ? WHERE k = 'compact'", (revision,))
            connection.execute("DELETE FROM log WHERE rev < ?", (revision,))
            connection.execute("COMMIT")
            connection.execute("PRAGMA temp_store = DEFAULT")  # VACUUM builds a whole copy: not in memory
            connection.execute("VACUUM")
            found = _summary(connection, file)
        except sqlite3.Error as error:
            raise translate(error, file) from error
        finally:
            close_writer(connection)
        return msgspec.structs.replace(found, size=file.stat().st_size)


def _summary(connection: sqlite3.Connection, file: Path) -> Summary:
    version = schema_version(connection, file)
    counts = (f"(SELECT count(*) FROM {table})" for table in ("kv", "lease", "log"))  # noqa: S608 (our tables)
    keys, leases, changes = connection.execute(f"SELECT {', '.join(counts)}").fetchone()
    names = ("page_size", "freelist_count")
    page_size, free = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    wal = file.with_name(file.name + "-wal")
    return Summary(
        revision=read_meta(connection, "revision"),
        compact_revision=read_meta(connection, "compact"),
        schema=version,
        keys=keys,
        leases=leases,
        changes=changes,
        size=sum(path.stat().st_size for path in (file, wal) if path.exists()),
        free=free * page_size,
    )


@contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    if not file.is_file():
        raise InvalidRequest(f"{file} does not exist: name a store's file or a snapshot")
    try:
        # mode=ro: closing an ordinary connection would fold the write-ahead log into a file that may be damaged;
        # immutable: without a log even such a connection would leave an empty one behind
        wal = file.with_name(file.name + "-wal")
        how = "mode=ro" if wal.exists() else "immutable=1"
        connection = sqlite3.connect(f"file:{quote(str(file))}?{how}", uri=True, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translate(error, file) from error

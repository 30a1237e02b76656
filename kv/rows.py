"""Reading the tables: ranges, history, the keys of a lease.

Owns the SELECTs; `ReadView` is what one read transaction shows, at one revision; `Reader` is the work of the
lane that makes such views. It never writes.
How: history is read in pages of whole revisions, so that a watch from far back holds one page in memory.
The history left over by a running compaction is below `compact_revision` and is never shown.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from discovery.errors import StoreError
from discovery.kv.bulk import by_size, chunks, run
from discovery.kv.contract import KV, Compacted, Event, RangeResult, Unavailable, WatchBatch, prefix_end
from discovery.kv.lane import Answers, Job
from discovery.kv.sqlite_file import read_meta, translate

HISTORY_ROWS = 1_000
"""A page of history ends with the first revision that brings it to this many events."""

HISTORY_REVISIONS = 5_000
"""A page of history looks at this many revisions at most: about 5 ms, while other reads wait."""

MAX_LIMIT = (1 << 62) - 1

# One row for all groups: of each its place in the list, and its keys with their leases. Of a group with more than
# 10,000 keys, these stand for all.
GROUPS = by_size(
    "WITH wanted(place, start, stop) AS (VALUES ",
    "(?, ?, ?)",
    ") SELECT json_group_array(json_array(place, ("
    "SELECT group_concat(hex(key) || ' ' || lease) FROM ("
    "SELECT key, lease FROM kv WHERE key >= start AND key < stop ORDER BY key "
    "LIMIT 10000)))) FROM wanted WHERE place IS NOT NULL",
)

# The keys of leases, given as a JSON list of ids. `lease <> 0` is what lets SQLite use the partial index.
LEASE_KEYS = "FROM kv WHERE lease IN (SELECT value FROM json_each(?)) AND lease <> 0"


def where_range(key: bytes, end: bytes) -> tuple[str, tuple[bytes, ...]]:
    """The SQL condition, and its parameters, of the keys in `[key, end)`."""
    if not end:
        return "key = ?", (key,)
    if end == b"\0":
        return "key >= ?", (key,)
    return "key >= ? AND key < ?", (key, end)


def select_range(
    connection: sqlite3.Connection, revision: int, key: bytes, end: bytes, limit: int, keys_only: bool = False
) -> RangeResult:
    condition, parameters = where_range(key, end)
    value = "x''" if keys_only else "value"
    rows = connection.execute(
        # S608: the condition is one of three constants
        f"SELECT key, {value}, create_rev, mod_rev, version, lease FROM kv WHERE {condition} "  # noqa: S608
        "ORDER BY key LIMIT ?",
        (*parameters, min(limit, MAX_LIMIT) + 1 if limit else -1),
    ).fetchall()
    more = 0 < limit < len(rows)
    if more:
        rows.pop()
    return RangeResult(revision, [KV(*row) for row in rows], more)


def deleted(key: bytes, revision: int) -> Event:
    return Event(KV(key, b"", 0, revision, 0, 0), True)


class ReadView:
    """The store as one read transaction sees it, with its own connection; valid until that transaction ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.revision = read_meta(connection, "revision")

    def range(self, key: bytes, end: bytes, limit: int, keys_only: bool) -> RangeResult:
        return select_range(self.connection, self.revision, key, end, limit, keys_only)

    def lease_keys(self, lease_id: int) -> list[bytes]:
        """In byte order."""
        found = self.connection.execute(f"SELECT key {LEASE_KEYS} ORDER BY key", (f"[{lease_id}]",))
        return [row[0] for row in found]

    def groups(self, lease_ids: Sequence[int], group_of: Callable[[bytes], bytes]) -> dict[bytes, list[int]]:
        """The groups that these leases have keys in, and the lease of each key of each group."""
        keys = f"SELECT group_concat(hex(key), ' ') {LEASE_KEYS}"
        found = self.connection.execute(keys, (json.dumps(lease_ids),)).fetchone()[0]
        names = {group_of(bytes.fromhex(key)) for key in found.split(" ")} if found else set()
        groups: dict[bytes, list[int]] = {name: [] for name in names if name}
        for chunk in chunks(sorted(groups)):
            wanted = [(place, name, prefix_end(name)) for place, name in enumerate(chunk)]
            for place, members in json.loads(run(self.connection, GROUPS, wanted).fetchone()[0]):
                for member in members.split(",") if members else ():
                    key, lease = member.split(" ")
                    if group_of(bytes.fromhex(key)) == chunk[place]:
                        groups[chunk[place]].append(int(lease))
        return groups

    def pages(self) -> tuple[int, int, int]:
        """(bytes a page, pages in the file, pages free in it)"""
        names = ("page_size", "page_count", "freelist_count")
        size, count, free = (int(self.connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
        return size, count, free

    def history(self, key: bytes, end: bytes, start: int, stop: int) -> tuple[Sequence[WatchBatch], int]:
        """A page of the batches of `[key, end)` in revisions `[start, stop)`, and the revision to go on with.

        Raises Compacted when `start` is no longer kept.
        """
        compact_revision = read_meta(self.connection, "compact")
        if start < compact_revision:
            raise Compacted(compact_revision)
        stop = min(stop, start + HISTORY_REVISIONS)
        condition, parameters = where_range(key, end)
        rows = self.connection.execute(
            # S608: the condition is one of three constants
            "SELECT rev, key, create_rev, version, lease, value FROM log "  # noqa: S608
            f"WHERE rev >= ? AND rev < ? AND {condition} ORDER BY rev, sub",
            (start, stop, *parameters),
        )
        batches: list[WatchBatch] = []
        events: list[Event] = []
        current = 0
        for count, (rev, at, create_rev, version, lease, value) in enumerate(rows):
            if rev != current:
                if events:
                    batches.append(WatchBatch(current, events))
                    if count >= HISTORY_ROWS:
                        rows.close()
                        return batches, rev
                    events = []
                current = rev
            put = value is not None
            events.append(Event(KV(at, value, create_rev, rev, version, lease)) if put else deleted(at, rev))
        if events:
            batches.append(WatchBatch(current, events))
        return batches, stop


class Reader:
    """The read connection. `run` is the work of its Lane: a group of reads is one read transaction."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self._file = file

    def run(self, jobs: Sequence[Job[ReadView]]) -> Answers:
        try:
            self._connection.execute("BEGIN")
        except Exception as error:  # whatever it is, the thread lives on and every caller gets an answer
            return self._failed(error, jobs)
        try:
            view = ReadView(self._connection)
            return Answers([self._read(view, job) for job in jobs])
        except Exception as error:
            return self._failed(error, jobs)
        finally:
            if self._connection.in_transaction:  # some errors end it by themselves
                self._connection.execute("ROLLBACK")  # nothing was written; this can't fail

    def _read(self, view: ReadView, job: Job[ReadView]) -> object:
        try:
            return job(view)
        except StoreError as refused:
            return refused
        except Exception as error:
            return self._translate(error)

    def _failed(self, error: Exception, jobs: Sequence[Job[ReadView]]) -> Answers:
        return Answers([self._translate(error) for _ in jobs])

    def _translate(self, error: Exception) -> StoreError:
        if isinstance(error, sqlite3.Error):
            failure = translate(error, self._file)
        else:
            failure = Unavailable(f"the store failed on a read: {error!r}; please report this")
        failure.__cause__ = error
        return failure

"""Writing the tables: many callers' writes as one durable transaction.

Owns the SQL of every change. `WriteGroup` is one SQLite transaction; each job in it is one transaction of the
contract, with a revision of its own. It knows no event loop. How: a job checks everything before its first
change, so one that is refused leaves nothing behind and the others in its group go on. The log rows of a group
are written together at its end. When SQLite fails, all of the group fails and the revision goes back.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from discovery.errors import StoreError
from discovery.kv.contract import (
    KV,
    MAX_LEASE_ID,
    Compacted,
    Compare,
    Delete,
    DeleteResult,
    Event,
    FutureRevision,
    Lease,
    LeaseExists,
    LeaseNotFound,
    Op,
    Put,
    PutResult,
    RangeResult,
    Target,
    TxnResult,
    Unavailable,
    WatchBatch,
)
from discovery.kv.lane import Answers, Job
from discovery.kv.rows import deleted, select_lease_keys, select_range, where_range
from discovery.kv.sqlite_file import read_meta, translate

TRIM_ROWS = 1_000
"""Log rows one transaction of a compaction deletes."""

WAL_BYTES = 64 << 20
"""A write-ahead log that grew this big, because readers were always on, is folded in by force."""

COMPARED = {
    Target.VERSION: "SELECT version FROM kv WHERE key = ?",
    Target.CREATE: "SELECT create_rev FROM kv WHERE key = ?",
    Target.MOD: "SELECT mod_rev FROM kv WHERE key = ?",
    Target.LEASE: "SELECT lease FROM kv WHERE key = ?",
    Target.VALUE: "SELECT value FROM kv WHERE key = ?",
}

LogRow = tuple[int, int, bytes, int, int, int, bytes | None]
LOG_ROWS = 64  # rows in one INSERT: a statement a row would cost twice the time
INSERT_ONE = "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)"
INSERT_MANY = INSERT_ONE + ", (?, ?, ?, ?, ?, ?, ?)" * (LOG_ROWS - 1)


class WriteGroup:
    """One open SQLite transaction. After COMMIT its `batches` and `leases` are told to the loop."""

    def __init__(self, connection: sqlite3.Connection, revision: int, compact_revision: int) -> None:
        self.connection = connection
        self.revision = revision
        self.compact_revision = compact_revision
        self.batches: list[WatchBatch] = []
        self.leases: list[Lease] = []  # granted, or ended (a TTL of 0), in this order
        self._events: list[Event] = []  # of the job at work
        self._log: list[LogRow] = []

    def run(self, job: Job[WriteGroup]) -> object:
        """The job's result, or the StoreError that refused it. What it changed becomes one revision."""
        try:
            result = job(self)
        except StoreError as refused:
            if self._events:
                raise AssertionError("a write was refused after it had changed something") from refused
            return refused
        if self._events:
            self.revision += 1
            self.batches.append(WatchBatch(self.revision, self._events))
            self._events = []
        return result

    def finish(self, first_revision: int) -> None:
        """Writes what was gathered: the log and the revision."""
        rows, execute = self._log, self.connection.execute
        whole = len(rows) - len(rows) % LOG_ROWS
        for start in range(0, whole, LOG_ROWS):
            execute(INSERT_MANY, [field for row in rows[start : start + LOG_ROWS] for field in row])
        for row in rows[whole:]:
            execute(INSERT_ONE, row)
        if self.revision != first_revision:
            execute("UPDATE meta SET v = ? WHERE k = 'revision'", (self.revision,))

    # ---- jobs: each is one transaction of the contract

    def put(self, key: bytes, value: bytes, lease: int) -> int:
        self._need_lease(lease)
        self._put(key, value, lease)
        return self.revision + 1

    def delete(self, key: bytes, end: bytes) -> tuple[int, int]:
        count = self._delete(key, end)
        return self._revision_now(), count

    def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], grant_ttl: int
    ) -> TxnResult:
        succeeded = all(self._holds(compare) for compare in when)
        branch = then if succeeded else otherwise
        puts = [op for op in branch if isinstance(op, Put)]
        lease: Lease | None = None
        if grant_ttl and puts:
            lease = self._grant(grant_ttl, 0)
        else:
            for put in puts:
                self._need_lease(put.lease)
        responses: list[PutResult | DeleteResult | RangeResult] = []
        for op in branch:
            if isinstance(op, Put):
                self._put(op.key, op.value, lease.id if lease else op.lease)
                responses.append(PutResult())
            elif isinstance(op, Delete):
                responses.append(DeleteResult(self._delete(op.key, op.end)))
            else:
                revision = self._revision_now()
                responses.append(select_range(self.connection, revision, op.key, op.end, op.limit))
        return TxnResult(self._revision_now(), succeeded, responses, lease)

    def grant(self, ttl: int, lease_id: int) -> Lease:
        return self._grant(ttl, lease_id)

    def revoke(self, lease_id: int) -> None:
        if not lease_id:
            raise _no_lease(lease_id)
        self._need_lease(lease_id)
        self.expire([lease_id])

    def expire(self, lease_ids: Sequence[int]) -> None:
        """Ends all of them in one revision, their keys deleted in byte order; those already gone don't matter."""
        keys: list[bytes] = []
        for lease_id in lease_ids:
            keys += select_lease_keys(self.connection, lease_id)
            self.connection.execute("DELETE FROM kv WHERE lease = ? AND lease <> 0", (lease_id,))
            self.connection.execute("DELETE FROM lease WHERE id = ?", (lease_id,))
            self.leases.append(Lease(lease_id, 0))
        for key in sorted(keys):
            self._record_delete(key)

    def compact(self, revision: int) -> None:
        """History below `revision` is gone from here on; `trim` gives its room back."""
        if revision <= self.compact_revision:
            raise Compacted(self.compact_revision)
        if revision > self.revision:
            raise FutureRevision(
                f"the store is at revision {self.revision}, below {revision}: compact at a revision it has reached"
            )
        self.connection.execute("UPDATE meta SET v = ? WHERE k = 'compact'", (revision,))
        self.compact_revision = revision

    def trim(self) -> bool:
        """Deletes one piece of the compacted history; True: there may be more."""
        below = (self.compact_revision,)
        last = self.connection.execute(
            f"SELECT rev, sub FROM log WHERE rev < ? ORDER BY rev, sub LIMIT 1 OFFSET {TRIM_ROWS - 1}",  # noqa: S608
            below,
        ).fetchone()
        if last is None:
            self.connection.execute("DELETE FROM log WHERE rev < ?", below)
            return False
        self.connection.execute("DELETE FROM log WHERE (rev, sub) <= (?, ?)", last)
        return True

    # ---- the parts of jobs

    def _revision_now(self) -> int:
        return self.revision + 1 if self._events else self.revision

    def _need_lease(self, lease_id: int) -> None:
        if (
            lease_id
            and not self.connection.execute("SELECT 1 FROM lease WHERE id = ?", (lease_id,)).fetchone()
        ):
            raise _no_lease(lease_id)

    def _put(self, key: bytes, value: bytes, lease: int) -> None:
        revision = self.revision + 1
        execute = self.connection.execute
        # two plain statements take three quarters of the time of an upsert with RETURNING
        row = execute("SELECT create_rev, version FROM kv WHERE key = ?", (key,)).fetchone()
        create_rev, version = (row[0], row[1] + 1) if row is not None else (revision, 1)
        execute(
            "REPLACE INTO kv VALUES (?, ?, ?, ?, ?, ?)", (key, create_rev, revision, version, lease, value)
        )
        self._log.append((revision, len(self._events), key, create_rev, version, lease, value))
        self._events.append(Event(KV(key, value, create_rev, revision, version, lease)))

    def _delete(self, key: bytes, end: bytes) -> int:
        if not end:
            count = self.connection.execute("DELETE FROM kv WHERE key = ?", (key,)).rowcount
            if count:
                self._record_delete(key)
            return count
        condition, parameters = where_range(key, end)
        # S608: the condition is one of three constants
        select = f"SELECT key FROM kv WHERE {condition} ORDER BY key"  # noqa: S608
        rows = self.connection.execute(select, parameters).fetchall()
        if rows:
            self.connection.execute(f"DELETE FROM kv WHERE {condition}", parameters)  # noqa: S608
        for (found,) in rows:
            self._record_delete(found)
        return len(rows)

    def _record_delete(self, key: bytes) -> None:
        revision = self.revision + 1
        self._log.append((revision, len(self._events), key, 0, 0, 0, None))
        self._events.append(deleted(key, revision))

    def _grant(self, ttl: int, lease_id: int) -> Lease:
        wanted = lease_id or random.randint(1, MAX_LEASE_ID)  # noqa: S311 (an id, not a secret)
        insert = "INSERT OR IGNORE INTO lease VALUES (?, ?)"
        while not self.connection.execute(insert, (wanted, ttl)).rowcount:
            if lease_id:
                raise LeaseExists(f"lease {lease_id} exists already: choose another id, or 0 for any")
            wanted = random.randint(1, MAX_LEASE_ID)  # noqa: S311
        lease = Lease(wanted, ttl)
        self.leases.append(lease)
        return lease

    def _holds(self, compare: Compare) -> bool:
        row = self.connection.execute(COMPARED[compare.target], (compare.key,)).fetchone()
        if row is None and compare.target is Target.VALUE:
            return False
        return _compare(row[0] if row is not None else 0, compare.op, compare.operand)


class Writer:
    """The connection that writes, and the revisions as of the last commit. `run` is the work of its Lane."""

    def __init__(
        self, connection: sqlite3.Connection, file: Path, publish: Callable[[WriteGroup], None]
    ) -> None:
        self._connection = connection
        self._file = file
        self._wal = file.with_name(file.name + "-wal")
        self._publish = publish
        self._fold_at = WAL_BYTES
        self.revision = read_meta(connection, "revision")
        self.compact_revision = read_meta(connection, "compact")
        self.failure = ""  # the sentence of the last group that changed something, when it failed

    def run(self, jobs: Sequence[Job[WriteGroup]]) -> Answers:
        """All jobs in one transaction, durable when this returns; or none, each with the error."""
        group = WriteGroup(self._connection, self.revision, self.compact_revision)
        committing = False
        changes = self._connection.total_changes
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [group.run(job) for job in jobs]
            group.finish(self.revision)
            committing = True
            self._connection.execute("COMMIT")
        except Exception as error:  # whatever it was, the thread lives on and every caller gets an answer
            self._roll_back()
            self.failure = self._translate(error, committing).detail
            return Answers([self._translate(error, committing) for _ in jobs])
        if self._connection.total_changes != changes:  # a group without changes says nothing about the disk
            self.failure = ""
        self.revision, self.compact_revision = group.revision, group.compact_revision
        self._fold_wal()
        return Answers(results, lambda: self._publish(group))

    def _translate(self, error: Exception, committing: bool) -> StoreError:
        if isinstance(error, sqlite3.Error):
            failure = translate(error, self._file, maybe_applied=committing)
        else:
            failure = Unavailable(
                f"the store failed on a write and took it back: {error!r}; please report this"
            )
        failure.__cause__ = error
        return failure

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:  # some errors end it by themselves
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # the next BEGIN fails then, and says why to its callers

    def _fold_wal(self) -> None:
        """SQLite's own checkpoint can't start the WAL over while any reader is on; this one waits 100 ms for them."""
        try:
            size = self._wal.stat().st_size
            if size < self._fold_at:
                return
            self._connection.execute("PRAGMA busy_timeout = 100")
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            self._connection.execute("PRAGMA busy_timeout = 5000")
            self._fold_at = size + WAL_BYTES if busy else WAL_BYTES
        except (OSError, sqlite3.Error):
            pass  # only a chance to shrink it: nothing is lost, and the next write that fails says why


def _compare(left: object, op: str, right: object) -> bool:
    if op == "=":
        return left == right
    if op == "!=":
        return left != right
    assert isinstance(left, int | bytes)  # check_compares saw to it that both are of one kind
    return bool(left < right if op == "<" else left > right)  # type: ignore[operator]  # same kind, see above


def _no_lease(lease_id: int) -> LeaseNotFound:
    return LeaseNotFound(f"lease {lease_id} does not exist, or its time is over: grant a new one")

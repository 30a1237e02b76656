"""The connection that writes: each group of jobs is one durable transaction, or did not happen.

Owns BEGIN, COMMIT and ROLLBACK, the revisions as of the last commit, and the size of the write-ahead log. What a
job does is `group`'s. It knows no event loop. When SQLite fails, all of the group fails and the revision goes back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from discovery.errors import StoreError
from discovery.kv.contract import Unavailable
from discovery.kv.group import Grants, WriteGroup
from discovery.kv.lane import Answers, Job
from discovery.kv.sqlite_file import read_meta, translate

WAL_BYTES = 64 << 20
"""A write-ahead log that grew this big, because readers were always on, is folded in by force."""


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
        self._number = 0  # of the last commit
        self._grants = Grants()
        self.revision = read_meta(connection, "revision")
        self.compact_revision = read_meta(connection, "compact")
        self.failure = ""  # the sentence of the last group that changed something, when it failed

    def run(self, jobs: Sequence[Job[WriteGroup]]) -> Answers:
        """All jobs in one transaction, durable when this returns; or none, each with the error."""
        group = WriteGroup(
            self._connection, self.revision, self.compact_revision, self._number + 1, self._grants
        )
        committing = False
        changes = self._connection.total_changes
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            group.look_ahead(jobs)
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
        self._number = group.number
        self._grants.add(group.number, group.leases)
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

"""Many callers' writes as one transaction: what each of them does, and what it may not.

Owns the jobs. `WriteGroup` is one SQLite transaction; each job in it is one transaction of the contract, with a
revision of its own. It knows no event loop and commits nothing (writer does). How: a job checks everything before
its first change, so one that is refused leaves nothing behind and the others in its group go on. Keys and leases
are kept in memory until the group's end (pending); only what works on ranges goes to SQLite at once.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

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
    WatchBatch,
)
from discovery.kv.lane import Job
from discovery.kv.pending import Pending, State
from discovery.kv.rows import LEASE_KEYS, deleted, select_range, where_range

TRIM_ROWS = 1_000
"""Log rows one transaction of a compaction deletes."""

ABSENT: State = (0, 0, 0, 0)
PUT_RESULT = PutResult()
COMPARED = {Target.CREATE: 0, Target.MOD: 1, Target.VERSION: 2, Target.LEASE: 3}  # places in a State
MOD, VALUE = Target.MOD, Target.VALUE  # looked up once: an enum's members are slow to reach, and to hash

R = TypeVar("R")


class Write(Generic[R]):
    """A job with what it is going to look at, so that its group reads all of that at once: only a hint.

    `told`: the number of the last group that its caller knew of.
    """

    __slots__ = ("_job", "grants", "keys", "leases", "told")

    def __init__(
        self,
        job: Callable[[WriteGroup], R],
        keys: Collection[bytes] = (),
        leases: Collection[int] = (),
        *,
        grants: bool = False,
        told: int = 0,
    ) -> None:
        self._job = job
        self.keys = keys
        self.leases = leases
        self.grants = grants
        self.told = told

    def __call__(self, group: WriteGroup) -> R:
        return self._job(group)


class Grants:
    """The leases granted by commits that the callers of jobs to come may not know of yet.

    Jobs come in the order they were asked for: what one of them knew, all later ones know.
    """

    def __init__(self) -> None:
        self._groups: deque[tuple[int, frozenset[int]]] = deque()

    def add(self, number: int, leases: Sequence[Lease]) -> None:
        """What the group of this number granted."""
        if granted := frozenset(lease.id for lease in leases if lease.ttl):
            self._groups.append((number, granted))

    def forget(self, told: int) -> None:
        """From here on all callers know of the groups up to this number."""
        while self._groups and self._groups[0][0] <= told:
            self._groups.popleft()

    def ids(self) -> set[int]:
        return set().union(*(granted for _, granted in self._groups))


class WriteGroup:
    """One open SQLite transaction. After COMMIT its `batches` and `leases` are told to the loop."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        revision: int,
        compact_revision: int,
        number: int,
        grants: Grants,
    ) -> None:
        self.connection = connection
        self.number = number
        self._grants = grants
        self.revision = revision
        self.compact_revision = compact_revision
        self.batches: list[WatchBatch] = []
        self.leases: list[Lease] = []  # granted, or ended (a TTL of 0), in this order
        self._events: list[Event] = []  # of the job at work
        self._pending = Pending(connection)
        self._fresh: list[int] = []  # ids that no lease has

    def look_ahead(self, jobs: Sequence[Job[WriteGroup]]) -> None:
        """Reads at once what the jobs are going to ask for one by one."""
        writes = [job for job in jobs if isinstance(job, Write)]
        keys = {key for write in writes for key in write.keys}
        leases = {lease for write in writes for lease in write.leases}
        leases.discard(0)
        self._fresh = [_random_id() for write in writes if write.grants]
        self._pending.look(keys, leases.union(self._fresh))

    def run(self, job: Job[WriteGroup]) -> object:
        """The job's result, or the StoreError that refused it. What it changed becomes one revision."""
        if isinstance(job, Write):
            self._grants.forget(job.told)
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
        """Writes what was gathered, and the revision."""
        self._pending.finish()
        if self.revision != first_revision:
            self.connection.execute("UPDATE meta SET v = ? WHERE k = 'revision'", (self.revision,))

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
        succeeded = all(map(self._holds, when))
        branch = then if succeeded else otherwise
        puts = [op for op in branch if isinstance(op, Put)]
        lease: Lease | None = None
        if grant_ttl and puts:
            lease = self.grant(grant_ttl, 0)
        else:
            for put in puts:
                self._need_lease(put.lease)
        responses: list[PutResult | DeleteResult | RangeResult] = []
        for op in branch:
            if isinstance(op, Put):
                self._put(op.key, op.value, lease.id if lease else op.lease)
                responses.append(PUT_RESULT)
            elif isinstance(op, Delete):
                responses.append(DeleteResult(self._delete(op.key, op.end)))
            else:
                self._pending.settle()
                revision = self._revision_now()
                responses.append(select_range(self.connection, revision, op.key, op.end, op.limit))
        return TxnResult(self._revision_now(), succeeded, responses, lease)

    def grant(self, ttl: int, lease_id: int) -> Lease:
        if lease_id and self._pending.has_lease(lease_id):
            raise LeaseExists(f"lease {lease_id} exists already: choose another id, or 0 for any")
        wanted = lease_id or (self._fresh.pop() if self._fresh else _random_id())
        while not lease_id and self._pending.has_lease(wanted):
            wanted = _random_id()
        self._pending.grant(wanted, ttl)
        lease = Lease(wanted, ttl)
        self.leases.append(lease)
        return lease

    def revoke(self, lease_id: int) -> None:
        if not lease_id:
            raise _no_lease(lease_id)
        self._need_lease(lease_id)
        self.expire([lease_id])

    def expire(self, lease_ids: Sequence[int]) -> None:
        """Ends all of them in one revision, their keys deleted in byte order; those already gone don't matter."""
        self._pending.settle()
        ids = (json.dumps(lease_ids),)
        found = self.connection.execute(f"SELECT group_concat(hex(key), ' ') {LEASE_KEYS}", ids).fetchone()[0]
        if found:
            keys = sorted(map(bytes.fromhex, found.split(" ")))
            self.connection.execute(f"DELETE {LEASE_KEYS}", ids)
            self._pending.deleted(keys)
            for key in keys:
                self._record_delete(key)
        self.connection.execute("DELETE FROM lease WHERE id IN (SELECT value FROM json_each(?))", ids)
        self._pending.revoked(lease_ids)
        self.leases += [Lease(lease_id, 0) for lease_id in lease_ids]

    def expire_due(self, lease_ids: Sequence[int]) -> int:
        """`expire` of those that the caller meant; how many. A lease granted since, by the same id, lives on."""
        fresh = self._unknown()
        meant = [lease_id for lease_id in lease_ids if lease_id not in fresh]
        if meant:
            self.expire(meant)
        return len(meant)

    def keep_remaining(self, remaining: Sequence[tuple[int, int | None]]) -> None:
        """Notes the seconds that (id) leases have left; None: their full TTL.

        Those already gone don't matter, and leases granted since by the same ids have no note.
        """
        fresh = self._unknown()
        remaining = [each for each in remaining if each[0] not in fresh]
        self._pending.settle()
        self.connection.execute(
            "UPDATE lease SET remaining = json_extract(value, '$[1]') FROM json_each(?) "
            "WHERE lease.id = json_extract(value, '$[0]')",
            (json.dumps(remaining),),
        )

    def clear_notes(self) -> None:
        """Every lease has its full TTL after a restart."""
        self._pending.settle()
        self.connection.execute("UPDATE lease SET remaining = NULL WHERE remaining IS NOT NULL")

    def advance(self, revision: int) -> None:
        """No later revision is `revision` or less."""
        self.revision = max(self.revision, revision + 1)

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

    def _unknown(self) -> set[int]:
        """Leases granted since the job's caller looked."""
        return self._grants.ids().union(lease.id for lease in self.leases if lease.ttl)

    def _revision_now(self) -> int:
        return self.revision + 1 if self._events else self.revision

    def _need_lease(self, lease_id: int) -> None:
        if lease_id and not self._pending.has_lease(lease_id):
            raise _no_lease(lease_id)

    def _put(self, key: bytes, value: bytes, lease: int) -> None:
        revision = self.revision + 1
        state = self._pending.state(key)
        create_rev, version = (state[0], state[2] + 1) if state is not None else (revision, 1)
        self._pending.put((key, create_rev, revision, version, lease, value))
        self._pending.log((revision, len(self._events), key, create_rev, version, lease, value))
        self._events.append(Event(KV(key, value, create_rev, revision, version, lease)))

    def _delete(self, key: bytes, end: bytes) -> int:
        if not end:
            if self._pending.state(key) is None:
                return 0
            self._pending.delete(key)
            self._record_delete(key)
            return 1
        self._pending.settle()
        condition, parameters = where_range(key, end)
        # S608: the condition is one of three constants
        select = f"SELECT key FROM kv WHERE {condition} ORDER BY key"  # noqa: S608
        keys = [row[0] for row in self.connection.execute(select, parameters)]
        if keys:
            self.connection.execute(f"DELETE FROM kv WHERE {condition}", parameters)  # noqa: S608
            self._pending.deleted(keys)
        for found in keys:
            self._record_delete(found)
        return len(keys)

    def _record_delete(self, key: bytes) -> None:
        revision = self.revision + 1
        self._pending.log((revision, len(self._events), key, 0, 0, 0, None))
        self._events.append(deleted(key, revision))

    def _holds(self, compare: Compare) -> bool:
        if compare.target is VALUE:
            value = self._pending.value(compare.key)
            return value is not None and _compare(value, compare.op, compare.operand)
        state = self._pending.state(compare.key) or ABSENT
        if compare.target is MOD and compare.op == "=":
            return state[1] == compare.operand
        return _compare(state[COMPARED[compare.target]], compare.op, compare.operand)


def _compare(left: object, op: str, right: object) -> bool:
    if op == "=":
        return left == right
    if op == "!=":
        return left != right
    assert isinstance(left, int | bytes)  # check_compares saw to it that both are of one kind
    return bool(left < right if op == "<" else left > right)  # type: ignore[operator]  # same kind, see above


def _random_id() -> int:
    return random.randint(1, MAX_LEASE_ID)  # noqa: S311 (an id, not a secret)


def _no_lease(lease_id: int) -> LeaseNotFound:
    return LeaseNotFound(f"lease {lease_id} does not exist, or its time is over: grant a new one")

"""The store's contract: what every engine promises, in types and in words.

Owns the values that cross the border (all immutable), the errors, and the protocol `Store`. It never does I/O.
The model is etcd's v3: one revision counts every change of the whole store; a range is `[key, end)` in
byte order, `end == b""` means the one key, `end == b"\\0"` means everything from `key` on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from discovery.errors import StoreError
from discovery.histogram import Histogram

MAX_LEASE_ID = (1 << 63) - 1

BASE_KEY = b"/discovery/revision-base"
"""Where a cluster keeps by how much its revisions are raised. It is that cluster's own, and goes along nowhere."""


# ---------------------------------------------------------------- errors


class Unavailable(StoreError):
    """The store cannot take the call now. `maybe_applied`: a write may have happened all the same."""

    code, status, exit_code = "store-unavailable", 503, 1

    def __init__(self, detail: str, *, maybe_applied: bool = False) -> None:
        super().__init__(detail)
        self.maybe_applied = maybe_applied


class Compacted(StoreError):
    """The revision asked for lies below the kept history; begin anew with a range."""

    code, status, exit_code = "compacted", 410, 1

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"the history up to revision {compact_revision} is compacted: read the state anew")
        self.compact_revision = compact_revision


class FutureRevision(StoreError):
    """The revision asked for is greater than the store's next one: it belongs to another store."""

    code, status, exit_code = "future-revision", 410, 1


class Lagged(StoreError):
    """This watcher read too slowly and was cut off; resume from the last revision it saw, plus one."""

    code, status, exit_code = "lagged", 503, 1


class LeaseNotFound(StoreError):
    code, status, exit_code = "lease-not-found", 404, 1


class LeaseExists(StoreError):
    code, status, exit_code = "lease-exists", 409, 1


class InvalidRequest(StoreError):
    """The call itself is wrong: an empty key, one key put twice in a transaction, a TTL below 1."""

    code, status, exit_code = "invalid-request", 400, 1


class NoSpace(StoreError):
    code, status, exit_code = "no-space", 503, 1


class AuthError(StoreError):
    code, status, exit_code = "store-auth", 503, 1


class Corrupt(StoreError):
    code, status, exit_code = "store-corrupt", 503, 2


# ---------------------------------------------------------------- values

# gc=False: what comes by the thousand and can be in no cycle, Python need not look through for cycles.


class KV(msgspec.Struct, frozen=True, gc=False):
    """One key as stored. `version` counts the puts since its creation, from 1. `lease` 0: permanent."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change. For a delete, `kv` has the key and the deleting revision; value and the rest are empty."""

    kv: KV
    deleted: bool = False


class WatchBatch(msgspec.Struct, frozen=True):
    """All changes of one revision that the watch covers. Resume at `revision + 1`.

    Without events it is a bookmark: nothing else happened up to `revision`.
    """

    revision: int
    events: Sequence[Event]


class RangeResult(msgspec.Struct, frozen=True):
    """`revision` is the store's at the time of reading; `more`: the limit cut the answer.

    `history` names what the revision belongs to: a store that was replaced or restored has another. It is for
    `watch` alone, in this process; "" where there is just one.
    """

    revision: int
    kvs: Sequence[KV]
    more: bool = False
    history: str = ""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """`ttl` in seconds, as granted, which may be more than was asked for."""

    id: int
    ttl: int


class Target(Enum):
    """What a comparison looks at; for a key that does not exist every number is 0 and VALUE never holds."""

    VERSION = "version"
    CREATE = "create"
    MOD = "mod"
    VALUE = "value"
    LEASE = "lease"


class Compare(msgspec.Struct, frozen=True, gc=False):
    """`operand` is bytes for VALUE and an int for the others."""

    key: bytes
    target: Target
    op: Literal["=", "!=", "<", ">"]
    operand: int | bytes


class Put(msgspec.Struct, frozen=True, gc=False):
    key: bytes
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True, gc=False):
    key: bytes
    end: bytes = b""


class Range(msgspec.Struct, frozen=True, gc=False):
    key: bytes
    end: bytes = b""
    limit: int = 0


Op = Put | Delete | Range


class PutResult(msgspec.Struct, frozen=True, gc=False):
    pass


class DeleteResult(msgspec.Struct, frozen=True, gc=False):
    deleted: int


class TxnResult(msgspec.Struct, frozen=True):
    """`revision` is the store's after the transaction; `responses` one per operation of the branch taken.

    `lease` is the one that `grant_ttl` made; None when none was asked for, or the branch put nothing.
    """

    revision: int
    succeeded: bool
    responses: Sequence[PutResult | DeleteResult | RangeResult]
    lease: Lease | None = None


class Member(msgspec.Struct, frozen=True):
    """One member of the store's cluster as seen from here, by its own word.

    `id` in hex. `round_trip` in seconds and `error` "": it answered; else None, and why, with what else is unknown
    0 or "".
    """

    id: str
    name: str
    url: str
    role: Literal["leader", "follower", "learner", ""]
    version: str
    revision: int
    size: int
    size_in_use: int
    round_trip: float | None
    error: str = ""


class Seat(msgspec.Struct, frozen=True):
    """A member's place in the cluster. `id` in hex; `name` is empty before it has run; a `learner` does not vote."""

    id: str
    name: str
    peer: str
    learner: bool


class Status(msgspec.Struct, frozen=True):
    """`compact_revision` 0: the engine does not tell. `size` and `size_in_use` in bytes on disk; `errors` are sentences
    for an operator about what keeps the store from its work, empty when healthy.

    `stalls`: how often all leases were renewed because the node had not run; `leases_held`: leases that got one TTL
    more because most of their group ran out at once; `leases_expired`: those that ended at their time. All since the
    start; only the embedded engine ends leases itself.
    """

    revision: int
    compact_revision: int
    size: int
    size_in_use: int
    leases: int
    version: str
    leader: str = ""
    members: Sequence[str] = ()
    errors: Sequence[str] = ()
    stalls: int = 0
    leases_held: int = 0
    leases_expired: int = 0


def prefix_end(prefix: bytes) -> bytes:
    """The `end` of the range of all keys that begin with `prefix` (b"\\0", everything, when there is none)."""
    for i in range(len(prefix) - 1, -1, -1):
        if prefix[i] < 0xFF:
            return prefix[:i] + bytes([prefix[i] + 1])
    return b"\0"


# ---------------------------------------------------------------- the store

# Seconds of one operation: a look into a file takes microseconds, a fsync or a quorum milliseconds, a timeout seconds.
STORE_BOUNDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)


class Store(Protocol):
    """Every call may raise Unavailable; writes also NoSpace.

    What holds in every engine, each held by a test of the contract suite:

    - revisions only grow; a transaction is one revision and one watch batch;
    - a watch from R gives every batch >= R: ordered, each once, whole, none missing, or raises Compacted;
    - a lease lives at least its TTL; a revoke removes its keys in one revision;
    - a keep-alive makes no revision and writes nothing to disk (leases over 300 s: at most one row in 5 minutes);
    - an acknowledged write survives kill -9;
    - a slow watcher is cut off with Lagged, never waited for, never buffered without end.

    `durations`: how long what it does takes, by what that is, in the engine's own words.
    """

    @property
    def durations(self) -> Mapping[str, Histogram]: ...

    async def start(self) -> None:
        """Opens the store. Raises Corrupt, or ConfigError when it cannot be opened as it is set up."""

    async def close(self) -> None:
        """Ends all watches and closes. What was acknowledged is on disk. Closing twice is allowed."""

    async def range(
        self, key: bytes, end: bytes = b"", *, limit: int = 0, keys_only: bool = False, stale_ok: bool = False
    ) -> RangeResult:
        """Keys in `[key, end)` in byte order, at most `limit` (0: all). Sees every write acknowledged before."""

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        """The new revision. Raises LeaseNotFound."""

    async def delete(self, key: bytes, end: bytes = b"") -> tuple[int, int]:
        """(revision, keys deleted). Deleting nothing makes no revision."""

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        """Atomically: when every comparison holds, `then`, else `otherwise`. All its writes are one revision.

        `grant_ttl` > 0: a new lease of that TTL is granted with it and every put of the branch taken hangs on it.
        Raises LeaseNotFound, InvalidRequest (one key put twice).
        """

    def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """Every batch with a revision >= `from_revision` (>= 1) that touches `[key, end)`.

        `history` is that of the read which the watch goes on from; when the store has another by now, and whenever
        it gets another, that is FutureRevision. Who must not miss a delete begins one revision early: the very
        revision that the history is compacted to may lack its deletes (etcd).

        Entering the context raises Compacted or FutureRevision; the iterator raises Compacted, Lagged,
        FutureRevision or Unavailable, and ends when the store is closed.
        """

    async def lease_grant(self, ttl: int, lease_id: int = 0) -> Lease:
        """A lease of at least `ttl` seconds (>= 1). `lease_id` 0: the store picks one. Raises LeaseExists."""

    async def lease_keepalive(self, lease_id: int) -> int:
        """The granted TTL, with the full time ahead again; 0 when the lease is gone."""

    async def lease_keepalive_many(self, lease_ids: Sequence[int]) -> Sequence[int]:
        """Renews all; returns those that are gone."""

    async def lease_revoke(self, lease_id: int) -> None:
        """Ends the lease and deletes its keys in one revision. Raises LeaseNotFound."""

    async def lease_ttl(self, lease_id: int) -> tuple[int, int]:
        """(granted, remaining) in whole seconds, remaining rounded up. Raises LeaseNotFound."""

    async def lease_keys(self, lease_id: int) -> Sequence[bytes]:
        """The keys that hang on the lease, in byte order. Raises LeaseNotFound."""

    async def compact(self, revision: int) -> None:
        """Drops the history below `revision`. Raises Compacted, FutureRevision."""

    async def snapshot(self, target: Path) -> int:
        """Writes a consistent copy to the new file `target`; a revision it holds. Raises InvalidRequest."""

    async def advance(self, revision: int) -> None:
        """The store's revision becomes greater than `revision`, where it is not already; what is stored stays.

        For who holds what a store had before it was replaced by an older copy: no revision goes backwards.
        """

    async def status(self) -> Status: ...

    async def members(self) -> Sequence[Member]:
        """The members of the cluster, each asked now; none where the store is no cluster."""


@runtime_checkable
class ClusterStore(Protocol):
    """What a store that is a cluster can be asked to change about itself, beside what `Store` has.

    Every change is made once; it raises Conflict, in one sentence, when the cluster does not allow it now, NotFound for
    a member that there is not, and Unavailable(maybe_applied) when the answer did not come.
    """

    async def add_member(self, peer: str) -> Sequence[Seat]:
        """A seat for a learner at that peer URL. All there are now, the new one first. Raises InvalidField."""

    async def remove_member(self, name_or_id: str) -> Sequence[Seat]:
        """All there were, the removed one first."""

    async def promote_member(self, name_or_id: str) -> Sequence[Seat]:
        """A learner votes from now on. All there are, it first."""

    async def give_room(self) -> tuple[Sequence[str], Sequence[str]]:
        """Drops all history, gives free space back to the disks, and takes the alarm of a full quota back. A sentence
        for each thing done, and for each that could not be."""

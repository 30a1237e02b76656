"""The keys and leases of an embedded store's file, copied into another store while a node still writes to the file.

Owns the reading of what changed and the writing of it. It knows no directory and no member. How: rounds. Each reads
one state of the file, compares the keys' revisions with those that were copied, and writes the difference; so the
last round, when the node has stopped, is a short one. Meanwhile every copied lease is kept alive, since its owner
renews it at the node only; one that ran out all the same is copied again by the next round. A lease keeps its id.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from discovery.kv.contract import KV, Corrupt, Delete, LeaseExists, LeaseNotFound, Put, Store, Unavailable
from discovery.kv.sqlite_file import connect_reader, read_meta, schema_version, translate

log = logging.getLogger(__name__)

PIECE = 500  # changes in one transaction, leases granted or revoked at once
PIECE_BYTES = 1 << 20  # of values in one transaction, and one value more
RENEWED_AT_ONCE = 10_000
RENEW_EVERY = 0.25  # seconds between two looks for leases to renew
RENEW_AT = 0.7  # of its TTL: a copied lease is renewed when that much is over
ANSWER_LIMIT = 5.0  # seconds for a store that is well to answer what was renewed in time
TOO_MANY = (
    0.01  # of all leases may run out at the target; with more, etcd has its hands full with ending them
)
PATIENCE = 30.0  # seconds for which a store may give no answer
LAST_ROUNDS = 4
PAGE = 5_000  # keys read at once for the comparison

T = TypeVar("T")


class Copied(NamedTuple):
    """A key as it was copied: the file's revision of it, and its lease."""

    revision: int
    lease: int


class Row(NamedTuple):
    revision: int
    lease: int
    value: bytes


class Changes(NamedTuple):
    """What a state of the file at `revision` has that was not copied, and what was copied and is gone there."""

    revision: int
    granted: Mapping[int, int]  # id -> TTL in seconds
    revoked: Sequence[int]
    put: Mapping[bytes, Row]
    deleted: Sequence[bytes]

    @property
    def amount(self) -> int:
        return len(self.granted) + len(self.revoked) + len(self.put) + len(self.deleted)


class Source:
    """The store in `file`, which a node may have open: this only reads. Used by one thread at a time. Blocks.

    `left_out`: keys that are none of the copy's business. Raises Corrupt, ConfigError (a newer version's), Unavailable.
    """

    def __init__(self, file: Path, left_out: Collection[bytes] = ()) -> None:
        self._file = file
        self._left_out = left_out
        self._connection = connect_reader(file)
        try:
            schema_version(self._connection, file)
        except sqlite3.Error as error:
            raise translate(error, file) from error

    def revision(self) -> int:
        try:
            return read_meta(self._connection, "revision")
        except sqlite3.Error as error:
            raise translate(error, self._file) from error

    def changes(self, keys: Mapping[bytes, Copied], leases: Mapping[int, int]) -> Changes:
        """Against what was copied. Raises Corrupt, Unavailable."""
        read = self._connection
        try:
            read.execute("BEGIN")
            try:
                revision = read_meta(read, "revision")
                held = dict(read.execute("SELECT id, ttl FROM lease"))
                there: set[bytes] = set()
                put: dict[bytes, Row] = {}
                for key, *row in read.execute("SELECT key, mod_rev, lease, value FROM kv"):
                    if key in self._left_out:
                        continue
                    there.add(key)
                    if keys.get(key) != (row[0], row[1]):
                        put[key] = Row(*row)
            finally:
                read.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translate(error, self._file) from error
        granted = {lease: ttl for lease, ttl in held.items() if leases.get(lease) != ttl}
        revoked = [lease for lease, ttl in leases.items() if held.get(lease) != ttl]
        return Changes(revision, granted, revoked, put, [key for key in keys if key not in there])

    def close(self) -> None:
        self._connection.close()


class Copy:
    """Into `target`, which is empty and written to by nobody else. `told`: how many changes are written by now."""

    def __init__(self, source: Source, target: Store, told: Callable[[int], None]) -> None:
        self._source = source
        self._target = target
        self._told = told
        self._written = 0
        self._due: dict[int, float] = {}  # lease -> when to renew it, by the loop's time
        self._gone: set[int] = set()  # leases that ran out at the target
        self._renewing: asyncio.Task[None] | None = None
        self.keys: dict[bytes, Copied] = {}
        self.leases: dict[int, int] = {}  # id -> TTL as in the file
        self.revision = 0  # of the file, when it was read last

    async def round(self) -> int:
        """Writes what changed in the file; how much that was. Raises what the stores raise."""
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(), name="copied-leases")
        self._drop(self._gone)
        self._gone = set()
        changes = await asyncio.to_thread(self._source.changes, self.keys, self.leases)
        await self._revoke(changes.revoked)
        for gone in _pieces([key for key in changes.deleted if key in self.keys], len):
            deletes = list(map(Delete, gone))
            await insist(partial(self._target.txn, [], deletes))
            for key in gone:
                del self.keys[key]
            self._tell(len(gone))
        # The shortest last: they need to be kept alive for the shortest time.
        for granted in _pieces(sorted(changes.granted.items(), key=lambda item: -item[1]), lambda item: 0):
            await asyncio.gather(*(self._grant(lease, ttl) for lease, ttl in granted))
            self._tell(len(granted))
        for put in _pieces(changes.put.items(), lambda item: len(item[1].value)):
            await self._put(put)
            self._tell(len(put))
        self.revision = changes.revision
        return changes.amount

    async def finish(self) -> Sequence[KV]:
        """The last rounds, when nobody writes to the file any more; all that the target holds then.

        Every lease was renewed just now. Raises Unavailable when that can't be had, Corrupt when the copy is not what
        the file holds, and what the stores raise.
        """
        try:
            for _ in range(LAST_ROUNDS):
                changed = await self.round()
                leases = list(self.leases)
                for start in range(0, len(leases), RENEWED_AT_ONCE):
                    piece = leases[start : start + RENEWED_AT_ONCE]
                    self._gone |= set(await insist(partial(self._target.lease_keepalive_many, piece)))
                    self._tell(0)
                if not changed and not self._gone:
                    return await self._compared()
        except Unavailable:
            if self._gone:
                raise _overtaken() from None  # which is why etcd answers no more: it ends them
            raise
        raise _overtaken()

    async def close(self) -> None:
        """Ends the renewals. Closing twice is allowed."""
        task, self._renewing = self._renewing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # ---------------------------------------------------------------- inside

    async def _revoke(self, leases: Sequence[int]) -> None:
        for piece in _pieces(leases, lambda lease: 0):
            await asyncio.gather(*map(self._end, piece))
            self._drop(set(piece))
            self._tell(len(piece))

    async def _end(self, lease: int) -> None:
        with suppress(LeaseNotFound):
            await insist(lambda: self._target.lease_revoke(lease))

    async def _grant(self, lease: int, ttl: int) -> None:
        with suppress(LeaseExists):  # a call that was not answered had been heard
            await insist(lambda: self._target.lease_grant(ttl, lease))
        self.leases[lease] = ttl
        self._renewed(lease)

    async def _put(self, piece: Sequence[tuple[bytes, Row]]) -> None:
        puts = [Put(key, row.value, row.lease) for key, row in piece]
        try:
            await insist(lambda: self._target.txn([], puts))
        except LeaseNotFound:
            self._gone |= {
                row.lease for _, row in piece if row.lease
            }  # one of them; the next round has all again
            return
        self.keys.update((key, Copied(row.revision, row.lease)) for key, row in piece)

    def _drop(self, leases: Collection[int]) -> None:
        """The target has these no longer, nor their keys."""
        if not leases:
            return
        for lease in leases:
            self.leases.pop(lease, None)
            self._due.pop(lease, None)
        self.keys = {key: copied for key, copied in self.keys.items() if copied.lease not in leases}

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            due = [lease for lease, when in self._due.items() if when <= now]
            limit = min((self.leases[lease] for lease in due), default=0) * (1 - RENEW_AT)
            try:
                async with asyncio.timeout(limit + ANSWER_LIMIT):
                    gone = await self._target.lease_keepalive_many(due) if due else ()
            except Unavailable as error:
                log.info("copied leases are renewed again: %s", error)
            except TimeoutError:
                self._gone.update(lease for lease in due if lease in self._due)  # by now they must be
            else:
                for lease in due:
                    if lease in self._due:
                        self._renewed(lease)
                self._gone.update(lease for lease in gone if lease in self._due)
            await asyncio.sleep(RENEW_EVERY)

    def _renewed(self, lease: int) -> None:
        self._due[lease] = asyncio.get_running_loop().time() + RENEW_AT * self.leases[lease]

    async def _compared(self) -> Sequence[KV]:
        """Everything at the target. Raises Corrupt when it is not what was copied."""
        kvs: list[KV] = []
        start, more = b"", True
        while more:
            page = await self._target.range(start, b"\0", limit=PAGE)
            kvs += page.kvs
            more = page.more
            start = page.kvs[-1].key + b"\0" if more else b""
        found = {kv.key: kv.lease for kv in kvs}
        missing = [key for key, copied in self.keys.items() if found.get(key) != copied.lease]
        if missing:
            raise Corrupt(
                f"{len(missing)} keys are not as they were copied, {missing[0].decode(errors='backslashreplace')} "
                "for one: begin again, and report this"
            )
        return kvs

    def _tell(self, count: int) -> None:
        """Raises Unavailable when it is of no use to go on."""
        if len(self._gone) > 100 + TOO_MANY * len(self.leases):
            raise _overtaken()
        self._written += count
        self._told(self._written)


def _overtaken() -> Unavailable:
    return Unavailable(
        "leases run out faster than they are copied: end what else keeps this machine busy, and begin again"
    )


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """A call that may be made twice, since nobody else writes. Raises Unavailable when PATIENCE is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while True:
        try:
            return await call()
        except Unavailable:
            if loop.time() >= end:
                raise
            await asyncio.sleep(RENEW_EVERY)


def _pieces(items: Iterable[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """At most PIECE at a time, and no more of them when PIECE_BYTES is passed."""
    rest = iter(items)
    while True:
        piece, total = [], 0
        for item in islice(rest, PIECE):
            piece.append(item)
            total += size(item)
            if total > PIECE_BYTES:
                break
        if not piece:
            return
        yield piece

"""Many registrations and removals at once, in few transactions. A part of the registry, the only writer.

Owns the way of a batch: what shares a lease, has none, or stays on its own, goes to the store by the hundred; what
needs a new lease of its own, or takes one away, goes the way of a single write, many at a time. It decides nothing that
the registry does not. How: what the view holds is taken for what is there, and every transaction compares that; where
it is not so, or the lease ended, the operations of that transaction go the way of single writes, which read the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

import msgspec

from discovery import drained, names, service
from discovery.errors import DiscoveryError
from discovery.feed import Feed
from discovery.kv.contract import Compare, Delete, LeaseNotFound, Put, Store, Target
from discovery.metrics import Metrics
from discovery.names import Path
from discovery.pieces import pieces
from discovery.raw_keys import WAIT_FOR_VIEW, is_own_lease
from discovery.recent_writes import Written
from discovery.registry import Registered, Registry
from discovery.service import Service
from discovery.tree import Record
from discovery.view import View

PIECE = 64  # operations in one transaction, of two comparisons each (etcd takes 128 as it comes)
AT_ONCE = 64  # single writes, or questions for leases, in flight
BREATH = 200  # operations looked at before others get their turn


class Registration(msgspec.Struct, frozen=True, gc=False):
    """As `Registry.register` takes it."""

    path: Path
    fields: Service
    lease: int | None = None
    lease_ttl: int | None = None


class Removal(msgspec.Struct, frozen=True, gc=False):
    path: Path


Operation = Registration | Removal
Outcome = Registered | int | DiscoveryError
"""What was registered; of a removal its revision; or why it was not done."""


class _Quick(msgspec.Struct, frozen=True, gc=False):
    """One operation of a transaction. `held`: what the view has there; `put` None: it goes, or it may stay."""

    position: int
    operation: Operation
    key: bytes
    held: Record | None
    put: Put | None = None
    stored: Service | None = None
    lease: int = 0
    lease_ttl: int = 0


class BatchWrites:
    """`prefix` without a final slash."""

    def __init__(
        self, registry: Registry, store: Store, view: View, feed: Feed, metrics: Metrics, *, prefix: str
    ) -> None:
        self._registry = registry
        self._store = store
        self._view = view
        self._feed = feed
        self._metrics = metrics
        self._prefix = prefix

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        """One outcome for each, in order. Operations on the same key happen in their order, others in any."""
        outcomes: dict[int, Outcome] = {}
        rounds: list[list[int]] = []
        seen: dict[Path, int] = {}
        for position, operation in enumerate(operations):
            turn = seen.get(operation.path, 0)
            seen[operation.path] = turn + 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(position)
        for positions in rounds:
            await self._round(operations, positions, outcomes)
        return [outcomes[position] for position in range(len(operations))]

    async def _round(
        self, operations: Sequence[Operation], positions: Sequence[int], outcomes: dict[int, Outcome]
    ) -> None:
        """Operations of different keys."""
        leases = await self._renewed(
            {
                operation.lease
                for position in positions
                if isinstance(operation := operations[position], Registration) and operation.lease is not None
            }
        )
        own = {position: held for position in positions if (held := self._own(operations[position]))}
        gone = await self._gone({held.lease for held in own.values()})
        puts: list[_Quick] = []
        removals: list[_Quick] = []
        single: list[int] = []
        for number, position in enumerate(positions):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            operation = operations[position]
            if isinstance(operation, Registration) and operation.lease is not None:
                ttl = leases[operation.lease]
                if isinstance(ttl, DiscoveryError):
                    outcomes[position] = ttl
                    continue
            held = own.get(position)
            stays = held if held is not None and held.lease not in gone else None
            quick = self._quick(position, operation, leases, stays)
            if quick is None:
                single.append(position)
            else:
                (puts if isinstance(operation, Registration) else removals).append(quick)
        written = {each.key: (each.put.value, each.stored) for each in puts if each.put and each.stored}
        expected = self._view.expected
        expected.update(written)
        try:
            again = await self._pieces(puts, self._put, outcomes)
            again += await self._pieces(removals, self._remove, outcomes)
            if reached := max(
                (
                    _revision(outcomes[each.position])
                    for each in (*puts, *removals)
                    if each.position in outcomes
                ),
                default=0,
            ):
                await self._feed.wait(reached, WAIT_FOR_VIEW)
        finally:
            for key, said in written.items():
                if expected.get(key) is said:
                    del expected[key]
        await self._singly(operations, [*single, *(each.position for each in again)], outcomes)

    def _own(self, operation: Operation) -> Record | None:
        """The instance, where it is to stay on its own lease."""
        if not isinstance(operation, Registration) or operation.lease is not None or operation.lease_ttl == 0:
            return None
        held = self._view.record(operation.path)
        if held is None or held.fields is None or not held.fields.own_lease or not held.lease:
            return None
        ttl = self._registry.checked_ttl(operation.lease_ttl, "lease_ttl")
        return held if held.fields.lease_ttl == ttl else None

    async def _gone(self, leases: set[int]) -> Collection[int]:
        """Renews them in one call; those that have ended, or all where the store can't be asked."""
        try:
            return frozenset(await self._store.lease_keepalive_many(list(leases))) if leases else ()
        except DiscoveryError:
            return leases  # single writes ask again, each for itself, and say what they meet

    async def _renewed(self, leases: set[int]) -> dict[int, int | DiscoveryError]:
        """The granted TTL of each, with its full time ahead again, or what is wrong with it."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def renew(lease: int) -> int | DiscoveryError:
            async with gate:
                try:
                    return await self._registry.lease_heartbeat(lease)
                except DiscoveryError as error:
                    return error

        ordered = list(leases)
        return dict(zip(ordered, await asyncio.gather(*map(renew, ordered)), strict=True))

    def _quick(
        self,
        position: int,
        operation: Operation,
        leases: dict[int, int | DiscoveryError],
        own: Record | None,
    ) -> _Quick | None:
        """None: it needs the way of a single write. `own`: what is there, on a lease that was renewed just now."""
        key = names.key_of(operation.path, self._prefix)
        held = own or self._view.record(operation.path)
        if held is not None and (held.key != key or held.fields is None):
            return None
        if held is None and self._registry.draining.instances.find(operation.path) is not None:
            return None
        if isinstance(operation, Removal):
            return None if held is None or _has_own_lease(held) else _Quick(position, operation, key, held)
        if operation.lease is None and operation.lease_ttl != 0:
            if own is None or own.fields is None:
                return None
            lease, ttl = own.lease, own.fields.lease_ttl
            stored = msgspec.structs.replace(operation.fields, lease_ttl=ttl, own_lease=True)
        else:
            lease = operation.lease or 0
            granted = leases[lease] if lease else 0
            assert isinstance(granted, int)
            ttl = granted
            if held is not None and held.lease != lease and _has_own_lease(held):
                return None
            stored = msgspec.structs.replace(operation.fields, lease_ttl=ttl) if ttl else operation.fields
        is_there = held is not None and held.fields == stored and held.lease == lease
        put = None if is_there else Put(key, service.write(stored), lease)
        return _Quick(position, operation, key, held, put, stored, lease, ttl)

    # ------------------------------------------------------------ by the hundred

    async def _pieces(
        self,
        quick: Sequence[_Quick],
        write: Callable[[Sequence[_Quick], dict[int, Outcome]], Awaitable[bool]],
        outcomes: dict[int, Outcome],
    ) -> list[_Quick]:
        """Those that must go the way of single writes."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def run(piece: Sequence[_Quick]) -> Sequence[_Quick]:
            async with gate:
                try:
                    return () if await write(piece, outcomes) else piece
                except LeaseNotFound:
                    return piece  # one of them has ended just now: its own will say so
                except DiscoveryError as error:
                    outcomes.update({each.position: error for each in piece})
                    return ()

        cut = pieces(quick, PIECE, lambda each: len(each.key) + (len(each.put.value) if each.put else 0))
        return [each for piece in await asyncio.gather(*map(run, cut)) for each in piece]

    async def _put(self, piece: Sequence[_Quick], outcomes: dict[int, Outcome]) -> bool:
        """False: something is not as the view has it, and nothing was done."""
        done = await self._store.txn(_as_held(piece), [each.put for each in piece if each.put])
        if not done.succeeded:
            return False
        for each in piece:
            assert each.stored is not None
            revision = done.revision if each.put or each.held is None else each.held.revision
            outcomes[each.position] = Registered(
                each.held is None, each.stored, revision, revision, each.lease, each.lease_ttl
            )
        written = sum(each.put is not None for each in piece)
        self._metrics.registrations += written
        self._metrics.registrations_unchanged += len(piece) - written
        return True

    async def _remove(self, piece: Sequence[_Quick], outcomes: dict[int, Outcome]) -> bool:
        keys = [each.key for each in piece]
        recent = self._registry.raw.recent
        with recent.running(), recent.removing(keys):
            done = await self._store.txn(_as_held(piece), [Delete(key) for key in keys])
            if not done.succeeded:
                return False
            recent.note(done.revision, Written("delete"))
        outcomes.update({each.position: done.revision for each in piece})
        self._metrics.deregistrations += len(piece)
        return True

    # ------------------------------------------------------------ one by one

    async def _singly(
        self, operations: Sequence[Operation], positions: Sequence[int], outcomes: dict[int, Outcome]
    ) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def run(position: int) -> None:
            async with gate:
                try:
                    outcomes[position] = await self._single(operations[position])
                except DiscoveryError as error:
                    outcomes[position] = error

        await asyncio.gather(*map(run, positions))

    async def _single(self, operation: Operation) -> Outcome:
        if isinstance(operation, Removal):
            return await self._registry.deregister(operation.path)
        return await self._registry.register(
            operation.path, operation.fields, lease=operation.lease, lease_ttl=operation.lease_ttl
        )


def _as_held(piece: Sequence[_Quick]) -> list[Compare]:
    """That the store has what the view has; and what is not there was not taken out of DNS, either."""
    found, mod = [], Target.MOD
    for each in piece:
        if each.held is not None:
            found.append(Compare(each.key, mod, "=", each.held.revision))
        else:
            found.append(Compare(each.key, mod, "=", 0))
            found.append(Compare(drained.drained_key(each.key), mod, "=", 0))
    return found


def _has_own_lease(held: Record) -> bool:
    """Whether taking the record off its lease may end that lease."""
    own = held.fields is not None and held.fields.own_lease
    return held.lease != 0 and (own or is_own_lease(held.key, held.lease))


def _revision(outcome: Outcome) -> int:
    if isinstance(outcome, Registered):
        return outcome.revision
    return outcome if isinstance(outcome, int) else 0

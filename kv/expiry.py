"""The leases of a running store: renewed, noted, guarded, and ended when their time is over.

Owns the way from the wheel (leases) to the disk and back: expiry in chunks, the notes of long leases (remaining),
and what the guard decides. It holds no rules of time or of mass expiry itself, and no SQL. How: nothing here runs
by itself; the store's housekeeping calls `expire_due` and `note_due`, and its pulse `look_for_stall`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from discovery.kv.contract import Lease, LeaseNotFound, NoSpace, Unavailable
from discovery.kv.group import WriteGroup
from discovery.kv.guard import Guard, Pulse, mass_expiries
from discovery.kv.leases import TICK, LeaseWheel
from discovery.kv.marker import Marker
from discovery.kv.remaining import LONG, LongLeases
from discovery.kv.rows import ReadView

EXPIRY_CHUNK = 200
"""Leases that end in one transaction: about 2 ms, and other writes take their turn between two of them."""

NOTED_CHUNK = 1_000
"""Long leases whose remaining time is noted in one transaction, for the same reason."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class WriteCall(Protocol):
    async def __call__(self, job: Callable[[WriteGroup], T], /) -> T: ...


class ReadCall(Protocol):
    async def __call__(self, job: Callable[[ReadView], T], /) -> T: ...


class Leases:
    """`stalls`, `held`, `expired`: see Status. `write` and `read` do a job in the store's threads."""

    def __init__(
        self,
        write: WriteCall,
        read: ReadCall,
        clock: Callable[[], float],
        pulse_clock: Callable[[], float],
        guard: Guard | None,
    ) -> None:
        self.stalls = 0
        self.held = 0
        self.expired = 0
        self._write = write
        self._read = read
        self._clock = clock
        self._pulse_clock = pulse_clock
        self._guard = guard
        self._pulse = Pulse(TICK)
        self._wheel = LeaseWheel()
        self._long = LongLeases(clock())
        self._expiring = asyncio.Lock()
        self._noting = asyncio.Lock()
        self._stale = False  # notes on disk may say less than what leases have, and are to be cleared

    def __len__(self) -> int:
        return len(self._wheel)

    def ids(self) -> list[int]:
        return self._wheel.ids()

    def load(self, leases: Iterable[tuple[int, int, int | None]], marker: Marker) -> None:
        """What the disk had at the start: id, TTL, and the seconds left where they are noted."""
        now = self._clock()
        self._marker = marker
        self._stale = not marker.there
        for lease_id, ttl, noted in leases:
            left = noted if marker.there else None
            self._wheel.grant(lease_id, ttl, now, left)
            self._long.grant(lease_id, ttl, noted=left is not None)

    def publish(self, leases: Sequence[Lease]) -> None:
        """What a commit granted and ended (a TTL of 0), in this order."""
        now = self._clock()
        for lease in leases:
            if lease.ttl:
                self._wheel.grant(lease.id, lease.ttl, now)
                self._long.grant(lease.id, lease.ttl)
            else:
                self._wheel.revoke(lease.id)
                self._long.revoke(lease.id)

    async def keepalive(self, lease_id: int) -> int:
        """As the store's."""
        ttl = self._wheel.keepalive(lease_id, self._clock())
        if ttl > LONG:
            await self._forget_notes([lease_id])
        return ttl

    async def keepalive_many(self, lease_ids: Sequence[int]) -> list[int]:
        """As the store's."""
        now, keepalive = self._clock(), self._wheel.keepalive
        gone, long = list[int](), list[int]()
        for lease_id in lease_ids:
            ttl = keepalive(lease_id, now)
            if not ttl:
                gone.append(lease_id)
            elif ttl > LONG:
                long.append(lease_id)
        await self._forget_notes(long)
        return gone

    def remaining(self, lease_id: int) -> tuple[int, int]:
        """As the store's `lease_ttl`."""
        found = self._wheel.remaining(lease_id, self._clock())
        if found is None:
            raise LeaseNotFound(f"lease {lease_id} does not exist, or its time is over: grant a new one")
        return found[0], math.ceil(found[1])

    # ---- the end of leases

    async def expire_due(self) -> int:
        """As the store's."""
        async with self._expiring:
            count = 0
            while True:
                self.look_for_stall()
                more = self._wheel.advance(self._clock())
                while chunk := self._wheel.due(EXPIRY_CHUNK):
                    if self._guard is not None and await self._hold_back(chunk, self._guard):
                        continue
                    still_due = self._wheel.still_due(chunk)  # the guard's look took its time
                    ended = await self._write(partial(WriteGroup.expire_due, lease_ids=still_due))
                    count += ended
                    self.expired += ended
                if not more:
                    return count
                await asyncio.sleep(0)

    def look_for_stall(self) -> None:
        """Renews every lease when this process did not run. To be called every TICK."""
        if self._guard is None:
            return
        gap = self._pulse.stalled(self._pulse_clock())
        if gap:
            self._wheel.renew_all(self._clock())
            self._stale = True
            self.stalls += 1
            log.warning("nothing ran here for %.1f s: every lease has its full TTL again", gap)

    async def _hold_back(self, due: Sequence[int], guard: Guard) -> bool:
        """Whether leases of a mass expiry got one TTL more: the due ones, and all that run out with them."""
        groups = await self._read(partial(ReadView.groups, lease_ids=due, group_of=guard.group_of))
        now, held = self._clock(), list[int]()
        for mass in list(mass_expiries(groups, lambda lease: self._wheel.runs_out(lease, now), guard.share)):
            more = [lease for lease in mass.leases if self._wheel.hold(lease, now)]
            if more:
                held += more
                name = mass.group.decode(errors="backslashreplace")
                log.warning(
                    "%d of %d keys below %s run out at once: their %d leases get one TTL more",
                    *(mass.out, mass.keys, name, len(more)),
                )
        self.held += len(held)
        await self._forget_notes(held)
        return bool(held)

    # ---- long leases over restarts

    async def note_due(self) -> None:
        """Notes the remaining time of long leases, when it is time to; clears notes that no longer hold."""
        async with self._noting:
            if self._stale:
                await self._write(WriteGroup.clear_notes)
                self._long.forget_all()
                self._stale = False
            if ids := self._long.due(self._clock()):
                await self._marker.make()
                await self._note(ids)

    async def _note(self, ids: Sequence[int]) -> None:
        for first in range(0, len(ids), NOTED_CHUNK):
            now, notes = self._clock(), list[tuple[int, int | None]]()
            for lease_id in ids[first : first + NOTED_CHUNK]:
                found = self._wheel.remaining(lease_id, now)
                if found is not None:
                    self._long.note(lease_id)
                    notes.append((lease_id, math.ceil(found[1])))
            await self._write(partial(WriteGroup.keep_remaining, remaining=notes))

    async def _forget_notes(self, lease_ids: Sequence[int]) -> None:
        """Takes the notes off the disk of leases that have their full TTL now, or more.

        When the disk takes no write none counts from here on: a heartbeat succeeds, and no crash ends its lease early.
        """
        noted = [(lease_id, number) for lease_id in lease_ids if (number := self._long.noted(lease_id))]
        if noted:
            full = [(lease_id, None) for lease_id, _ in noted]
            try:
                await self._write(partial(WriteGroup.keep_remaining, remaining=full))
            except (NoSpace, Unavailable):
                if not await self._marker.take_away():
                    raise
                self._stale = True  # until the housekeeping can clear them, no note counts
                return
            for lease_id, number in noted:
                self._long.forget(lease_id, number)

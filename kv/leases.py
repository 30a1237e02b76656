"""The time of leases: who is alive, until when, and whose time is over.

Owns every lease's deadline, in memory. It never does I/O, reads no clock (`now`, in seconds of any monotonic
clock, is an argument) and never ends a lease by itself: it names the due ones until it is told they are revoked.

How: a lazy wheel. A lease is filed under the first tick of 0.5 s at or after its deadline. A keep-alive only
moves the deadline; when the old tick comes, a lease that was renewed meanwhile is filed anew. So a keep-alive
is one dict look-up, nothing ends early, and one `advance` looks at a bounded number of leases. Renewing all at
once is one number, which every deadline is measured against.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from itertools import islice

import msgspec

TICK = 0.5
"""Seconds between two ticks: a lease becomes due at most this much after its deadline."""

LOOKS = 2_000
"""Leases one `advance` looks at, so that a million with one deadline never hold up the event loop."""


class _Entry(msgspec.Struct, gc=False):
    """gc=False: a million of these would make every full garbage collection slow; they hold no references."""

    ttl: int
    deadline: float
    tick: int


class LeaseWheel:
    """All living leases. A lease whose time is over is *due* until `revoke`, and can't be renewed any more."""

    def __init__(self) -> None:
        self._living: dict[int, _Entry] = {}
        self._due: dict[int, int] = {}  # id -> ttl, in the order they became due
        self._filed: dict[int, list[int]] = {}  # tick -> ids
        self._ticks: list[int] = []  # heap of the keys of _filed
        self._tick = 0  # the tick being looked at
        self._rest: list[int] = []  # its ids not looked at yet
        self._renewed = -math.inf  # when all were renewed
        self._held: set[int] = set()  # got one TTL more, and no keep-alive since

    def __len__(self) -> int:
        return len(self._living) + len(self._due)

    def grant(self, lease_id: int, ttl: int, now: float, left: float | None = None) -> None:
        """A new lease that lives `ttl` seconds from `now`; one from before a restart, the `left` seconds it had."""
        self.revoke(lease_id)
        deadline = now + (ttl if left is None else left)
        tick = math.ceil(deadline / TICK)
        self._living[lease_id] = _Entry(ttl, deadline, tick)
        self._file(lease_id, tick)

    def keepalive(self, lease_id: int, now: float) -> int:
        """The TTL, with all of it ahead again; 0 when the lease is gone or its expiry is under way."""
        entry = self._living.get(lease_id)
        if entry is None:
            return 0
        entry.deadline = now + entry.ttl
        if self._held:
            self._held.discard(lease_id)
        return entry.ttl

    def renew_all(self, now: float) -> None:
        """Every living lease has its full TTL ahead again."""
        self._renewed = now

    def hold(self, lease_id: int, now: float) -> bool:
        """One TTL more, even for a due lease; False when it has had that already, without a keep-alive since."""
        if lease_id in self._held:
            return False
        ttl = self._due.pop(lease_id, None)
        if ttl is not None:
            self.grant(lease_id, ttl, now)
        else:
            entry = self._living[lease_id]
            entry.deadline = self._deadline(entry) + entry.ttl
        self._held.add(lease_id)
        return True

    def runs_out(self, lease_id: int, now: float) -> bool:
        """Whether its time is over or less than half of it is left: a lease that is renewed in thirds never is so."""
        entry = self._living.get(lease_id)
        return lease_id in self._due if entry is None else self._deadline(entry) - now < entry.ttl / 2

    def revoke(self, lease_id: int) -> None:
        """Forgets the lease, living or due; nothing happens when there is none."""
        if self._living.pop(lease_id, None) is None:
            self._due.pop(lease_id, None)
        self._held.discard(lease_id)

    def remaining(self, lease_id: int, now: float) -> tuple[int, float] | None:
        """(ttl, seconds left, 0.0 when its time is over), or None when there is no such lease."""
        entry = self._living.get(lease_id)
        if entry is not None:
            return entry.ttl, max(0.0, self._deadline(entry) - now)
        ttl = self._due.get(lease_id)
        return None if ttl is None else (ttl, 0.0)

    def ids(self) -> list[int]:
        return [*self._living, *self._due]

    def advance(self, now: float) -> bool:
        """Makes due what is over at `now`, looking at LOOKS leases at most; True: there is more to look at."""
        last = math.floor(now / TICK)
        looks = LOOKS
        while True:
            if not self._rest:
                if not self._ticks or self._ticks[0] > last:
                    return False
                if looks <= 0:
                    return True
                self._tick = heapq.heappop(self._ticks)
                self._rest = self._filed.pop(self._tick)
            looked = self._rest[-looks:]
            del self._rest[-looks:]
            looks -= len(looked)
            self._look_at(looked, now)
            if self._rest:
                return True

    def due(self, limit: int) -> list[int]:
        """At most `limit` due leases, longest due first. They are named again until `revoke`."""
        return list(islice(self._due, limit))

    def still_due(self, ids: Iterable[int]) -> list[int]:
        return [lease_id for lease_id in ids if lease_id in self._due]

    def _look_at(self, ids: list[int], now: float) -> None:
        living, current = self._living, self._tick
        for lease_id in ids:
            entry = living.get(lease_id)
            if entry is None or entry.tick != current:
                continue  # revoked; or revoked and granted anew, which filed it elsewhere
            deadline = self._deadline(entry)
            if deadline <= now:
                del living[lease_id]
                self._due[lease_id] = entry.ttl
            else:
                entry.tick = math.ceil(deadline / TICK)
                self._file(lease_id, entry.tick)

    def _deadline(self, entry: _Entry) -> float:
        return max(entry.deadline, self._renewed + entry.ttl)

    def _file(self, lease_id: int, tick: int) -> None:
        filed = self._filed.get(tick)
        if filed is None:
            self._filed[tick] = [lease_id]
            heapq.heappush(self._ticks, tick)
        else:
            filed.append(lease_id)

"""Guard against mass expiry: when it is likelier that we are wrong than that all of them are gone.

Owns two judgements. A stall: this process did not run for a while (SIGSTOP, a suspended machine), so that nobody
could renew anything. A mass expiry: most of what belongs together falls silent at once, which a network does more
often than the services do. Pure: `now`, in seconds of any monotonic clock, is an argument; what belongs together
is told by a function, for the store knows nothing of services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

STALL = 1.0
"""Seconds a tick may come late; more is a stall."""

LEAST = 3
"""Keys that run out together at least, for it to be a mass expiry."""


class Guard(msgspec.Struct, frozen=True):
    """`group_of` gives the prefix that a key's group has in common, b"" for a key of no group; the group's keys are
    those that it gives the same prefix. `share` (0 to 1): when more of a group run out at once, they are held.
    """

    share: float
    group_of: Callable[[bytes], bytes]


class Pulse:
    """Shown the time every `every` seconds, and whenever it matters, it tells when the process did not run."""

    def __init__(self, every: float) -> None:
        self._longest = every + STALL
        self._seen: float | None = None

    def stalled(self, now: float) -> float:
        """How long nothing ran, when that was a stall; else 0.0."""
        gap = now - self._seen if self._seen is not None else 0.0
        self._seen = now
        return gap if gap > self._longest else 0.0


class MassExpiry(msgspec.Struct, frozen=True):
    """`out` of the `keys` of `group` run out within one window, all of them on `leases`."""

    group: bytes
    out: int
    keys: int
    leases: frozenset[int]


def mass_expiries(
    groups: Mapping[bytes, Sequence[int]], runs_out: Callable[[int], bool], share: float
) -> Iterator[MassExpiry]:
    """Those of the groups that fall silent as one. `groups`: the lease of each key of each group, 0 for none."""
    for group, leases in groups.items():
        out = [lease for lease in leases if lease and runs_out(lease)]
        if len(out) >= LEAST and len(out) > share * len(leases):
            yield MassExpiry(group, len(out), len(leases), frozenset(out))

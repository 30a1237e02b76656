"""Long leases over restarts: which of them have their remaining time on disk.

Owns that bookkeeping, not the time (leases) nor the rows (group). A restart gives every lease its full TTL again;
for leases over LONG seconds a node that crashes again and again would so keep everything for ever. Their remaining
time is therefore noted every EVERY seconds. The first keep-alive after a note takes it off the disk before it is
answered, so that no restart ends a lease earlier than it would have ended without. Pure: `now` is an argument.
"""

from __future__ import annotations

LONG = 300
"""Seconds; a lease of a greater TTL has its remaining time noted."""

EVERY = 300.0
"""Seconds between two notes."""


class LongLeases:
    """Their ids, each with the number of the note that is on disk; 0: none is."""

    def __init__(self, now: float) -> None:
        self._notes: dict[int, int] = {}
        self._turn = 1
        self._next = now + EVERY

    def grant(self, lease_id: int, ttl: int, *, noted: bool = False) -> None:
        if ttl > LONG:
            self._notes[lease_id] = 1 if noted else 0

    def revoke(self, lease_id: int) -> None:
        self._notes.pop(lease_id, None)

    def due(self, now: float) -> list[int]:
        """All of them when it is time for notes, else none."""
        if now < self._next:
            return []
        self._next = now + EVERY
        self._turn += 1
        return list(self._notes)

    def note(self, lease_id: int) -> None:
        """To be called before the note is on its way to the disk."""
        if lease_id in self._notes:
            self._notes[lease_id] = self._turn

    def noted(self, lease_id: int) -> int:
        """The number of its note, for `forget`."""
        return self._notes.get(lease_id, 0)

    def forget_all(self) -> None:
        """No note on the disk counts any more."""
        self._notes = dict.fromkeys(self._notes, 0)

    def forget(self, lease_id: int, number: int) -> None:
        """That note is off the disk; a later one stays."""
        if self._notes.get(lease_id) == number:
            self._notes[lease_id] = 0

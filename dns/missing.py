"""Names that do not exist, told with little work: the common attack is a flood of them.

Owns the answers to plain names (`plain`) whose way down the tree ends before the name does. All of them for names of
one zone and length are one, byte for byte behind the question, so they are made once, by `synthesis`, for each type
that is counted by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from discovery.dns.answer import Prepared
from discovery.dns.source import Path, Source
from discovery.dns.zone import Zone

MOST = 1000  # answers that are kept; a flood of all lengths and types begins them anew


class Missing:
    """The answers, by zone, length of the name and kind, as they are in one epoch and at one serial."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._made: dict[tuple[Path, int, int], tuple[int, int, Prepared]] = {}

    def answer(self, zone: Zone, size: int, kind: int, make: Callable[[], Prepared]) -> Prepared:
        """What `make` makes for such a name of `size` bytes in the zone, or has made for another.

        `kind`: what it is counted as (`counters`).
        """
        epoch, serial = self._source.epoch.version, self._source.serial(zone.apex)
        kept = self._made.get((zone.apex, size, kind))
        if kept is None or kept[0] != epoch or kept[1] != serial:
            if len(self._made) >= MOST:
                self._made.clear()
            kept = self._made[zone.apex, size, kind] = (epoch, serial, make())
            kept[2].shared = True
        return kept[2]

"""Names that do not exist, told with little work: the common attack is a flood of them.

Owns the answers to plain names (`plain`) whose way down the tree ends before the name does. All of them for names of
one zone and length are one, byte for byte behind the question, so they are made once, by `synthesis`.
"""

from __future__ import annotations

from collections.abc import Callable

from discovery.dns.answer import Prepared
from discovery.dns.source import Path, Source
from discovery.dns.zone import Zone


class Missing:
    """The answers, by zone and length of the name, as they are in one epoch and at one serial."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._made: dict[tuple[Path, int], tuple[int, int, Prepared]] = {}

    def answer(self, zone: Zone, size: int, make: Callable[[], Prepared]) -> Prepared:
        """What `make` makes for such a name of `size` bytes in the zone, or has made for another."""
        epoch, serial = self._source.epoch.version, self._source.serial(zone.apex)
        kept = self._made.get((zone.apex, size))
        if kept is None or kept[0] != epoch or kept[1] != serial:
            kept = self._made[zone.apex, size] = (epoch, serial, make())
            kept[2].shared = True
        return kept[2]

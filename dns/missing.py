"""Names that do not exist, told with little work: the common attack is a flood of them.

Owns the short way to NXDOMAIN: a name in a zone, without a label that steers a question and outside of `dns.D`, whose
way down the tree ends before the name does. What is not plainly so is left to `synthesis`, which must say the same.
All such answers for names of one zone and length are one, byte for byte behind the question, so they are made once.
"""

from __future__ import annotations

from collections.abc import Callable

from discovery.dns import wire
from discovery.dns.answer import Prepared
from discovery.dns.matching import PROTOCOLS, TAG, WILDCARDS
from discovery.dns.source import Branch, Path, Source
from discovery.dns.synthesis import TRANSFERS
from discovery.dns.zone import Zones

STEERING = WILDCARDS | PROTOCOLS | {TAG}
ODD_TYPES = TRANSFERS | {wire.OPT}


def end_of(path: Path, qtype: int, source: Source, zones: Zones) -> Branch | None:
    """The deepest branch on the way to a name that plainly does not exist; None for all others."""
    if not STEERING.isdisjoint(path) or qtype in ODD_TYPES:
        return None
    zone = zones.closest(path)
    if zone is None or path == zone.apex or path[0] == b"arpa" or path[: len(zone.dns)] == zone.dns:
        return None
    branch = source.root
    for label in path:
        below = branch.child(label)
        if below is None:
            return branch
        branch = below
    return None


class Missing:
    """The answers, by zone and length of the name, as they are in one epoch and at one serial."""

    def __init__(self, source: Source, zones: Zones) -> None:
        self._source = source
        self._zones = zones
        self._made: dict[tuple[Path, int], tuple[int, int, Prepared]] = {}

    def answer(self, path: Path, size: int, make: Callable[[], Prepared]) -> Prepared:
        """What `make` makes for such a name of `size` bytes, or has made for another."""
        zone = self._zones.closest(path)
        assert zone is not None
        epoch, serial = self._source.epoch.version, self._source.serial(zone.apex)
        kept = self._made.get((zone.apex, size))
        if kept is None or kept[0] != epoch or kept[1] != serial:
            kept = self._made[zone.apex, size] = (epoch, serial, make())
            kept[2].shared = True
        return kept[2]

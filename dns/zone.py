"""Zones: where one begins, and what its records get when a service sets nothing.

Owns the values a zone is configured with and the choice of the zone that a name belongs to (the closest one
above it). It never sees services.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec

from discovery.dns.source import Path

# RFC 1912 section 2.2 ranges; nobody transfers this zone by these, they are for resolvers and checkers.
SOA_REFRESH, SOA_RETRY, SOA_EXPIRE = 3600, 600, 604800


class Zone(msgspec.Struct, frozen=True, dict=True):
    """TTLs in seconds. `local`: the name that `local.dns.D` stands for. `reverse`: PTR by themselves."""

    apex: Path
    ttl: int = 5
    negative_ttl: int = 2
    priority: int = 10
    weight: int = 100
    hostmaster: Path = ()
    local: Path | None = None
    reverse: bool = False

    @cached_property
    def dns(self) -> Path:
        """`dns.D`, below which the zone's own entries lie."""
        return (*self.apex, b"dns")

    @cached_property
    def ns(self) -> Path:
        return (*self.apex, b"dns", b"ns")

    @cached_property
    def rname(self) -> Path:
        """The SOA's mailbox (RFC 1035 section 3.3.13)."""
        return self.hostmaster or (*self.apex, b"hostmaster")


class Zones:
    """The configured zones; the first one's defaults hold for keys outside all of them."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self.first = zones[0]
        self.all = tuple(zones)
        self._by_apex = {zone.apex: zone for zone in reversed(zones)}
        self.divided = frozenset(  # apexes of zones with another inside
            outer.apex
            for outer in zones
            for inner in zones
            if len(inner.apex) > len(outer.apex) and inner.apex[: len(outer.apex)] == outer.apex
        )
        self._lengths = sorted({len(zone.apex) for zone in zones}, reverse=True)

    def closest(self, path: Path) -> Zone | None:
        """The zone that a name belongs to; None outside every zone."""
        for length in self._lengths:
            zone = self._by_apex.get(path[:length])
            if zone is not None:
                return zone
        return None

    def defaults(self, path: Path) -> Zone:
        """The zone whose defaults a stored key takes."""
        return self.closest(path) or self.first

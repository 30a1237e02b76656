"""The values that answering is made of: records, RRsets and the answer as sections.

Owns these types and the small rules that hold for any answer: no section holds a record twice, all records of
the answer section share the least TTL, an RRset in additional has its least TTL (RFC 2181 section 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from discovery.dns import wire
from discovery.dns.source import Branch, Path, Record
from discovery.dns.zone import Zone


class RR(NamedTuple):
    """One record; a Path in `rdata` is a name that may be compressed."""

    owner: Path
    rtype: int
    ttl: int
    rdata: tuple[bytes | Path, ...]
    rclass: int = wire.IN


class Node(msgspec.Struct, frozen=True):
    """This node as its zones' name server: its label and its addresses (4 or 16 bytes each)."""

    label: bytes = b""
    addresses: tuple[bytes, ...] = ()


class Answer:
    """An answer as sections. `first` keeps its order and stands before `rotating`; of `additional` each list is sent
    whole or not at all.

    `stamps`: the branches it was made from, with the versions they had; `cut`: `max_matched` left services out.
    `passing`: nobody stored what was asked for; such questions can be made up without end.
    `outside`: the question lies in no zone; `wanted`: outside names it would be fuller with, if somebody resolved them.
    """

    __slots__ = (
        "additional",
        "authoritative",
        "authority",
        "cut",
        "first",
        "outside",
        "passing",
        "rcode",
        "rotating",
        "stamps",
        "wanted",
    )

    def __init__(self) -> None:
        self.rcode = wire.NOERROR
        self.authoritative = False
        self.first: list[RR] = []
        self.rotating: list[RR] = []
        self.authority: list[RR] = []
        self.additional: list[list[RR]] = []
        self.stamps: tuple[tuple[Branch, int], ...] = ()
        self.cut = False
        self.outside = False
        self.passing = False
        self.wanted: tuple[Path, ...] = ()

    def settle(self) -> None:
        """Takes doubles out of the answer section and gives all of it the least TTL."""
        ttls = {record.ttl for record in self.first}
        ttls.update([record.ttl for record in self.rotating])
        if len(ttls) > 1:
            least = min(ttls)
            self.first = [record._replace(ttl=least) for record in self.first]
            self.rotating = [record._replace(ttl=least) for record in self.rotating]
        if len(self.first) > 1:
            self.first = list(dict.fromkeys(self.first))
        if len(self.rotating) > 1:
            self.rotating = list(dict.fromkeys(self.rotating))

    def limit_ttl(self, limit: int) -> None:
        """Lowers every TTL above `limit` seconds."""

        def lowered(records: list[RR]) -> list[RR]:
            return [record._replace(ttl=min(record.ttl, limit)) for record in records]

        self.first, self.rotating, self.authority = map(lowered, (self.first, self.rotating, self.authority))
        self.additional = [lowered(rrset) for rrset in self.additional]


def rrsets(records: Iterable[RR]) -> list[list[RR]]:
    """Records gathered by owner and type in order of appearance, doubles dropped, each set with its least TTL."""
    sets: dict[tuple[Path, int], list[RR]] = {}
    for record in records:
        held = sets.setdefault((record[0], record[1]), [])
        held.append(record)
    return [held if len(held) == 1 else _rrset(held) for held in sets.values()]


def _rrset(records: list[RR]) -> list[RR]:
    least = min(record.ttl for record in records)
    return list(dict.fromkeys(record._replace(ttl=least) for record in records))


def bundles(sets: Sequence[list[RR]]) -> list[list[RR]]:
    """RRsets as they may be sent: each for itself, but CNAMEs only together with the addresses they lead to."""
    aliases = {rrset[0][0]: rrset[0].rdata[0] for rrset in sets if rrset[0][1] == wire.CNAME}
    if not aliases:
        return list(sets)

    def end_of(name: bytes | Path) -> bytes | Path:
        for _ in aliases:
            if name not in aliases:
                break
            name = aliases[name]
        return name

    ends = {end_of(owner) for owner in aliases}
    together: dict[object, list[RR]] = {}
    for rrset in sets:
        end = end_of(rrset[0].owner)
        together.setdefault(end if end in ends else (end, rrset[0].rtype), []).extend(rrset)
    return list(together.values())


def number(record: Record, field: str, zone: Zone) -> int:
    """`priority`, `weight` or `ttl` of a service, the zone's default where it sets none."""
    value = getattr(record.fields, field) or getattr(zone, field)
    assert isinstance(value, int)
    return value


def host_of(record: Record) -> bytes | Path | None:
    """A service's host: the address, or the folded name; None when it gives only TXT."""
    return record.address if record.address is not None else record.target

"""Which services a name stands for.

Owns the meaning of names (names.md, "Names and keys"): subtrees, wildcards, tags, named ports, groups. It reads the
view through `dns.source` and notes in `stamps` every branch it relied on, so that an answer made from it can be
kept for as long as those stand. It never looks at record types beyond what a name itself says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from discovery.dns import wire
from discovery.dns.source import Branch, Fields, Path, Record, Source
from discovery.dns.zone import Zone, Zones

WILDCARDS = frozenset((b"*", b"any"))
SRV_ONLY = frozenset((wire.SRV,))
PROTOCOLS = frozenset((b"_tcp", b"_udp"))


class Match:
    """What a name stands for. `records`: the readable services, in key order.

    `port_name`: a named port that the name asked for (`http`, `dns/udp`); `only`: it has no other types than these.
    `alone`: one service stands at exactly this name and nothing below it.
    """

    __slots__ = ("alone", "exists", "only", "port_name", "records", "wild")

    def __init__(
        self,
        exists: bool,
        records: Iterable[Record] = (),
        *,
        wild: bool = False,
        port_name: str = "",
        only: frozenset[int] | None = None,
    ) -> None:
        self.exists = exists
        self.records = records
        self.alone = False
        self.wild = wild
        self.port_name = port_name
        self.only = only


class Matcher:
    """Looks names up in one state of the view, for one answer. `cut` tells that `max_matched` left services out."""

    def __init__(self, source: Source, zones: Zones, max_matched: int) -> None:
        self._source = source
        self._zones = zones
        self._max = max_matched
        self.stamps: dict[Branch, int] = {}
        self.cut = False

    def match(self, path: Path) -> Match:
        """What `path` stands for, inside a zone or outside of all (where only stored keys count)."""
        match = self._match(path)
        taken = list(islice(match.records, self._max + 1))
        if len(taken) > self._max:
            self.cut = True
            taken.pop()
        match.alone = len(taken) == 1 and taken[0].path == path
        match.records = grouped(taken)
        return match

    def find(self, path: Path, root: Branch | None = None) -> Branch | None:
        """The branch at exactly `path`; notes it, or the deepest one that exists above it."""
        branch = self._source.root if root is None else root
        for label in path:
            below = branch.child(label)
            if below is None:
                self.stamps[branch] = branch.version
                return None
            branch = below
        self.stamps[branch] = branch.version
        return branch

    # ------------------------------------------------------------ before `max_matched` and groups

    def _match(self, path: Path) -> Match:
        zone = self._zones.closest(path)
        depth = len(path) if zone is None else len(zone.apex)
        wild = next((at for at in range(depth, len(path)) if path[at] in WILDCARDS), None)
        if wild is None:
            branch = self.find(path)
            if branch is not None:
                return Match(True, _readable(branch.walk()))
        if zone is None or len(path) == depth:
            return Match(False)
        special = self._special(path, zone)
        if special is not None:
            return special
        if wild is None:
            return Match(False)
        above = self.find(path[:wild])
        if above is None:
            return Match(path[:wild] in (zone.apex, zone.dns), wild=True)
        return Match(True, _readable(_expand(above, path[wild:])), wild=True)

    def _special(self, path: Path, zone: Zone) -> Match | None:
        """A name that says how to choose among the services of the name above it, or None."""
        label, above = path[-1], path[-2] if len(path) >= len(zone.apex) + 2 else b""
        if above == b"tag":
            return self._tagged(path[:-2], label)
        if above in PROTOCOLS and label[:1] == b"_":
            return self._named_port(path[:-2], label[1:], above)
        if label == b"tag" or label in PROTOCOLS:
            service = self._match(path[:-1])
            return Match(service.exists, wild=service.wild)
        return None

    def _tagged(self, path: Path, tag: bytes) -> Match:
        """`TAG.tag.SERVICE`: the instances that carry the tag."""
        service = self._match(path)
        wanted = tag.decode("utf-8", "surrogateescape")
        found = self._chosen(service, lambda fields: wanted in fields.tags)
        return Match(bool(found) or (service.exists and service.wild), found, wild=service.wild)

    def _named_port(self, path: Path, label: bytes, protocol: bytes) -> Match:
        """`_name._proto.SERVICE` (RFC 2782): the instances with that named port, else the service `name.SERVICE`."""
        name = label.decode("utf-8", "surrogateescape")
        port_name = f"{name}/udp" if protocol == b"_udp" else name
        service = self._match(path)
        found = self._chosen(service, lambda fields: port_name in fields.ports)
        if found:
            return Match(True, found, wild=service.wild, port_name=port_name, only=SRV_ONLY)
        named = self._match((*path, label)) if label else Match(False)
        named.only = SRV_ONLY
        return named

    def _chosen(self, service: Match, wanted: Callable[[Fields], bool]) -> list[Record]:
        chosen = (record for record in service.records if record.fields is not None and wanted(record.fields))
        return list(islice(chosen, self._max + 1))


def _readable(records: Iterable[Record]) -> Iterator[Record]:
    return (record for record in records if record.fields is not None)


def _expand(branch: Branch, pattern: Path) -> Iterator[Record]:
    if not pattern:
        yield from branch.walk()
    elif pattern[0] in WILDCARDS:
        for child in branch.ordered():
            yield from _expand(child, pattern[1:])
    else:
        below = branch.child(pattern[0])
        if below is not None:
            yield from _expand(below, pattern[1:])


def grouped(records: Sequence[Record]) -> Sequence[Record]:
    """The services that the group in force leaves (names.md, "Groups"); all are readable, in key order.

    The first one's group applies; a service at a shorter key with a group replaces it; a shorter key without
    one ends the walk. When the level that set the group holds another group too, all are returned.
    """
    if not any(group_of(record) for record in records):
        return records
    group, level = group_of(records[0]), len(records[0].path)
    for record in records:
        if len(record.path) < level:
            if not group_of(record):
                break
            group, level = group_of(record), len(record.path)
    if not group:
        return records
    if any(len(record.path) == level and group_of(record) not in ("", group) for record in records):
        return records
    return [record for record in records if group_of(record) in ("", group)]


def group_of(record: Record) -> str:
    return record.fields.group if record.fields is not None else ""

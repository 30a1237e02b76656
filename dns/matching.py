"""Which services a name stands for.

Owns the meaning of names (names.md, "Names and keys"): subtrees, wildcards, tags, named ports, groups, and the names
that exist by themselves. It reads the view through `dns.source` and notes in `stamps` every branch it relied on, so
that an answer made from it can be kept for as long as those stand. It never looks at record types beyond what a name
itself says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

from discovery.dns import wire
from discovery.dns.own import OWN_TYPES, OwnRecord
from discovery.dns.records import Node, host_of
from discovery.dns.source import Branch, Fields, Path, Record, Source
from discovery.dns.trace import NO_TRACE, Trace
from discovery.dns.zone import Zone, Zones

WILDCARDS = frozenset((b"*", b"any"))
SEARCHED = 4  # times `max_matched` names and services that are looked through for one answer, to find those that match
SEARCHED_LEAST = 1000
NO_WILDCARD = WILDCARDS | {b""}
SRV_ONLY = frozenset((wire.SRV,))
PROTOCOLS = frozenset((b"_tcp", b"_udp"))
TAG = b"tag"

T = TypeVar("T")


class Match:
    """What a name stands for. `records`: the readable services, in key order.

    `port_name`: a named port that the name asked for (`http`, `dns/udp`); `only`: it has no other types than these.
    `alone`: one service stands at exactly this name and nothing below it. `lost`: all its services are gone, and
    nobody remembers their tags and ports. `branch`: where `records` are all that is readable at or below it.
    """

    __slots__ = ("alone", "branch", "exists", "lost", "only", "port_name", "records", "wild")

    def __init__(
        self,
        exists: bool,
        records: Iterable[Record] = (),
        *,
        wild: bool = False,
        lost: bool = False,
        only: frozenset[int] | None = None,
        branch: Branch | None = None,
    ) -> None:
        self.exists = exists
        self.records = records
        self.branch = branch
        self.alone = False
        self.wild = wild
        self.lost = lost
        self.port_name = ""
        self.only = only


class Matcher:
    """Looks names up in one state of the view, for one answer. `cut` tells that `max_matched` left services out.

    What one question may cost is bounded, too, where it matches little of much: by SEARCHED.
    """

    def __init__(
        self, source: Source, zones: Zones, node: Node, max_matched: int, trace: Trace = NO_TRACE
    ) -> None:
        self._source = source
        self._zones = zones
        self._node = node
        self.max = max_matched
        self.trace = trace
        self.stamps: dict[Branch, int] = {}
        self.cut = False
        self._most = max(SEARCHED * max_matched, SEARCHED_LEAST)
        self._left = self._most  # that may still be looked through
        self._room = self._most  # services that may still be taken, behind the names that are followed, too
        self._gave_up = False

    def match(self, path: Path) -> Match:
        """What `path` stands for, inside a zone or outside of all (where only stored keys count)."""
        place = self.place_of(path)
        match = self._match(place)
        whole = match.branch
        room = min(self.max, self._room)
        taken = self._gather(whole, room) if whole is not None else list(islice(match.records, room + 1))
        self._room -= min(len(taken), room)
        if len(taken) > room:
            self.cut = True
            taken.pop()
            self.trace.remark(
                f"more than {room} services match (dns.max_matched): the first of them are used"
                if room == self.max
                else f"{self._most} services were taken (see dns.max_matched), and no more are"
            )
        else:
            single = len(taken) == 1 and taken[0].path == place
            match.alone = single and not match.wild and not self.is_apex(path)
        self.trace.matched(path, taken)
        match.records = grouped(taken, self.trace)
        return match

    def place_of(self, path: Path) -> Path:
        """Where a name's services stand: for `local.dns.D` at the local name, for D at `apex.dns.D`, else there."""
        zone = self._zones.closest(path)
        if zone is not None and zone.local is not None and path == (*zone.dns, b"local"):
            path = zone.local
            zone = self._zones.closest(path)
        return path if zone is None or path != zone.apex else (*zone.dns, b"apex")

    def is_apex(self, path: Path) -> bool:
        zone = self._zones.closest(path)
        return zone is not None and path == zone.apex

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
        wild = None
        if not WILDCARDS.isdisjoint(path):
            wild = next((at for at in range(depth, len(path)) if _is_wild(path, at, depth)), None)
        branch = self.find(path) if wild is None else None
        stored: Iterable[Record] = () if branch is None else self._readable(branch.walk())
        if zone is None:  # a parent of a zone does not stand for what is in the zone
            return Match(
                branch is not None,
                (each for each in self._search(stored) if self._zones.closest(each.path) is None),
            )
        own = self._own(path, zone)
        if own is not None:
            return Match(True, chain(own, stored), only=OWN_TYPES)
        if branch is not None and branch.count:
            return Match(True, stored, branch=branch)
        if path in (zone.apex, zone.dns):
            return Match(True)
        above = self.find(path[:wild]) if wild is not None else None
        if above is not None:
            matched = self._readable(self._expand(above, path[wild:]))
            first = next(matched, None)
            if first is not None:
                return Match(True, chain((first,), matched), wild=True)
        special = self._special(path, zone)
        if special is not None and (special.exists or branch is None):
            return special
        if wild is None:
            return Match(branch is not None, lost=branch is not None)
        return Match(above is not None or self._match(path[:wild]).exists, wild=True)

    def _gather(self, branch: Branch, room: int) -> list[Record]:
        """The first readable records of a branch, one more than `room` at the most."""
        found = branch.gather(room + 1)
        readable = [record for record in found if record.fields is not None]
        if len(readable) < len(found):
            return list(self._readable(found))
        return readable

    def _readable(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if record.fields is not None:
                yield record
            else:
                self.trace.left_out(record, f"unreadable: {record.reason}")

    def _own(self, path: Path, zone: Zone) -> list[OwnRecord] | None:
        """What stands at `ns.dns.D`, and at each live node's name there, for as long as no host is stored below it.

        Where there is no cluster that is this node, which has the name of all itself.
        """
        if path[: len(zone.ns)] != zone.ns or len(path) > len(zone.ns) + 1:
            return None
        nodes = self._source.nodes or ((self._node.label, self._node.addresses),)
        if path != zone.ns:
            nodes = [node for node in nodes if node[0] == path[-1]]
            if not nodes:
                return None
        branch = self.find(zone.ns)
        if branch is not None and any(host_of(record) is not None for record in branch.walk()):
            return None
        alone = not self._source.nodes
        return [
            OwnRecord(path if alone else (*zone.ns, label), address)
            for label, addresses in nodes
            for address in addresses
        ]

    def _special(self, path: Path, zone: Zone) -> Match | None:
        """A name that says how to choose among the services of the name above it, or None."""
        label, above = path[-1], path[-2] if len(path) >= len(zone.apex) + 2 else b""
        if above == TAG:
            return self._tagged(path[:-2], label)
        if above in PROTOCOLS and label[:1] == b"_":
            return self._named_port(path[:-2], label[1:], above)
        if label == TAG or label in PROTOCOLS:
            service = self._match(path[:-1])
            return Match(service.exists, wild=service.wild, lost=service.lost)
        return None

    def _tagged(self, path: Path, tag: bytes) -> Match:
        """`TAG.tag.SERVICE`: the instances that carry the tag."""
        service = self._match(path)
        service.branch = None
        wanted = tag.decode("utf-8", "surrogateescape")
        without = f"it has no tag {wanted!r}"
        is_anywhere = self._source.has_tag(wanted)
        found = self._chosen(service, lambda fields: wanted in fields.tags, without, is_anywhere)
        unsure = service.wild or service.lost or self._gave_up
        service.exists = found is not None or (service.exists and unsure)
        service.records = found or ()
        return service

    def _named_port(self, path: Path, label: bytes, protocol: bytes) -> Match:
        """`_name._proto.SERVICE` (RFC 2782): the instances with that named port, else the service `name.SERVICE`."""
        name = label.decode("utf-8", "surrogateescape")
        port_name = f"{name}/udp" if protocol == b"_udp" else name
        service = self._match(path)
        service.branch = None
        without = f"it has no named port {port_name!r}"
        is_anywhere = self._source.has_port(port_name)
        found = self._chosen(service, lambda fields: port_name in fields.ports, without, is_anywhere)
        if found is not None:
            service.records, service.port_name, service.only = found, port_name, SRV_ONLY
            return service
        named = Match(False) if label in NO_WILDCARD else self._match((*path, label))
        named.exists = named.exists or service.lost or self._gave_up
        named.only = SRV_ONLY
        return named

    def _chosen(
        self, service: Match, wanted: Callable[[Fields], bool], without: str, is_anywhere: bool
    ) -> Iterator[Record] | None:
        """The services that are wanted, or None when there is none; `without` says why others are not.

        Anybody can make up tags and ports without end: those that are not `is_anywhere` cost no search.
        """
        if not is_anywhere:
            if self.trace is not NO_TRACE:
                for record in islice(service.records, self.max):
                    self.trace.left_out(record, without)
            return None

        def choose() -> Iterator[Record]:
            for record in self._search(service.records):
                if record.fields is not None and wanted(record.fields):
                    yield record
                else:
                    self.trace.left_out(record, without)

        chosen = choose()
        first = next(chosen, None)
        return None if first is None else chain((first,), chosen)

    def _expand(self, branch: Branch, pattern: Path) -> Iterator[Record]:
        if not pattern:
            yield from branch.walk()
        elif pattern[0] in WILDCARDS:
            rest = pattern[1:]
            # One look for each, since such names can be made up without end.
            if rest and rest[0] not in WILDCARDS:
                for child in self._search(branch.each()):
                    below = child.child(rest[0])
                    if below is not None:
                        yield from self._expand(below, rest[1:])
                return
            for child in self._search(branch.each()):
                yield from self._expand(child, rest)
        else:
            below = branch.child(pattern[0])
            if below is not None:
                yield from self._expand(below, pattern[1:])

    def _search(self, found: Iterable[T]) -> Iterator[T]:
        """Passes on what is looked through, until the question has cost enough."""
        for each in found:
            if not self._left:
                self.cut = self._gave_up = True
                self.trace.remark(
                    f"{self._most} names and services were looked through (see dns.max_matched), and no more are"
                )
                return
            self._left -= 1
            yield each


def _is_wild(path: Path, at: int, depth: int) -> bool:
    """Whether the label there, below an apex of `depth` labels, is a wildcard; in `any.tag.S` it is a tag's name."""
    return path[at] in WILDCARDS and (at == depth or path[at - 1] != TAG)


def grouped(records: Sequence[Record], trace: Trace = NO_TRACE) -> Sequence[Record]:
    """The services that the group in force leaves (names.md, "Groups"); all are readable, in key order.

    The first one's group applies; a service at a shorter key with a group replaces it; a shorter key without
    one ends the walk. When the level that set the group holds another group too, all are returned.
    """
    if not any(record.fields.group for record in records if record.fields is not None):
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
    kept = []
    for record in records:
        if group_of(record) in ("", group):
            kept.append(record)
        else:
            trace.left_out(record, f"its group is {group_of(record)!r}; the group in force here is {group!r}")
    return kept


def group_of(record: Record) -> str:
    return record.fields.group if record.fields is not None else ""

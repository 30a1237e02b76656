"""Where hosts lead: aliases, flattening, and the addresses behind names.

Owns the rules for a service whose host is a name (names.md, "A host that is a name"). A bare alias is a CNAME;
everything else is flattened into addresses under the name asked. At most MAX_LINKS links are followed and each name
is resolved once an answer, so the work is bounded and loops end by themselves. Names outside every zone are
looked for in the store; what is not there stays a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from discovery.dns import wire
from discovery.dns.matching import Match, Matcher
from discovery.dns.records import RR, Answer, host_of
from discovery.dns.source import Path, Record
from discovery.dns.zone import Zones

MAX_LINKS = 11
LOOP = "the name it points to was followed already: a loop, or another service leads there too"
TOO_LONG = f"more than {MAX_LINKS} links lead there"

Outside = Mapping[Path, Sequence[RR]]
NOTHING: Outside = {}


class Found(NamedTuple):
    """What services lead to. `outside`: (position of the service, TTL, name) of names that nothing resolved."""

    addresses: list[tuple[bytes, int]]
    outside: list[tuple[int, int, Path]]


class Follower:
    """`outside`: what other servers said of outside names; `wanted` gathers those that nobody has asked for yet."""

    def __init__(self, matcher: Matcher, zones: Zones, outside: Outside) -> None:
        self._matcher = matcher
        self._zones = zones
        self._outside = outside
        self.wanted: dict[Path, None] = {}  # a set that keeps its order

    def ttl(self, record: Record) -> int:
        """min(the record's, its lease's granted TTL); the zone's where the record sets none."""
        fields, lease_ttl = record.fields, record.lease_ttl
        ttl = fields.ttl if fields is not None else 0
        if ttl and lease_ttl >= 0:
            return min(ttl, lease_ttl) if lease_ttl else ttl
        default = self._zones.defaults(record.path).ttl
        ttl = ttl or default
        return min(ttl, lease_ttl if lease_ttl > 0 else default) if lease_ttl else ttl

    def addresses(self, owner: Path, match: Match, family: int, answer: Answer) -> None:
        """Fills in an A (`family` 4) or AAAA (16) answer for `owner`."""
        chain, found = self._resolve(owner, match)
        self._note_hosts(match, family)
        rtype = wire.A if family == 4 else wire.AAAA
        end = chain[-1].rdata[0] if chain else owner
        assert isinstance(end, tuple)
        fitting = [
            RR(end, rtype, ttl, (address,)) for address, ttl in found.addresses if len(address) == family
        ]
        if fitting:
            answer.first.extend(chain)
            answer.rotating.extend(fitting)
        elif not found.addresses and found.outside and not self._matcher.is_apex(end):
            _, ttl, name = min(found.outside, key=lambda each: each[0])
            answer.first.extend(chain)
            if name != end:
                answer.first.append(RR(end, wire.CNAME, ttl, (name,)))
        answer.settle()

    def _note_hosts(self, match: Match, family: int) -> None:
        for record in match.records:
            if host_of(record) is None:
                self._matcher.trace.left_out(record, "it has no host: it gives only TXT")
            elif record.address is not None and len(record.address) != family:
                self._matcher.trace.left_out(record, "its address is of the other family")

    def endpoint(self, name: Path) -> list[RR]:
        """The addresses of a target, for additional: of both families, behind the CNAMEs that lead to them."""
        match = self._behind(name)
        if self._unknown(name, match):
            return list(self._asked(name))
        chain, found = self._resolve(name, match)
        if not found.addresses:
            return []
        end = chain[-1].rdata[0] if chain else name
        assert isinstance(end, tuple)
        return chain + [
            RR(end, wire.A if len(address) == 4 else wire.AAAA, ttl, (address,))
            for address, ttl in found.addresses
        ]

    def _behind(self, name: Path) -> Match:
        """What a name that is followed stands for, where it has addresses at all."""
        match = self._matcher.match(name)
        if match.only is not None and wire.A not in match.only:
            match.records = ()
        return match

    def _resolve(self, owner: Path, match: Match) -> tuple[list[RR], Found]:
        """The CNAMEs from `owner` on, and what the last of them leads to."""
        chain: list[RR] = []
        visited = {owner}
        at = owner
        while match.alone:
            (record,) = match.records
            if not is_bare_alias(record):
                break
            assert record.target is not None
            target, ttl = record.target, self.ttl(record)
            if target in visited or len(chain) == MAX_LINKS:
                self._matcher.trace.left_out(record, LOOP if target in visited else TOO_LONG)
                return chain, Found([], [])
            visited.add(target)
            chain.append(RR(at, wire.CNAME, ttl, (target,)))
            at = target
            match = self._behind(target)
            if self._unknown(target, match):
                found = Found([], [(0, ttl, target)])
                for each in self._asked(target):
                    address = each.rdata[0]
                    if each.rtype == wire.CNAME:
                        chain.append(each)
                    elif isinstance(address, bytes):
                        found.addresses.append((address, each.ttl))
                return chain, found
        return chain, self._flatten(match, visited, len(chain))

    def _unknown(self, name: Path, match: Match) -> bool:
        """Whether a name lies outside every zone and the store has no host for it either."""
        return self._zones.closest(name) is None and all(host_of(each) is None for each in match.records)

    def _asked(self, name: Path) -> Sequence[RR]:
        """What other servers said of an outside name: CNAMEs, then addresses; nothing when it has none."""
        records = self._outside.get(name)
        if records is None:
            self.wanted[name] = None
        return records or ()

    def _take_over(self, records: Sequence[RR], ttl: int, seen: set[bytes], found: Found) -> None:
        """Flattens an outside name's records."""
        least = min((ttl, *(each.ttl for each in records if each.rtype == wire.CNAME)))
        for each in records:
            address = each.rdata[0]
            if each.rtype != wire.CNAME and isinstance(address, bytes) and address not in seen:
                seen.add(address)
                found.addresses.append((address, min(least, each.ttl)))

    def _flatten(self, match: Match, visited: set[Path], links: int) -> Found:
        """The addresses of all names reachable, nearest first; a record takes the least TTL on its way.

        Behind names no more than `max_matched` services are looked at, however many names lead to them.
        """
        found = Found([], [])
        trace = self._matcher.trace
        left = self._matcher.max
        seen: set[bytes] = set()
        level = [(position, record, self.ttl(record)) for position, record in enumerate(match.records)]
        while level:
            below: list[tuple[int, Record, int]] = []
            for position, record, ttl in level:
                if record.address is not None:
                    if record.address not in seen:
                        seen.add(record.address)
                        found.addresses.append((record.address, ttl))
                    else:
                        trace.left_out(record, "its address is in the answer already")
                    continue
                target = record.target
                if target is None or target in visited or links == MAX_LINKS:
                    if target is not None:
                        trace.left_out(record, LOOP if target in visited else TOO_LONG)
                    continue
                visited.add(target)
                if left < 0:
                    self._matcher.cut = True
                    break
                behind = self._behind(target)
                if not behind.records:
                    trace.left_out(record, "the name it points to has no address here")
                if self._unknown(target, behind):
                    found.outside.append((position, ttl, target))
                    self._take_over(self._asked(target), ttl, seen, found)
                services = list(behind.records)[: left + 1]
                left -= len(services)
                below.extend((position, each, min(ttl, self.ttl(each))) for each in services)
            level = below
            links += 1
        return found


def is_bare_alias(record: Record) -> bool:
    """A host that is a name, and nothing else that could be answered at its name."""
    fields = record.fields
    return (
        record.target is not None
        and fields is not None
        and not (fields.port or fields.text or fields.mail or fields.meta)
    )

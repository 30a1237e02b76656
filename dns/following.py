"""Where hosts lead: aliases, flattening, and the addresses behind names.

Owns the rules for a service whose host is a name (names.md, "A host that is a name"). A bare alias is a CNAME;
everything else is flattened into addresses under the name asked. At most MAX_LINKS links are followed and each name
is resolved once an answer, so the work is bounded and loops end by themselves. Names outside every zone are
looked for in the store; what is not there stays a name.
"""

from __future__ import annotations

from typing import NamedTuple

from discovery.dns import wire
from discovery.dns.matching import Match, Matcher
from discovery.dns.records import RR, Answer, Node, host_of, number
from discovery.dns.source import Path, Record
from discovery.dns.zone import Zones

MAX_LINKS = 11
ADDRESSES_ONLY = frozenset((wire.A, wire.AAAA))


class _Own:
    """A record for this node's own name below ns.dns.D; it has an address and nothing else."""

    key = b""
    target = None
    lease_ttl = 0

    def __init__(self, path: Path, address: bytes) -> None:
        self.path = path
        self.address = address
        self.fields = _NO_FIELDS


class _NoFields:
    port = priority = weight = ttl = targetstrip = 0
    text = group = ""
    mail = False
    ports: dict[str, int] = {}  # noqa: RUF012  # never written
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}  # noqa: RUF012  # never written


_NO_FIELDS = _NoFields()


class Found(NamedTuple):
    """What services lead to. `outside`: (position of the service, TTL, name) of names that nothing resolved."""

    addresses: list[tuple[bytes, int]]
    outside: list[tuple[int, int, Path]]


class Follower:
    def __init__(self, matcher: Matcher, zones: Zones, node: Node, question: Path) -> None:
        self._matcher = matcher
        self._zones = zones
        self._node = node
        self._question = question

    def ttl(self, record: Record) -> int:
        """min(the record's, its lease's granted TTL); the zone's where the record sets none."""
        ttl = number(record, "ttl", self._zones.defaults(record.path))
        return min(ttl, record.lease_ttl) if record.lease_ttl else ttl

    def match(self, path: Path) -> Match:
        """What a name stands for, with the names that exist by themselves: dns.D, ns.dns.D and this node's below it."""
        match = self._matcher.match(path)
        zone = self._zones.closest(path)
        if zone is None or path[: len(zone.dns)] != zone.dns:
            return match
        own = (zone.ns, (*zone.ns, self._node.label))
        if path in own and not any(
            host_of(record) is not None for record in self._matcher.match(zone.ns).records
        ):
            records = [_Own(path, address) for address in self._node.addresses]
            return Match(True, records, only=ADDRESSES_ONLY)
        if not match.exists and path == zone.dns:
            return Match(True)
        return match

    def addresses(
        self, owner: Path, match: Match, family: int, answer: Answer, *, alias_allowed: bool
    ) -> None:
        """Fills in an A (`family` 4) or AAAA (16) answer for `owner`."""
        chain, found = self._resolve(owner, match, alias_allowed=alias_allowed)
        rtype = wire.A if family == 4 else wire.AAAA
        end = chain[-1].rdata[0] if chain else owner
        assert isinstance(end, tuple)
        fitting = [
            RR(end, rtype, ttl, (address,)) for address, ttl in found.addresses if len(address) == family
        ]
        if fitting:
            answer.first.extend(chain)
            answer.rotating.extend(fitting)
        elif not found.addresses and found.outside and alias_allowed:
            _, ttl, name = min(found.outside)
            answer.first.extend(chain)
            if name != end:
                answer.first.append(RR(end, wire.CNAME, ttl, (name,)))
        answer.settle()

    def endpoint(self, name: Path) -> list[RR]:
        """The addresses of a target, for additional: of both families, behind the CNAMEs that lead to them."""
        match = self.match(name)
        chain, found = self._resolve(name, match, alias_allowed=True)
        if not found.addresses:
            return []
        end = chain[-1].rdata[0] if chain else name
        assert isinstance(end, tuple)
        return chain + [
            RR(end, wire.A if len(address) == 4 else wire.AAAA, ttl, (address,))
            for address, ttl in found.addresses
        ]

    def _resolve(self, owner: Path, match: Match, *, alias_allowed: bool) -> tuple[list[RR], Found]:
        """The CNAMEs from `owner` on, and what the last of them leads to."""
        chain: list[RR] = []
        visited = {self._question, owner}
        at = owner
        while alias_allowed and match.alone:
            (record,) = match.records
            if not _is_bare_alias(record):
                break
            assert record.target is not None
            target, ttl = record.target, self.ttl(record)
            if target in visited or len(chain) == MAX_LINKS:
                return chain, Found([], [])
            visited.add(target)
            chain.append(RR(at, wire.CNAME, ttl, (target,)))
            at = target
            match = self.match(target)
            if self._unknown(target, match):
                return chain, Found([], [(0, ttl, target)])
        return chain, self._flatten(match, visited, len(chain))

    def _unknown(self, name: Path, match: Match) -> bool:
        """Whether a name lies outside every zone and the store does not know it either."""
        return not match.records and self._zones.closest(name) is None

    def _flatten(self, match: Match, visited: set[Path], links: int) -> Found:
        """The addresses of all names reachable, nearest first; a record takes the least TTL on its way."""
        found = Found([], [])
        seen: set[bytes] = set()
        level = [(position, record, self.ttl(record)) for position, record in enumerate(match.records)]
        while level:
            below: list[tuple[int, Record, int]] = []
            for position, record, ttl in level:
                if record.address is not None:
                    if record.address not in seen:
                        seen.add(record.address)
                        found.addresses.append((record.address, ttl))
                    continue
                target = record.target
                if target is None or target in visited or links == MAX_LINKS:
                    continue
                visited.add(target)
                behind = self.match(target)
                if self._unknown(target, behind):
                    found.outside.append((position, ttl, target))
                below.extend((position, each, min(ttl, self.ttl(each))) for each in behind.records)
            level = below
            links += 1
        return found


def _is_bare_alias(record: Record) -> bool:
    """A host that is a name, and nothing else that could be answered at its name."""
    fields = record.fields
    return (
        record.target is not None
        and fields is not None
        and not (fields.port or fields.text or fields.mail or fields.meta)
    )

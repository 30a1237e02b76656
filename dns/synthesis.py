"""From a name and a type to records.

Owns the record rules of names.md: what each type is answered with, negative answers, TTLs, equal services,
weights, targets, additional records. It asks `matching` what a name stands for and `following` where hosts lead;
it knows nothing of packets, sizes or caches. Everything an answer depended on is in its `stamps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple

import msgspec

from discovery.dns import wire
from discovery.dns.following import NOTHING, Follower, Outside
from discovery.dns.matching import Match, Matcher
from discovery.dns.records import RR, Answer, Node, bundles, host_of, number, rrsets
from discovery.dns.source import Path, Record, Source
from discovery.dns.stamps import few
from discovery.dns.trace import NO_TRACE, Trace
from discovery.dns.zone import SOA_EXPIRE, SOA_REFRESH, SOA_RETRY, Zone, Zones

_SRV, _SOA = Struct("!HHH"), Struct("!IIIII")
STALE_TTL = 30  # seconds; RFC 8767 section 4 recommends it
MAX_PTR = 8
NO_HOST = "it has no host: it gives only TXT"
MAX_RECORDS = 4096  # SRV and MX records take 16 bytes at least: more fill the largest message
MAX_ADDITIONAL = 4096  # records; more would not fit into the largest message
ARPA = ((b"arpa", b"in-addr"), (b"arpa", b"ip6"))
TRANSFERS = frozenset((wire.IXFR, wire.AXFR, wire.MAILB, wire.MAILA))
COMMON = frozenset((wire.A, wire.AAAA, wire.SRV, wire.TXT, wire.MX, wire.CNAME, wire.SVCB, wire.HTTPS))
AT_APEX = frozenset((wire.A, wire.AAAA, wire.SRV, wire.TXT, wire.MX))  # answered from apex.dns.D


class Settings(msgspec.Struct, frozen=True):
    """What answering is configured with. `chaos`: texts of class CH by lower-case name; empty switches them off.
    `nsid`: what an answer says to those who ask who gave it (RFC 5001); empty: nothing.
    `recursive`: what lies outside the zones is asked of other servers (RA is set, and such questions are deferred).
    """

    zones: Zones
    node: Node
    max_matched: int = 10000
    round_robin: bool = True
    payload_size: int = 1232
    chaos: dict[bytes, bytes] = {}
    recursive: bool = False
    nsid: bytes = b""


def synthesize(
    path: Path,
    qtype: int,
    source: Source,
    settings: Settings,
    outside: Outside = NOTHING,
    trace: Trace = NO_TRACE,
) -> Answer:
    """The answer to a question of class IN. Total: every name and type has one.

    `outside`: the records of outside names, where other servers were asked for them. `trace` takes notes.
    """
    synthesis = _Synthesis(path, qtype, source, settings, outside, trace)
    answer = synthesis.answer
    if qtype in TRANSFERS:
        answer.rcode = wire.REFUSED
    elif qtype == wire.OPT:
        answer.rcode = wire.FORMERR
    else:
        synthesis.respond()
    answer.stamps = few(synthesis.matcher.stamps)
    answer.cut = synthesis.matcher.cut
    answer.wanted = tuple(synthesis.follower.wanted)
    if source.stale:
        answer.limit_ttl(STALE_TTL)
    return answer


class Target(NamedTuple):
    """Where a record points to: a name, the address that the service has itself, and the service's TTL."""

    name: Path
    address: bytes | None
    ttl: int


class _Synthesis:
    """One question. `owner` is the question's name; what it is answered from may stand elsewhere."""

    def __init__(
        self, path: Path, qtype: int, source: Source, settings: Settings, outside: Outside, trace: Trace
    ) -> None:
        self.owner = path
        self.qtype = qtype
        self.source = source
        self.zones = settings.zones
        self.matcher = Matcher(source, settings.zones, settings.node, settings.max_matched, trace)
        self.trace = trace
        self.follower = Follower(self.matcher, settings.zones, outside)
        self.answer = Answer()

    def respond(self) -> None:
        zone = self.zones.closest(self.owner)
        if zone is None:
            self.answer.outside = self.answer.passing = True
            if self.qtype != wire.PTR or not self._stored_ptr():
                self.answer.rcode = wire.REFUSED
            return
        self.answer.authoritative = True
        if self.qtype == wire.PTR and self.owner[:2] in ARPA and (self._stored_ptr() or self._own_ptr(zone)):
            return
        if self.owner == zone.apex:
            self._apex(zone)
        else:
            self._name(zone)

    # ------------------------------------------------------------ names

    def _apex(self, zone: Zone) -> None:
        if self.qtype == wire.SOA:
            self.answer.first.append(self._soa(zone, zone.ttl))
        elif self.qtype == wire.NS:
            self._ns(zone)
        elif self.qtype == wire.ANY:
            self._hinfo(zone)
        elif self.qtype in AT_APEX:
            self._types(self.matcher.match(self.owner))
        if not self.answer.first and not self.answer.rotating:
            self._negative(zone, exists=True)

    def _name(self, zone: Zone) -> None:
        match = self.matcher.match(self.owner)
        exists = match.exists or (zone.reverse and self._address_below(self.owner))
        if exists and self.qtype == wire.ANY:
            self._hinfo(zone)
        elif self.owner[:2] in ARPA and self.owner[: len(zone.dns)] != zone.dns:
            self._leave_out(match, "names of addresses have PTR records alone")
        elif not match.records:
            pass
        elif match.only is None or self.qtype in match.only:
            if self.qtype == wire.CNAME:
                self._cname(match)
            else:
                self._types(match)
        else:
            self._leave_out(match, "the name as it is asked has no such type")
        if not self.answer.first and not self.answer.rotating:
            self._negative(zone, exists=exists)

    def _types(self, match: Match) -> None:
        if self.qtype in (wire.A, wire.AAAA):
            family = 4 if self.qtype == wire.A else 16
            self.follower.addresses(self.owner, match, family, self.answer)
        elif self.qtype == wire.SRV:
            self._srv(match)
        elif self.qtype == wire.MX:
            self._mx(match)
        elif self.qtype == wire.TXT:
            self._txt(match)
        else:
            self._leave_out(match, "services give no records of this type")

    def _leave_out(self, match: Match, why: str) -> None:
        for record in match.records:
            self.trace.left_out(record, why)

    # ------------------------------------------------------------ types

    def _srv(self, match: Match) -> None:
        """RFC 2782. A weight is the share in percent among the services of the same priority."""
        found: dict[tuple[bytes | Path, int, int, int], Record] = {}
        sums: dict[int, int] = {}
        port_name = match.port_name
        for record in match.records:
            fields, host = record.fields, host_of(record)
            assert fields is not None
            if host is None:
                self.trace.left_out(record, NO_HOST)
                continue
            priority, weight = fields.priority, fields.weight
            if not priority or not weight:
                defaults = self.zones.defaults(record.path)
                priority, weight = priority or defaults.priority, weight or defaults.weight
            same = (host, fields.ports[port_name] if port_name else fields.port, priority, weight)
            first = found.setdefault(same, record)
            if first is record:
                sums[priority] = sums.get(priority, 0) + weight
            else:
                self._equal(record, first)
        encode, owner = wire.Names().encode, self.owner
        records, targets = [], []
        for (_, port, priority, weight), record in found.items():
            share = weight * 100 // sums[priority] or 1
            target = self._target(record, wire.SRV)
            rdata = (_SRV.pack(priority, share, port) + encode(target.name),)
            records.append(RR(owner, wire.SRV, target.ttl, rdata))
            targets.append(target)
        self._answer(records, targets)

    def _mx(self, match: Match) -> None:
        found: dict[tuple[bytes | Path, int, int, int, str], Record] = {}
        for record in match.records:
            fields, host = record.fields, host_of(record)
            if fields is None or host is None or not fields.mail:
                self.trace.left_out(record, NO_HOST if host is None else "it is not set to take mail")
                continue
            defaults = self.zones.defaults(record.path)
            numbers = (number(record, "priority", defaults), number(record, "weight", defaults))
            first = found.setdefault((host, fields.port, *numbers, fields.text), record)
            if first is not record:
                self._equal(record, first)
        records, targets = [], []
        for record in found.values():
            preference = number(record, "priority", self.zones.defaults(record.path)).to_bytes(2, "big")
            target = self._target(record, wire.MX)
            records.append(RR(self.owner, wire.MX, target.ttl, (preference, target.name)))
            targets.append(target)
        self._answer(records, targets)

    def _txt(self, match: Match) -> None:
        for record in match.records:
            assert record.fields is not None
            ttl = self._ttl(record)
            if not record.fields.text and not record.fields.meta:
                self.trace.left_out(record, "it has neither text nor meta")
            if record.fields.text:
                text = wire.encode_strings(record.fields.text.encode())
                self.answer.first.append(RR(self.owner, wire.TXT, ttl, (text,)))
            if record.fields.meta:
                pairs = sorted((key.encode(), text.encode()) for key, text in record.fields.meta.items())
                strings = b"".join(wire.encode_strings(key + b"=" + text) for key, text in pairs)
                self.answer.first.append(RR(self.owner, wire.TXT, ttl, (strings,)))
        self.answer.settle()

    def _equal(self, record: Record, first: Record) -> None:
        self.trace.left_out(record, f"it is equal to {first.key.decode('utf-8', 'backslashreplace')}")

    def _cname(self, match: Match) -> None:
        """The key at exactly that name, whether or not keys lie below it."""
        branch = None if match.wild else self.matcher.find(self.matcher.place_of(self.owner))
        chosen = None
        for record in branch.records if branch is not None else ():
            if record.target is not None:
                chosen = record
                self.answer.first.append(RR(self.owner, wire.CNAME, self._ttl(record), (record.target,)))
                break
        for record in match.records:
            if record is not chosen:
                self.trace.left_out(
                    record, "a CNAME comes from the key at exactly the name alone, where its host is a name"
                )

    def _ns(self, zone: Zone) -> None:
        records = self.matcher.match(zone.ns).records
        targets = [self._target(record, wire.NS) for record in records if host_of(record) is not None]
        self.answer.first.extend(RR(self.owner, wire.NS, ttl, (name,)) for name, _, ttl in targets)
        if not targets:  # a node that has not been told its address
            self.answer.first.append(RR(self.owner, wire.NS, zone.ttl, (zone.ns,)))
        self._additional(targets)
        self.answer.settle()

    def _stored_ptr(self) -> bool:
        """The key at exactly the name, configured zone or not."""
        if self.owner[:2] not in ARPA:
            return False
        branch = self.matcher.find(self.owner)
        records = branch.records if branch is not None else ()
        self.trace.matched(self.owner, records)
        for record in records:
            if record.target is not None:
                self.answer.first.append(RR(self.owner, wire.PTR, self._ttl(record), (record.target,)))
            else:
                why = "its host is no name" if record.fields is not None else f"unreadable: {record.reason}"
                self.trace.left_out(record, why)
        self.answer.settle()
        self.answer.authoritative = bool(self.answer.first) or self.answer.authoritative
        return bool(self.answer.first)

    def _own_ptr(self, zone: Zone) -> bool:
        """From the services whose host is that address."""
        if not zone.reverse or len(self.owner) not in (6, 34):
            return False
        stored = self.matcher.find(self.owner)
        branch = self.matcher.find(self.owner, self.source.addresses)
        if branch is None or (stored is not None and stored.records):
            return False
        self.trace.matched(self.owner, branch.records)
        found: list[Record] = []
        for record in branch.records:
            if not self._named_in_zone(record):
                self.trace.left_out(record, "it lies in no zone, under arpa or under stub.dns")
            elif len(found) == MAX_PTR:
                self.trace.left_out(record, f"{MAX_PTR} names are given at the most")
            else:
                found.append(record)
        self.answer.first.extend(
            RR(self.owner, wire.PTR, self._ttl(record), (record.path,)) for record in found
        )
        self.answer.settle()
        return bool(found)

    def _named_in_zone(self, record: Record) -> bool:
        zone = self.zones.closest(record.path)
        stub = (*zone.dns, b"stub") if zone is not None else ()
        return zone is not None and record.path[0] != b"arpa" and record.path[: len(stub)] != stub

    def _address_below(self, path: Path) -> bool:
        """Whether a service's address lies at or below a name of a reverse zone."""
        branch = self.matcher.find(path, self.source.addresses)
        return branch is not None and any(self._named_in_zone(record) for record in branch.walk())

    def _hinfo(self, zone: Zone) -> None:
        """ANY has one small answer (RFC 8482 section 4.2)."""
        self.answer.first.append(RR(self.owner, wire.HINFO, zone.ttl, (b"\x07RFC8482\x00",)))

    # ------------------------------------------------------------ parts

    def _answer(self, records: Sequence[RR], targets: Sequence[Target]) -> None:
        self.answer.rotating.extend(records)
        self.answer.settle()
        if len(records) <= MAX_RECORDS:  # else there is no room for more, whatever the size of the message
            self._additional(targets)

    def _additional(self, targets: Iterable[Target]) -> None:
        """The addresses of the targets, each once, an RRset with its least TTL."""
        records: list[RR] = []
        followed: set[Path] = set()
        for name, address, ttl in targets:
            if address is not None:
                records.append(_address_rr(name, address, ttl))
            elif name not in followed:
                followed.add(name)
                records.extend(self.follower.endpoint(name))
            if len(records) > MAX_ADDITIONAL:
                break
        self.answer.additional = bundles(rrsets(records))

    def _target(self, record: Record, rtype: int) -> Target:
        """What a record points to, `targetstrip` applied: in NS only to names made for addresses."""
        assert record.fields is not None
        name = record.path if record.target is None else record.target
        strip = record.fields.targetstrip
        if strip > 0 and (rtype != wire.NS or record.target is None):
            zone = self.zones.closest(name)
            least = max(1, len(zone.apex)) if zone is not None else 1
            name = name[: len(name) - strip] if len(name) - strip >= least else name
        return Target(name, record.address, self._ttl(record))

    def _ttl(self, record: Record) -> int:
        return self.follower.ttl(record)

    def _negative(self, zone: Zone, *, exists: bool) -> None:
        stored = self.matcher.find(self.owner) if exists and self.qtype in COMMON else None
        self.answer.passing = stored is None or not stored.count
        self.answer.rcode = wire.NOERROR if exists else wire.NXDOMAIN
        self.answer.authority.append(self._soa(zone, min(zone.ttl, zone.negative_ttl)))  # RFC 2308 section 3

    def _soa(self, zone: Zone, ttl: int) -> RR:
        if self.qtype == wire.SOA:  # its serial moves with anything in the zone
            self.matcher.find(zone.apex)
            self.matcher.find(zone.apex, self.source.addresses)
        serial = self.source.serial(zone.apex) & 0xFFFFFFFF
        numbers = _SOA.pack(serial, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, zone.negative_ttl)
        return RR(zone.apex, wire.SOA, ttl, (zone.ns, zone.rname, numbers))


def _address_rr(owner: Path, address: bytes, ttl: int) -> RR:
    return RR(owner, wire.A if len(address) == 4 else wire.AAAA, ttl, (address,))

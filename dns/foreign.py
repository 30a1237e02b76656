"""Answers of other servers.

Owns reading a forwarded answer as far as we must: that it belongs to our question, where its records and TTLs
stand, and which addresses it holds. The message itself is passed on as it came, since every record type is then
right: its names point only backwards, and the question keeps its length whatever letter case a client asked in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from discovery.dns import wire
from discovery.dns.records import RR
from discovery.dns.source import Path
from discovery.dns.wire import FormatError

_HEADER = Struct("!HHHHHH")
_RR = Struct("!HHIH")
MAX_TTL = 86400  # seconds; whatever a server says, a day is enough
MAX_NAME = 255  # bytes (RFC 1035 section 3.1)
MAX_HOPS = 127  # pointers in one name: one for each label that it may have

# Data that names stand in, compressed perhaps, or that is an address: bytes before the names, names, bytes behind.
_LAYOUTS = {
    wire.A: (4, 0, 0),
    wire.AAAA: (16, 0, 0),
    wire.NS: (0, 1, 0),
    wire.CNAME: (0, 1, 0),
    wire.PTR: (0, 1, 0),
    wire.MX: (2, 1, 0),
    wire.SRV: (6, 1, 0),
    wire.SOA: (0, 2, 20),
}


class Foreign(NamedTuple):
    """`message`: as received, up to its OPT. `counts`: records in answer, authority, additional; the last of them
    begin at `additional`.

    `ttls`: where the TTLs stand; `ttl`: for how many seconds it may be kept, 0 for not at all.
    """

    message: bytes
    flags: int
    counts: tuple[int, int, int]
    additional: int
    ttls: tuple[int, ...]
    ttl: int

    @property
    def rcode(self) -> int:
        return self.flags & 15


class _Record(NamedTuple):
    """Where a record stands: `start`, its TTL, and its end."""

    section: int
    rtype: int
    ttl: int
    start: int
    ttl_at: int
    end: int


def read(packet: bytes, ident: int, question: bytes) -> Foreign:
    """The answer to the query with that id and question. Raises FormatError for anything else.

    An OPT ends what is taken over of additional, since all behind it would have to move. A TTL with the highest
    bit becomes 0 (RFC 2181 section 8), a negative answer's SOA gets the negative answer's TTL (RFC 2308 section 5).
    """
    if len(packet) < wire.HEADER_SIZE + len(question):
        raise FormatError("cut off")
    received, flags, questions, *counts = _HEADER.unpack_from(packet)
    if received != ident or not flags & wire.QR or flags & 0x7800 or questions != 1:
        raise FormatError("not the answer to this query")
    begin = wire.HEADER_SIZE + len(question)
    if packet[wire.HEADER_SIZE : begin] != question:
        raise FormatError("another question")
    qtype = int.from_bytes(question[-4:-2], "big")
    records: list[_Record] = []
    end = begin
    opt = False
    for record in _walk(packet, begin, counts):
        if record.rtype == wire.OPT:
            opt = True
            if record.ttl >> 24:  # BADVERS and the like: between that server and us
                flags = flags & ~15 | wire.SERVFAIL
        elif not opt:
            records.append(record)
            end = record.end
    ttls = {each.ttl_at: 0 if each.ttl >> 31 else each.ttl for each in records}
    keep = min((MAX_TTL, *ttls.values()))
    rcode = flags & 15
    if rcode not in (wire.NOERROR, wire.NXDOMAIN) or flags & wire.TC:
        keep = 0
    elif rcode == wire.NXDOMAIN or not any(
        each.section == 0 and qtype in (each.rtype, wire.ANY) for each in records
    ):
        soa = next((each for each in records if each.section == 1 and each.rtype == wire.SOA), None)
        if soa is None:
            keep = 0
        else:
            keep = min(keep, int.from_bytes(packet[soa.end - 4 : soa.end], "big"))
            ttls[soa.ttl_at] = keep
    message = bytearray(packet[:end])
    for at, ttl in ttls.items():
        message[at : at + 4] = ttl.to_bytes(4, "big")
    taken = [sum(each.section == section for each in records) for section in range(3)]
    additional = next((each.start for each in records if each.section == 2), end)
    return Foreign(bytes(message), flags, (taken[0], taken[1], taken[2]), additional, tuple(ttls), keep)


def _walk(packet: bytes, at: int, counts: Sequence[int]) -> Iterator[_Record]:
    """Every record, for they must be whole. Raises FormatError."""
    for section in range(3):
        for _ in range(counts[section]):
            start = at
            _, at = read_name(packet, at)
            if at + 10 > len(packet):
                raise FormatError("a record is cut off")
            rtype, rclass, ttl, length = _RR.unpack_from(packet, at)
            ttl_at, end = at + 4, at + 10 + length
            if end > len(packet):
                raise FormatError("a record's data is cut off")
            at += 10
            if rclass == wire.IN and rtype in _LAYOUTS:
                before, names, behind = _LAYOUTS[rtype]
                at += before
                for _ in range(names):
                    _, at = read_name(packet, at)
                if at + behind != end:
                    raise FormatError("a record's data is not what its type wants")
            yield _Record(section, rtype, ttl, start, ttl_at, end)
            at = end


def render(foreign: Foreign, age: int, question: bytes, flags: int, opt: bytes, limit: int) -> bytes:
    """The packet after its id for a client that asked `question` (the same name, in any letter case).

    `age`: seconds since it was received, taken off every TTL. Over `limit`, additional is left out; what is over it
    even so is cut to nothing, with TC.
    """
    answer, authority, additional = foreign.counts
    begin, size, room = wire.HEADER_SIZE + len(question), len(foreign.message), limit - len(opt)
    if size > room:
        size, additional = foreign.additional, 0
    if size > room:
        size, answer, authority = begin, 0, 0
        flags |= wire.TC
    body = bytearray(foreign.message[:size])
    for at in foreign.ttls:
        if at < size:
            left = max(0, int.from_bytes(body[at : at + 4], "big") - age)
            body[at : at + 4] = left.to_bytes(4, "big")
    head = _HEADER.pack(0, flags, 1, answer, authority, additional + (1 if opt else 0))[2:]
    return head + question + bytes(body[begin:]) + opt


def addresses(foreign: Foreign, name: Path, age: int) -> tuple[list[RR], list[RR]]:
    """(the CNAMEs from `name` on, the A and AAAA records that they lead to)."""
    aliases: dict[Path, RR] = {}
    hosts: dict[Path, list[RR]] = {}
    packet = foreign.message
    at = wire.skip_name(packet, wire.HEADER_SIZE) + 4
    for _ in range(foreign.counts[0]):
        owner, at = read_name(packet, at)
        rtype, rclass, ttl, length = _RR.unpack_from(packet, at)
        at += 10
        left = max(0, ttl - age)
        if rclass == wire.IN and rtype == wire.CNAME:
            aliases[owner] = RR(owner, rtype, left, (read_name(packet, at)[0],))
        elif rclass == wire.IN and rtype in (wire.A, wire.AAAA):
            hosts.setdefault(owner, []).append(RR(owner, rtype, left, (packet[at : at + length],)))
        at += length
    chain: list[RR] = []
    while name in aliases:
        chain.append(aliases.pop(name))
        target = chain[-1].rdata[0]
        assert isinstance(target, tuple)
        name = target
    return chain, hosts.get(name, [])


def read_name(packet: bytes, at: int) -> tuple[Path, int]:
    """(the name at `at`, folded, where it ends there). Raises FormatError."""
    labels: list[bytes] = []
    end, least, size, hops = None, at, 1, 0
    while True:
        if at >= len(packet):
            raise FormatError("a name runs over the end")
        length = packet[at]
        if length >= 0xC0:
            pointer = (length & 0x3F) << 8 | packet[at + 1] if at + 1 < len(packet) else at
            end = at + 2 if end is None else end
            hops += 1
            if not wire.HEADER_SIZE <= pointer < least or hops > MAX_HOPS:
                raise FormatError("a pointer that does not point back to a name, or too many of them")
            at = least = pointer
        elif length > 63:
            raise FormatError("an unknown label type")
        elif not length:
            labels.reverse()
            return tuple(labels), at + 1 if end is None else end
        else:
            labels.append(packet[at + 1 : at + 1 + length].lower())
            at += length + 1
            size += length + 1
            if size > MAX_NAME:
                raise FormatError("a name over 255 bytes")

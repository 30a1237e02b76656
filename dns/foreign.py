"""Answers of other servers.

Owns reading a forwarded answer as far as we must: that it belongs to our question, where its records and TTLs
stand, and which addresses it holds. The message itself is passed on as it came, since every record type is then
right: its names point only backwards, and the question keeps its length whatever letter case a client asked in.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from discovery.dns import wire
from discovery.dns.records import RR
from discovery.dns.source import Path
from discovery.dns.wire import FormatError

_HEADER = Struct("!HHHHHH")
_RR = Struct("!HHIH")
MAX_TTL = 86400  # seconds; whatever a server says, a day is enough


class Foreign(NamedTuple):
    """`message`: as received, up to its OPT. `counts`: records in answer, authority, additional.

    `ttls`: where the TTLs stand; `ttl`: for how many seconds it may be kept, 0 for not at all.
    """

    message: bytes
    flags: int
    counts: tuple[int, int, int]
    ttls: tuple[int, ...]
    ttl: int

    @property
    def rcode(self) -> int:
        return self.flags & 15


def read(packet: bytes, ident: int, question: bytes) -> Foreign:
    """The answer to the query with that id and question. Raises FormatError for anything else.

    An OPT ends what is taken over of additional, since all behind it would have to move.
    """
    if len(packet) < wire.HEADER_SIZE + len(question):
        raise FormatError("cut off")
    received, flags, questions, *counts = _HEADER.unpack_from(packet)
    if received != ident or not flags & wire.QR or flags & 0x7800 or questions != 1:
        raise FormatError("not the answer to this query")
    at = wire.HEADER_SIZE + len(question)
    if packet[wire.HEADER_SIZE : at] != question:
        raise FormatError("another question")
    ttls: list[int] = []
    least = negative = MAX_TTL
    has_soa = False
    end = None
    taken = [0, 0, 0]
    for section in range(3):
        for _ in range(counts[section]):
            start = at
            at = wire.skip_name(packet, at)
            if at + 10 > len(packet):
                raise FormatError("a record is cut off")
            rtype, _, ttl, length = _RR.unpack_from(packet, at)
            at += 10 + length
            if at > len(packet):
                raise FormatError("a record's data is cut off")
            if rtype == wire.OPT:
                end = start if end is None else end
            elif end is None:
                ttl = ttl if ttl < 1 << 31 else 0  # RFC 2181 section 8
                ttls.append(at - length - 6)
                taken[section] += 1
                least = min(least, ttl)
                if rtype == wire.SOA and section == 1 and length >= 20:
                    has_soa = True
                    negative = min(ttl, int.from_bytes(packet[at - 4 : at], "big"))  # RFC 2308 section 5
    message = packet[: at if end is None else end]
    rcode = flags & 15
    if rcode not in (wire.NOERROR, wire.NXDOMAIN) or flags & wire.TC:
        least = 0
    elif not taken[0] or rcode == wire.NXDOMAIN:
        least = min(least, negative) if has_soa else 0
    return Foreign(message, flags, (taken[0], taken[1], taken[2]), tuple(ttls), least)


def render(foreign: Foreign, age: int, question: bytes, flags: int, opt: bytes, limit: int) -> bytes:
    """The packet after its id for a client that asked `question` (the same name, in any letter case).

    `age`: seconds since it was received, taken off every TTL. What is over `limit` is cut to nothing, with TC.
    """
    whole = len(foreign.message) + len(opt) <= limit
    if whole:
        body = bytearray(foreign.message)
        for at in foreign.ttls:
            left = max(0, int.from_bytes(body[at : at + 4], "big") - age)
            body[at : at + 4] = left.to_bytes(4, "big")
        records = bytes(body[wire.HEADER_SIZE + len(question) :])
        answer, authority, additional = foreign.counts
    else:
        records, answer, authority, additional = b"", 0, 0, 0
        flags |= wire.TC
    head = _HEADER.pack(0, flags, 1, answer, authority, additional + (1 if opt else 0))[2:]
    return head + question + records + opt


def addresses(foreign: Foreign, name: Path, age: int) -> tuple[list[RR], list[RR]]:
    """(the CNAMEs from `name` on, the A and AAAA records that they lead to)."""
    aliases: dict[Path, RR] = {}
    hosts: dict[Path, list[RR]] = {}
    packet = foreign.message
    at = wire.HEADER_SIZE
    at = wire.skip_name(packet, at) + 4
    for _ in range(foreign.counts[0]):
        owner, at = read_name(packet, at)
        rtype, rclass, ttl, length = _RR.unpack_from(packet, at)
        at += 10
        left = max(0, ttl - age)
        if rclass == wire.IN and rtype == wire.CNAME:
            aliases[owner] = RR(owner, rtype, left, (read_name(packet, at)[0],))
        elif rclass == wire.IN and (rtype, length) in ((wire.A, 4), (wire.AAAA, 16)):
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
    end, least = None, at
    while True:
        if at >= len(packet):
            raise FormatError("a name runs over the end")
        length = packet[at]
        if length >= 0xC0:
            pointer = (length & 0x3F) << 8 | packet[at + 1] if at + 1 < len(packet) else at
            end = at + 2 if end is None else end
            if pointer >= least:
                raise FormatError("a pointer that does not point back")
            at = least = pointer
        elif length > 63:
            raise FormatError("an unknown label type")
        elif not length:
            labels.reverse()
            return tuple(labels), at + 1 if end is None else end
        else:
            labels.append(packet[at + 1 : at + 1 + length].lower())
            at += length + 1

"""Records as text (RFC 1035 section 5.1), for people and for master files.

Owns the presentation of names and of the types that this server makes itself. Never on the hot path.
"""

from __future__ import annotations

import ipaddress

from discovery.dns import wire
from discovery.dns.records import RR
from discovery.dns.source import Path

TYPES = {
    "A": wire.A,
    "NS": wire.NS,
    "CNAME": wire.CNAME,
    "SOA": wire.SOA,
    "PTR": wire.PTR,
    "HINFO": wire.HINFO,
    "MX": wire.MX,
    "TXT": wire.TXT,
    "AAAA": wire.AAAA,
    "SRV": wire.SRV,
    "ANY": wire.ANY,
}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
RCODES = {
    wire.NOERROR: "NOERROR",
    wire.FORMERR: "FORMERR",
    wire.SERVFAIL: "SERVFAIL",
    wire.NXDOMAIN: "NXDOMAIN",
    wire.NOTIMP: "NOTIMP",
    wire.REFUSED: "REFUSED",
    wire.NOTAUTH: "NOTAUTH",
    wire.BADVERS: "BADVERS",
    wire.BADCOOKIE: "BADCOOKIE",
}
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/")


def type_name(rtype: int) -> str:
    """`A`, or `TYPE999` for what has no name here (RFC 3597 section 5)."""
    return TYPE_NAMES.get(rtype, f"TYPE{rtype}")


def rcode_name(rcode: int) -> str:
    """`NXDOMAIN`, or `RCODE24` for what has no name here."""
    return RCODES.get(rcode, f"RCODE{rcode}")


def name(path: Path) -> str:
    """With the final dot; unusual bytes as `\\.` or `\\DDD`."""
    return "".join(_escaped(label, _PLAIN) + "." for label in reversed(path)) or "."


def record(rr: RR) -> str:
    """`owner TTL IN TYPE data` on one line."""
    return f"{name(rr.owner)} {rr.ttl} IN {type_name(rr.rtype)} {data(rr)}"


def data(rr: RR) -> str:
    """The record's data alone."""
    first = rr.rdata[0]
    if isinstance(first, tuple):
        if rr.rtype != wire.SOA:
            return name(first)
        mname, rname, numbers = rr.rdata
        assert isinstance(mname, tuple)
        assert isinstance(rname, tuple)
        values = [str(int.from_bytes(numbers[at : at + 4], "big")) for at in range(0, 20, 4)]  # type: ignore[arg-type]  # the third part is bytes
        return " ".join((name(mname), name(rname), *values))
    if rr.rtype in (wire.A, wire.AAAA):
        return str(ipaddress.ip_address(first))
    if rr.rtype == wire.SRV:
        numbers_text = " ".join(str(int.from_bytes(first[at : at + 2], "big")) for at in (0, 2, 4))
        return f"{numbers_text} {name(wire.path_of(first[6:]))}"
    if rr.rtype == wire.MX:
        exchange = rr.rdata[1]
        assert isinstance(exchange, tuple)
        return f"{int.from_bytes(first, 'big')} {name(exchange)}"
    return " ".join(f'"{_escaped(string, None)}"' for string in _strings(first))


def _strings(content: bytes) -> list[bytes]:
    found = []
    at = 0
    while at < len(content):
        found.append(content[at + 1 : at + 1 + content[at]])
        at += 1 + content[at]
    return found


def _escaped(content: bytes, plain: frozenset[int] | None) -> str:
    """`plain`: the bytes that stand for themselves; None: all that may stand so between quotes."""
    out = []
    for byte in content:
        if byte in plain if plain is not None else 0x20 <= byte <= 0x7E and byte not in b'"\\':
            out.append(chr(byte))
        elif 0x21 <= byte <= 0x7E:
            out.append("\\" + chr(byte))
        else:
            out.append(f"\\{byte:03d}")
    return "".join(out)

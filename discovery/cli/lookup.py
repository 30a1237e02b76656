"""`discovery lookup`: ask a DNS server, and print what it says the way dig does.

Owns building the question and reading the reply with dnslib, at a person's pace. Asks over UDP with
EDNS (1232 bytes), again over TCP when the reply was truncated (RFC 7766). It never uses the system's resolver, so
what it shows is what the server answers. Sockets block, each under one deadline a try.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from discovery import names
from discovery.cli.options import server_option
from discovery.cli.output import Form, output_option, printed
from discovery.errors import DiscoveryError, NodeUnreachable

if TYPE_CHECKING:
    from dnslib import DNSRecord

PAYLOAD_SIZE = 1232
TIMEOUT, TRIES = 5.0, 2

# RFC 1035 section 4.1.1, RFC 2535 for AD and CD
_FLAGS = (("qr", 15), ("aa", 10), ("tc", 9), ("rd", 8), ("ra", 7), ("ad", 5), ("cd", 4))
_EXTENDED_ERROR = 15  # the EDNS option of RFC 8914
_ERRORS = {3: "Stale Answer", 14: "Not Ready", 15: "Blocked", 18: "Prohibited", 20: "Not Authoritative"}
_BADVERS = 16  # RFC 6891 section 9


@click.command(short_help="Ask a DNS server, as dig does.")
@click.argument("name")
@click.argument("type_", metavar="[TYPE]", default="A")
@server_option
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=TIMEOUT,
    show_default=True,
    help=f"Seconds to wait for an answer, {TRIES} times.",
)
@output_option
def lookup(name: str, type_: str, server: str, timeout: float, output: Form) -> None:
    """Ask for NAME, a full domain name, and TYPE (A when left out; any name or TYPE12).

    \b
    Example:
      discovery lookup web.prod.discovery.internal SRV
    """
    from discovery.config import parse_address

    try:
        address = parse_address(server)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--server") from None
    answer = ask(name, type_, address, timeout) | {"server": server}
    if not printed(output, answer):
        click.echo(_like_dig(answer))


def ask(name: str, type_: str, address: tuple[str, int], timeout: float) -> dict[str, Any]:  # Any: JSON
    """The reply to one question as plain values, as `--output json` prints it.

    Raises click.BadParameter for what can't be asked, and NodeUnreachable after `TRIES` tries of `timeout` seconds.
    """
    query = _query(name, type_)
    server = f"{address[0]}:{address[1]}"
    started = time.monotonic()
    raw, transport = _ask(query.pack(), address, timeout)
    took_ms = (time.monotonic() - started) * 1000
    record, found = _parse(raw, server)
    facts = {"server": server, "transport": transport, "query_time_ms": round(took_ms, 3), "size": len(raw)}
    return _plain(record, found) | facts


# ---------------------------------------------------------------- the question


def make_query(name: str, type_: str) -> bytes:
    """The packet of one question. Raises click.BadParameter for what can't be asked."""
    return bytes(_query(name, type_).pack())


def _query(name: str, type_: str) -> DNSRecord:
    from dnslib import EDNS0, DNSHeader, DNSLabel, DNSQuestion, DNSRecord

    header = DNSHeader(id=secrets.randbits(16), rd=1)
    query = DNSRecord(header, q=DNSQuestion(DNSLabel(_labels(name)), _number(type_)))
    query.add_ar(EDNS0(udp_len=PAYLOAD_SIZE))
    return query


def _labels(name: str) -> tuple[bytes, ...]:
    """The labels of a name as a master file writes it (RFC 1035 section 5.1): `\\.` and `\\DDD` are one byte."""
    labels, label = [], bytearray()
    if name != ".":
        for escape, code, literal, dot, plain in re.findall(r"(\\(?:(\d{3})|(.)))|(\.)|([^.\\]|\\\Z)", name):
            if dot:
                labels.append(bytes(label))
                label.clear()
            elif escape and code:
                if int(code) > 255:
                    raise click.BadParameter(f"{name!r} has an escape above \\255", param_hint="NAME")
                label.append(int(code))
            else:
                label += (literal or plain).encode()
        if label or not name or not labels:
            labels.append(bytes(label))
    if not names.is_name(tuple(labels)):
        raise click.BadParameter(
            f"{name!r} is not a domain name: labels of 1 to {names.MAX_LABEL} bytes, {names.MAX_NAME} in all",
            param_hint="NAME",
        )
    return tuple(labels)


def _number(type_: str) -> int:
    from dnslib import QTYPE

    upper = type_.upper()
    number = QTYPE.reverse.get(upper)
    if number is None and re.fullmatch(r"TYPE\d{1,5}", upper) and int(upper[4:]) <= 65535:
        number = int(upper[4:])
    if number is None:
        raise click.BadParameter(f"{type_!r} is no record type; try A, SRV, TXT or TYPE65", param_hint="TYPE")
    return int(number)


# ---------------------------------------------------------------- the way there and back


def _ask(query: bytes, address: tuple[str, int], timeout: float) -> tuple[bytes, str]:
    """The reply's bytes and `UDP` or `TCP`. Raises NodeUnreachable after `TRIES` tries of `timeout` seconds."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise NodeUnreachable(f"the DNS server {address[0]!r} has no address: {error.strerror}") from None
    family, where = found[0][0], found[0][4]
    shown = f"{address[0]} port {address[1]}"
    for _ in range(TRIES):
        try:
            reply = _over_udp(query, family, where, time.monotonic() + timeout)
            if not reply[2] & 0x02:
                return reply, "UDP"
            return _over_tcp(query, family, where, time.monotonic() + timeout), "TCP"
        except TimeoutError:
            continue
        except OSError as error:
            reason = error.strerror or str(error)
            raise NodeUnreachable(
                f"no DNS server answers at {shown} ({reason}); start one with `discovery serve` "
                "or name another with --server"
            ) from None
    raise NodeUnreachable(
        f"no answer from {shown} in {TRIES} tries of {timeout:g} s; check the address (--server) and firewalls"
    )


def _over_udp(
    query: bytes, family: int, where: Any, deadline: float
) -> bytes:  # Any: an address as socket has it
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(where)  # only this server's datagrams, and its ICMP errors
        sock.send(query)
        while True:
            sock.settimeout(_left(deadline))
            reply = sock.recv(65535)
            if _answers(query, reply):
                return reply


def _over_tcp(query: bytes, family: int, where: Any, deadline: float) -> bytes:  # Any: as above
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(_left(deadline))
        sock.connect(where)
        sock.sendall(len(query).to_bytes(2) + query)

        def read(size: int) -> bytes:
            out = b""
            while len(out) < size:
                sock.settimeout(_left(deadline))
                part = sock.recv(size - len(out))
                if not part:
                    raise ConnectionError("it closed the TCP connection without an answer")
                out += part
            return out

        reply = read(int.from_bytes(read(2)))
        if not _answers(query, reply):
            raise ConnectionError("what came over TCP is not an answer to this question")
        return reply


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _answers(query: bytes, reply: bytes) -> bool:
    """A reply (QR) with our id; anything else on the socket is someone else's or forged."""
    return len(reply) >= 12 and reply[:2] == query[:2] and bool(reply[2] & 0x80)


# ---------------------------------------------------------------- the reply


def _parse(raw: bytes, server: str) -> tuple[DNSRecord, int]:
    """The reply as dnslib reads it, and its header's flag bits."""
    from dnslib import DNSError, DNSRecord
    from dnslib.label import DNSLabelError

    try:
        return DNSRecord.parse(raw), int.from_bytes(raw[2:4])
    except (DNSError, DNSLabelError, ValueError) as error:
        raise DiscoveryError(f"the answer of {server} cannot be read: {error}") from None


def _plain(record: DNSRecord, bits: int) -> dict[str, Any]:  # Any: JSON
    """The reply as plain values: what `--json` prints and `_like_dig` lays out."""
    from dnslib import CLASS, QTYPE, RCODE

    def section(rrs: list[Any]) -> list[dict[str, Any]]:  # Any: dnslib has no types
        return [
            {
                "name": _name(rr.rname),
                "ttl": rr.ttl,
                "class": CLASS.forward.get(rr.rclass, f"CLASS{rr.rclass}"),
                "type": QTYPE.get(rr.rtype),
                "data": _rdata(QTYPE.get(rr.rtype), rr.rdata),
            }
            for rr in rrs
            if rr.rtype != QTYPE.OPT
        ]

    opt = next((rr for rr in record.ar if rr.rtype == QTYPE.OPT), None)
    rcode = (bits & 15) | (opt.edns_rcode << 4 if opt is not None else 0)
    return {
        "id": record.header.id,
        "status": RCODE.forward.get(rcode, "BADVERS" if rcode == _BADVERS else f"RCODE{rcode}"),
        "flags": [flag for flag, bit in _FLAGS if bits >> bit & 1],
        "edns": None if opt is None else _edns(opt),
        "question": [
            {
                "name": _name(q.qname),
                "class": CLASS.forward.get(q.qclass, f"CLASS{q.qclass}"),
                "type": QTYPE.get(q.qtype),
            }
            for q in record.questions
        ],
        "answer": section(record.rr),
        "authority": section(record.auth),
        "additional": section(record.ar),
    }


def _edns(opt: Any) -> dict[str, Any]:  # Any: dnslib has no types; JSON
    errors = []
    for option in opt.rdata:
        if option.code == _EXTENDED_ERROR and len(option.data) >= 2:
            code = int.from_bytes(option.data[:2])
            errors.append({"code": code, "name": _ERRORS.get(code, ""), "text": _printable(option.data[2:])})
    return {
        "version": opt.edns_ver,
        "flags": ["do"] if opt.edns_do else [],
        "udp": opt.edns_len,
        "errors": errors,
    }


def _name(label: Any) -> str:  # Any: dnslib's DNSLabel
    return names.to_text(tuple(reversed(label.label)))


def _rdata(type_: str, rdata: Any) -> str:  # Any: one of dnslib's classes, by type
    """Record data as a master file writes it; dnslib's own text loses bytes that are not UTF-8."""
    shapes: dict[str, Callable[[], str]] = {
        "CNAME": lambda: _name(rdata.label),
        "NS": lambda: _name(rdata.label),
        "PTR": lambda: _name(rdata.label),
        "MX": lambda: f"{rdata.preference} {_name(rdata.label)}",
        "SRV": lambda: f"{rdata.priority} {rdata.weight} {rdata.port} {_name(rdata.target)}",
        "SOA": lambda: " ".join([_name(rdata.mname), _name(rdata.rname), *map(str, rdata.times)]),
        "TXT": lambda: " ".join(f'"{_printable(part)}"' for part in rdata.data),
        "HINFO": lambda: " ".join(f'"{_printable(part)}"' for part in _strings(rdata.data)),
    }
    if type_ in shapes:
        return shapes[type_]()
    return _printable(str(rdata.toZone()).encode(), quote=False)


def _strings(raw: bytes) -> list[bytes]:
    """Character strings (RFC 1035 section 3.3) one after the other; a last one that is cut short stays short."""
    out = []
    while raw:
        out.append(raw[1 : 1 + raw[0]])
        raw = raw[1 + raw[0] :]
    return out


def _printable(raw: bytes, *, quote: bool = True) -> str:
    """Bytes as a master file quotes them: nothing can steer the terminal."""
    out = []
    for byte in raw:
        if quote and byte in b'"\\':
            out.append("\\" + chr(byte))
        else:
            out.append(chr(byte) if 0x20 <= byte <= 0x7E else f"\\{byte:03d}")
    return "".join(out)


def _like_dig(answer: dict[str, Any]) -> str:  # Any: JSON
    counts = ", ".join(
        f"{title.upper()}: {len(answer[key]) + (key == 'additional' and answer['edns'] is not None)}"
        for title, key in (
            ("query", "question"),
            ("answer", "answer"),
            ("authority", "authority"),
            ("additional", "additional"),
        )
    )
    lines = [
        f";; ->>HEADER<<- opcode: QUERY, status: {answer['status']}, id: {answer['id']}",
        f";; flags: {' '.join(answer['flags'])}; {counts}",
    ]
    if edns := answer["edns"]:
        flags = "".join(f" {flag}" for flag in edns["flags"])
        lines.append(f";; EDNS: version: {edns['version']}, flags:{flags}; udp: {edns['udp']}")
        for error in edns["errors"]:
            text = f" ({error['name']})" if error["name"] else ""
            lines.append(f";; EDE: {error['code']}{text}" + (f": {error['text']}" if error["text"] else ""))
    lines += ["", ";; QUESTION SECTION:"]
    lines += [f";{one['name']}\t{one['class']}\t{one['type']}" for one in answer["question"]]
    for key in ("answer", "authority", "additional"):
        if answer[key]:
            lines += ["", f";; {key.upper()} SECTION:"]
            lines += [
                f"{one['name']}\t{one['ttl']}\t{one['class']}\t{one['type']}\t{one['data']}"
                for one in answer[key]
            ]
    lines += [
        "",
        f";; Query time: {answer['query_time_ms']:.0f} ms",
        f";; SERVER: {answer['server']} ({answer['transport']})",
        f";; MSG SIZE rcvd: {answer['size']}",
    ]
    return "\n".join(lines)

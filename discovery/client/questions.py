"""Questions to DNS servers: SRV with the addresses that come along.

Owns sockets for one question each, over UDP with EDNS and again over TCP when the answer was cut (RFC 7766), and the
order of the servers. dnslib, a dependency anyway, writes and reads the messages: a few questions need no more, and
what the standard library offers knows no SRV. It keeps nothing: how long an answer holds is a resolver's matter.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from dnslib import EDNS0, QTYPE, RCODE, DNSError, DNSHeader, DNSQuestion, DNSRecord
from dnslib.label import DNSLabelError

from discovery.client.errors import Unavailable
from discovery.client.order import Endpoint

PAYLOAD_SIZE = 1232
TIMEOUT = 2.0  # seconds for one try
TRIES = 2  # of each server
_FOUND = (RCODE.NOERROR, RCODE.NXDOMAIN)

Server = tuple[str, int]


async def srv(name: str, servers: Sequence[Server], seconds: float = TIMEOUT) -> list[Endpoint]:
    """The SRV records of `name` as the servers have them, in the answer's order; [] when there is no such name.

    Raises Unavailable when no server gives an answer.
    """
    reasons = []
    for _ in range(TRIES):
        for host, port in servers:
            try:
                record = await ask(name, QTYPE.SRV, host, port, seconds)
            except (TimeoutError, OSError, ValueError, EOFError) as error:
                reasons.append(f"{host} port {port}: {_reason(error, seconds)}")
                continue
            if record.header.rcode in _FOUND:
                return _endpoints(record)
            reasons.append(f"{host} port {port}: {RCODE.get(record.header.rcode)}")
    raise Unavailable(f"no DNS server answers for {name} ({'; '.join(dict.fromkeys(reasons))})")


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"an answer that cannot be read: {error}"


async def ask(name: str, qtype: int, host: str, port: int, seconds: float) -> DNSRecord:
    """One server's answer, whatever it says. Raises TimeoutError, OSError, EOFError, and ValueError for an answer, a
    name or a type that is none."""
    try:
        query = DNSRecord(DNSHeader(id=secrets.randbits(16), rd=1), q=DNSQuestion(name, qtype))
        query.add_ar(EDNS0(udp_len=PAYLOAD_SIZE))
        packed = query.pack()
        async with asyncio.timeout(seconds):
            reply = await _over_udp(packed, host, port)
            if reply[2] & 0x02:  # TC
                reply = await _over_tcp(packed, host, port)
        return DNSRecord.parse(reply)
    except (DNSError, DNSLabelError) as error:
        raise ValueError(str(error)) from None


def _answers(query: bytes, reply: bytes) -> bool:
    """A reply with our id to our question; anything else is somebody else's, or forged."""
    end = query.index(b"\x00", 12) + 5
    return (
        len(reply) >= end
        and reply[:2] == query[:2]
        and bool(reply[2] & 0x80)
        and reply[12:end].lower() == query[12:end].lower()
    )


class _Waiting(asyncio.DatagramProtocol):
    """`reply` is set by the first datagram that answers the query, or by what the kernel says instead."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, reply: bytes, address: object) -> None:
        if not self.reply.done() and _answers(self._query, reply):
            self.reply.set_result(reply)

    def error_received(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


async def _over_udp(query: bytes, host: str, port: int) -> bytes:
    loop = asyncio.get_running_loop()
    transport, waiting = await loop.create_datagram_endpoint(
        lambda: _Waiting(query), remote_addr=(host, port)
    )
    try:
        transport.sendto(query)
        return await waiting.reply
    finally:
        transport.close()


async def _over_tcp(query: bytes, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(query).to_bytes(2) + query)
        reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    finally:
        writer.close()
    if not _answers(query, reply):
        raise ConnectionError("what came over TCP is not an answer to this question")
    return reply


def _endpoints(record: DNSRecord) -> list[Endpoint]:
    addresses: dict[str, list[str]] = {}
    for kind in (QTYPE.A, QTYPE.AAAA):
        for rr in (*record.rr, *record.ar):
            if rr.rtype == kind:
                addresses.setdefault(str(rr.rname).lower(), []).append(str(rr.rdata))
    found = []
    for rr in record.rr:
        if rr.rtype != QTYPE.SRV:
            continue
        target = str(rr.rdata.target)
        if target != ".":  # RFC 2782: decidedly not available
            known = tuple(dict.fromkeys(addresses.get(target.lower(), ())))
            found.append(Endpoint(target, rr.rdata.port, rr.rdata.priority, rr.rdata.weight, known))
    return found

"""A little DNS server on a loopback port, UDP and TCP, on the test's own event loop: what it says is a script.

Every question is noted in `asked`. A script may answer well, wrongly, twice or not at all; while `gate` is clear,
answers wait, so a test decides when they come.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from discovery.dns.upstream import Server


class Asked(NamedTuple):
    """A question as it came: over `UDP` or `TCP`, from which of the client's ports."""

    raw: bytes
    query: dns.message.Message
    transport: str
    port: int

    @property
    def text(self) -> str:
        """`www.example.com. A`, the name folded."""
        (question,) = self.query.question
        return f"{question.name.to_text().lower()} {dns.rdatatype.to_text(question.rdtype)}"


Script = Callable[[Asked], Sequence[bytes]]
"""The packets to answer with, in this order; none: silence."""


class Upstream:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def texts(self) -> list[str]:
        return [asked.text for asked in self.asked]

    @property
    def transports(self) -> list[str]:
        return [asked.transport for asked in self.asked]

    async def start(self, host: str = "127.0.0.1") -> None:
        loop = asyncio.get_running_loop()
        tcp, udp = both_sockets(host)
        self.server = Server(*tcp.getsockname()[:2])
        self._tcp = await asyncio.start_server(self._connection, sock=tcp)
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)

    async def stop(self) -> None:
        """From here on the port refuses."""
        self._tcp.close()
        self._udp.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, raw: bytes, transport: str, port: int) -> Sequence[bytes]:
        self.asked.append(Asked(raw, dns.message.from_wire(raw), transport, port))
        return self.script(self.asked[-1])

    def run(self, sending: asyncio.Task[None]) -> None:
        self._tasks.add(sending)
        sending.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question a connection; none of the answers: closed without a word."""
        try:
            raw = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            packets = self.take(raw, "TCP", writer.get_extra_info("peername")[1])
            await self.gate.wait()
            writer.write(b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # asyncio's own stub is wider
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        packets = self._upstream.take(data, "UDP", addr[1])

        async def send() -> None:
            await self._upstream.gate.wait()
            for packet in packets:
                self._transport.sendto(packet, addr)

        if packets:
            self._upstream.run(asyncio.get_running_loop().create_task(send()))


def both_sockets(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """A listening TCP socket and a UDP socket on one free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        tcp = socket.create_server((host, 0), family=family)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp.setblocking(False)
        udp.setblocking(False)
        try:
            udp.bind((host, tcp.getsockname()[1]))
        except OSError:  # taken for UDP: another port
            tcp.close()
            udp.close()
        else:
            return tcp, udp


@asynccontextmanager
async def upstream(script: Script, host: str = "127.0.0.1") -> AsyncIterator[Upstream]:
    running = Upstream(script)
    await running.start(host)
    try:
        yield running
    finally:
        await running.stop()


# ---------------------------------------------------------------- answers


def reply(
    asked: Asked,
    *records: str,
    authority: Sequence[str] = (),
    additional: Sequence[str] = (),
    rcode: int = dns.rcode.NOERROR,
    tc: bool = False,
    aa: bool = False,
) -> bytes:
    """Records as zone-file lines with whole names: `www.example.com. 60 A 192.0.2.1`. Those who sent EDNS get it."""
    response = dns.message.make_response(asked.query, recursion_available=True, our_payload=4096)
    response.set_rcode(dns.rcode.Rcode(rcode))
    response.flags |= (dns.flags.TC if tc else 0) | (dns.flags.AA if aa else 0)
    sections = (response.answer, response.authority, response.additional)
    for section, lines in zip(sections, (records, authority, additional), strict=True):
        section.extend(rrset_of(line) for line in lines)
    return response.to_wire(max_size=65535)


def rrset_of(line: str) -> dns.rrset.RRset:
    owner, ttl, rtype, content = line.split(" ", 3)
    return dns.rrset.from_text(dns.name.from_text(owner), int(ttl), "IN", rtype, content)


def knows(*records: str, soa: str = "example.com. 3600 SOA ns. host. 1 2 3 4 60") -> Script:
    """A server that holds these records and denies all else, with that SOA."""

    def script(asked: Asked) -> Sequence[bytes]:
        name, rtype = asked.text.split(" ")
        at_name = [line for line in records if line.split(" ")[0].lower() == name]
        fitting = [line for line in at_name if line.split(" ")[2] in (rtype, "CNAME")]
        for line in fitting:
            if line.split(" ")[2] == "CNAME" and rtype != "CNAME":
                end = line.split(" ")[3]
                fitting += [
                    each for each in records if each.split(" ")[0] == end and each.split(" ")[2] == rtype
                ]
        if fitting:
            return [reply(asked, *fitting)]
        missing = dns.rcode.NOERROR if at_name else dns.rcode.NXDOMAIN
        return [reply(asked, authority=[soa], rcode=missing)]

    return script


def silent(asked: Asked) -> Sequence[bytes]:
    """It drops every question."""
    return []


def fails(rcode: dns.rcode.Rcode) -> Script:
    return lambda asked: [reply(asked, rcode=rcode)]

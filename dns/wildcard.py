"""DNS over UDP on a socket that is bound to no address of its own.

Owns sending each answer from the address that was asked, which the kernel tells with the question (IP_PKTINFO, RFC 3542
section 6). It costs a tenth more a question than a socket on one address, so `udp` serves those; this one serves
addresses that came after the start, all of 127.0.0.0/8, and sockets that somebody else opened on a wildcard.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from struct import Struct
from time import perf_counter

from discovery.dns import query_log
from discovery.dns.admission import Answering
from discovery.dns.batch import MAX_DATAGRAM, SLOTS
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.responder import Deferred
from discovery.dns.turns import LATER, Turns
from discovery.dns.udp import enlarge

# Linux, <linux/in.h> and <linux/ipv6.h>; the socket module has no names for the first two.
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50
_INFO4 = Struct("=i4s4s")  # interface, address to send from, address in the packet
_INFO6 = Struct("=16si")  # address, interface
ROOM = 64  # bytes for what the kernel tells beside the packet

Ancillary = list[tuple[int, int, bytes]]


class WildcardListener:
    def __init__(
        self,
        sock: socket.socket,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        turns: Turns,
    ) -> None:
        """Takes over a bound, non-blocking datagram socket."""
        self._sock = sock
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        self._turns = turns
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        enlarge(sock)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._sock.fileno(), self.drain)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers what has arrived, then closes."""
        loop.remove_reader(self._sock.fileno())
        self.drain()
        self._sock.close()

    def drain(self) -> bool:
        """Answers up to SLOTS datagrams that wait; whether there may be more."""
        count = 0
        counters = self._counters
        latency = counters.latency_udp
        try:
            for _ in range(SLOTS):
                packet, told, _, client = self._sock.recvmsg(MAX_DATAGRAM, ROOM)
                count += 1
                begun = perf_counter() if counters.queries_udp + count >= latency.due else 0.0
                address = socket.inet_pton(self._sock.family, client[0].partition("%")[0])
                if not self._answer(packet, address, told, client):
                    waits = self._turns.wait(partial(self._go_on, packet, address, told, client))
                    counters.dropped += not waits
                if begun:
                    latency.take(perf_counter() - begun, counters.queries_udp + count)
                    counters.busiest.note(packet, begun)
        except OSError:  # nothing more, or an ICMP error left on the socket by an earlier answer
            pass
        counters.queries_udp += count
        return count == SLOTS

    def _answer(self, packet: bytes, address: bytes, told: Ancillary, client: tuple[str, int]) -> bool:
        """Answers one question; False: it must wait for its turn."""
        answer = self._responder.respond(packet, address)
        if answer is LATER:
            return False
        if isinstance(answer, Deferred):
            self._defer(answer, packet, address, told, client)
        else:
            self._finish(answer, packet, told, client)
        return True

    def _finish(self, answer: bytes | None, packet: bytes, told: Ancillary, client: tuple[str, int]) -> None:
        if query_log.is_on():
            query_log.write(packet, answer, "udp", client[0])
        if answer is not None:
            self._send(answer, told, client)

    def _go_on(self, packet: bytes, address: bytes, told: Ancillary, client: tuple[str, int]) -> bool:
        return self._sock.fileno() < 0 or self._answer(packet, address, told, client)

    def _send(self, answer: bytes, told: Ancillary, client: tuple[str, int]) -> None:
        try:
            self._sock.sendmsg([answer], source(told), 0, client)
        except OSError:  # a full buffer, an unreachable client, an address that is gone: its loss alone
            self._counters.dropped += 1

    def _defer(
        self, deferred: Deferred, packet: bytes, address: bytes, told: Ancillary, client: tuple[str, int]
    ) -> None:
        """Sends the answer when other servers have been asked, where they must be."""

        def send(answer: bytes) -> None:
            self._finish(self._responder.judge(answer, packet, address), packet, told, client)

        def end(task: asyncio.Task[bytes]) -> None:
            if not task.cancelled() and self._sock.fileno() >= 0:
                send(task.result())

        answer = self._deferred.at_once(deferred, client[0])
        if answer is not None:
            send(answer)
        else:
            self._deferred.start(deferred, client[0]).add_done_callback(end)


def source(told: Ancillary) -> Ancillary:
    """From what came with a question to what sends the answer from the address that it was sent to.

    The interface is left to routing, but for an address that means something on one link only.
    """
    for level, kind, content in told:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            _, local, _ = _INFO4.unpack(content)
            return [(level, kind, _INFO4.pack(0, local, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            address, interface = _INFO6.unpack(content)
            on_one_link = address[0] == 0xFE and address[1] & 0xC0 == 0x80
            return [(level, kind, _INFO6.pack(address, interface if on_one_link else 0))]
    return []

"""DNS over UDP on a socket that is bound to no address of its own.

Owns sending each answer from the address that was asked, which the kernel tells with the question (IP_PKTINFO, RFC 3542
section 6). It costs a tenth more a question than a socket on one address, so `udp` serves those; this one serves
addresses that came after the start, all of 127.0.0.0/8, and sockets that somebody else opened on a wildcard.
"""

from __future__ import annotations

import socket
from struct import Struct
from time import perf_counter

from discovery.dns.admission import Answering
from discovery.dns.batch import MAX_DATAGRAM, SLOTS
from discovery.dns.counters import DnsCounters
from discovery.dns.datagrams import Datagrams
from discovery.dns.deferred import DeferredResponder
from discovery.dns.turns import Turns

# Linux, <linux/in.h> and <linux/ipv6.h>; the socket module has no names for the first two.
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50
_INFO4 = Struct("=i4s4s")  # interface, address to send from, address in the packet
_INFO6 = Struct("=16si")  # address, interface
ROOM = 64  # bytes for what the kernel tells beside the packet

Ancillary = list[tuple[int, int, bytes]]

# The client's address alone, the client, what came with its question.
To = tuple[str, tuple[str, int], Ancillary]


class WildcardListener(Datagrams[To]):
    def __init__(
        self,
        sock: socket.socket,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        turns: Turns,
    ) -> None:
        super().__init__(sock, responder, deferred, counters, turns)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

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
                to = (client[0], client, told)
                if not self._answer(packet, address, to):
                    self._wait(packet, address, to)
                if begun:
                    latency.take(perf_counter() - begun, counters.queries_udp + count)
                    counters.busiest.note(packet, begun)
        except OSError:  # nothing more, or an ICMP error left on the socket by an earlier answer
            pass
        counters.queries_udp += count
        return count == SLOTS

    def _send(self, answer: bytes, to: To) -> None:
        _, client, told = to
        try:
            self._sock.sendmsg([answer], source(told), 0, client)
        except OSError:  # a full buffer, an unreachable client, an address that is gone: its loss alone
            self._counters.dropped += 1


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

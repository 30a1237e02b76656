"""UDP: datagrams from a socket to the responder and back.

Owns the sockets. A non-blocking socket on the event loop's reader, a batch of datagrams a wake-up: this costs a fifth
of asyncio's datagram protocol, which maps a large buffer anew for each datagram. Where they come one by one, the first
is answered by itself, which is quicker still. What is not answered at once goes the way of `datagrams`; those behind it
do not wait.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from time import perf_counter
from typing import cast

from discovery.dns import query_log
from discovery.dns.admission import Answering
from discovery.dns.batch import MAX_DATAGRAM, SLOTS, Client, batch
from discovery.dns.counters import DnsCounters
from discovery.dns.datagrams import Datagrams
from discovery.dns.deferred import DeferredResponder
from discovery.dns.responder import Deferred, Reply
from discovery.dns.turns import LATER, Turns

_SENDABLE = frozenset((bytes, type(None)))


class UdpListener(Datagrams[Client]):
    def __init__(
        self,
        sock: socket.socket,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        turns: Turns,
    ) -> None:
        super().__init__(sock, responder, deferred, counters, turns)
        self._latency = counters.latency_udp
        self._batch = batch(sock)
        self._alone = True  # the last wake-up found one datagram at most

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    def drain(self) -> bool:
        """Answers one batch; whether there may be more. The loop calls again while there is."""
        if self._alone and not self._answer_one():
            return False
        packets, clients = self._batch.receive()
        self._alone = len(packets) < 2
        if not packets:
            return False
        counters = self._counters
        counters.queries_udp += len(packets)
        begun = perf_counter() if counters.queries_udp >= self._latency.due else 0.0
        answers = self._responder.respond_all(packets, clients)
        if query_log.is_on():
            self._log(packets, answers)
        ready = self._ready(packets, clients, answers)
        counters.dropped += self._batch.send(ready)
        if begun:
            self._latency.take(perf_counter() - begun, counters.queries_udp)
            counters.busiest.note(packets[0], begun)
        return len(packets) == SLOTS

    def _answer_one(self) -> bool:
        """The same for one datagram; whether there may be more."""
        try:
            packet, name = self._sock.recvfrom(MAX_DATAGRAM)
        except BlockingIOError:
            return False
        except OSError:  # an ICMP error, left by an earlier answer; there may be questions behind it
            return True
        counters = self._counters
        counters.queries_udp += 1
        begun = perf_counter() if counters.queries_udp >= self._latency.due else 0.0
        address = socket.inet_pton(self._sock.family, name[0].partition("%")[0])
        if not self._answer(packet, address, name):
            self._wait(packet, address, name)
        if begun:
            self._latency.take(perf_counter() - begun, counters.queries_udp)
            counters.busiest.note(packet, begun)
        return True

    def _send(self, answer: bytes, to: Client) -> None:
        try:
            self._sock.sendto(answer, to)
        except OSError:  # a full buffer, an unreachable client, port 0
            self._counters.dropped += 1

    def _ready(
        self, packets: Sequence[bytes], addresses: Sequence[bytes], answers: list[Reply]
    ) -> list[bytes | None]:
        """What can be sent now; the rest is when other servers have been asked, or in another turn."""
        if not _SENDABLE.issuperset(map(type, answers)):
            for number, answer in enumerate(answers):
                if answer is LATER:
                    self._wait(packets[number], addresses[number], self._batch.client(number))
                    answers[number] = None
                elif isinstance(answer, Deferred):
                    self._defer(answer, packets[number], addresses[number], self._batch.client(number))
                    answers[number] = None
        return cast(list[bytes | None], answers)

    def _log(self, packets: Sequence[bytes], answers: Sequence[Reply]) -> None:
        for number, answer in enumerate(answers):
            if answer is not LATER and not isinstance(answer, Deferred):
                query_log.write(packets[number], answer, "udp", self._batch.client(number)[0])

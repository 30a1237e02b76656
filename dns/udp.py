"""UDP: datagrams from a socket to the responder and back.

Owns the sockets. A non-blocking socket on the event loop's reader, a batch of datagrams a wake-up: this costs a fifth
of asyncio's datagram protocol, which maps a large buffer anew for each datagram. An answer that the kernel cannot
take at once is dropped and counted, as UDP allows; nobody waits for a client.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import cast

from discovery.dns import query_log
from discovery.dns.admission import Answering
from discovery.dns.batch import SLOTS, Client, batch
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.responder import Deferred

SO_RCVBUFFORCE = 33  # Linux, <asm-generic/socket.h>; the socket module has no name for it
BUFFER = 4 << 20  # bytes in the kernel for bursts while the loop is busy elsewhere


class UdpListener:
    def __init__(
        self,
        sock: socket.socket,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
    ) -> None:
        """Takes over a bound, non-blocking datagram socket."""
        self._sock = sock
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        self._batch = batch(sock)
        enlarge(sock)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._sock.fileno(), self.drain)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers what has arrived, then closes."""
        loop.remove_reader(self._sock.fileno())
        self.drain()
        self._sock.close()

    def drain(self) -> bool:
        """Answers one batch; whether there may be more. The loop calls again while there is."""
        packets, clients = self._batch.receive()
        self._counters.queries_udp += len(packets)
        answers = self._responder.respond_all(packets, clients)
        if query_log.is_on():
            self._log(packets, answers)
        self._counters.dropped += self._batch.send(self._ready(packets, answers))
        return len(packets) == SLOTS

    def _ready(self, packets: Sequence[bytes], answers: list[bytes | Deferred | None]) -> list[bytes | None]:
        """What can be sent now; the rest is when other servers have been asked."""
        if Deferred in set(map(type, answers)):
            for number, answer in enumerate(answers):
                if isinstance(answer, Deferred):
                    self._defer(answer, packets[number], self._batch.client(number))
                    answers[number] = None
        return cast(list[bytes | None], answers)

    def _log(self, packets: Sequence[bytes], answers: Sequence[bytes | Deferred | None]) -> None:
        for number, answer in enumerate(answers):
            if not isinstance(answer, Deferred):
                query_log.write(packets[number], answer, "udp", self._batch.client(number)[0])

    def _defer(self, deferred: Deferred, packet: bytes, client: Client) -> None:
        """Sends the answer when other servers have been asked."""

        def send(task: asyncio.Task[bytes]) -> None:
            if task.cancelled() or self._sock.fileno() < 0:
                return
            if query_log.is_on():
                query_log.write(packet, task.result(), "udp", client[0])
            try:
                self._sock.sendto(task.result(), client)
            except OSError:  # as for any other answer
                self._counters.dropped += 1

        self._deferred.start(deferred, client[0]).add_done_callback(send)


def enlarge(sock: socket.socket) -> None:
    """A large receive buffer: beyond the system's limit where we may, else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)

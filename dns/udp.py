"""UDP: datagrams from a socket to the responder and back.

Owns the sockets. A non-blocking socket on the event loop's reader, drained up to BATCH datagrams a wake-up: this
costs a quarter of asyncio's datagram protocol, which maps a large buffer anew for each datagram. An answer that the
kernel cannot take at once is dropped and counted, as UDP allows; nobody waits for a client.
"""

from __future__ import annotations

import asyncio
import socket

from discovery.dns import query_log
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.responder import Deferred, Responder

BATCH = 64  # datagrams a wake-up, so that HTTP and leases get their turn within a millisecond
MAX_QUERY = 4096  # bytes; a longer one is cut and so malformed
SO_RCVBUFFORCE = 33  # Linux, <asm-generic/socket.h>; the socket module has no name for it
BUFFER = 4 << 20  # bytes in the kernel for bursts while the loop is busy elsewhere


class UdpListener:
    def __init__(
        self,
        sock: socket.socket,
        responder: Responder,
        deferred: DeferredResponder,
        counters: DnsCounters,
    ) -> None:
        """Takes over a bound, non-blocking datagram socket."""
        self._sock = sock
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        enlarge(sock)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._sock.fileno(), self._drain)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers what has arrived, then closes."""
        loop.remove_reader(self._sock.fileno())
        self._drain()
        self._sock.close()

    def _drain(self) -> None:
        receive, send = self._sock.recvfrom, self._sock.sendto
        respond = self._responder.respond
        logging = query_log.is_on()
        count = 0
        try:
            for count in range(1, BATCH + 1):  # noqa: B007  # used below
                packet, client = receive(MAX_QUERY)
                answer = respond(packet, client[0])
                if isinstance(answer, Deferred):
                    self._defer(answer, packet, client)
                    continue
                if logging:
                    query_log.write(packet, answer, "udp", client[0])
                if answer is not None:
                    try:
                        send(answer, client)
                    except OSError:  # a full buffer, an unreachable client, port 0: its loss alone
                        self._counters.dropped += 1
        except BlockingIOError:
            count -= 1
        except OSError:  # an ICMP error left on the socket by an earlier answer
            count -= 1
        self._counters.queries_udp += count

    def _defer(self, deferred: Deferred, packet: bytes, client: tuple[str, int]) -> None:
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

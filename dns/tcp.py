"""DNS over TCP (RFC 7766): framed queries on connections.

Owns the connections: many queries on one, split anywhere, all answers to one read joined into one write. A connection
idle for IDLE seconds is closed, as is one beyond MAX_CONNECTIONS and one that sends a frame of length zero; a client
that stops reading is no longer read from, so what it can make us hold is bounded; it delays nobody else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

from discovery.dns import query_log
from discovery.dns.admission import Answering
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.responder import Deferred

IDLE = 15.0  # seconds; RFC 7766 section 6.2.3 wants seconds, not minutes
SWEEP = 1.0  # seconds between looks for idle connections
MAX_CONNECTIONS = 2000
HIGH_WATER = 256 * 1024  # bytes of answers a client may leave unread before we stop reading from it


class TcpListener:
    """Serves the listening socket it is given. `clock` counts seconds and never goes back."""

    def __init__(
        self,
        sock: socket.socket,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        clock: Callable[[], float],
    ) -> None:
        self._sock = sock
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.connections: set[_Connection] = set()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=self._sock)
        self._sweeper = loop.call_later(SWEEP, self._sweep)

    async def close(self) -> None:
        """Stops listening, sends out what is answered, and closes every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()

    def _connection(self) -> _Connection:
        return _Connection(self.connections, self._responder, self._deferred, self._counters, self._clock)

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        self.end_idle()

    def end_idle(self) -> None:
        """Ends the connections on which nothing whole came for IDLE seconds."""
        oldest = self._clock() - IDLE
        for connection in list(self.connections):
            if connection.active < oldest:
                connection.abort()


class _Connection(asyncio.Protocol):
    def __init__(
        self,
        connections: set[_Connection],
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        clock: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._client, self._address = "", b""
        self._buffer = b""
        self._paused = False
        self._awaited = 0  # answers that other servers are asked for
        self._ended = False  # the client has sent all it will
        self.active = clock()  # when the last whole query came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        if peer is None or len(self._connections) >= MAX_CONNECTIONS:  # None: reset before it was accepted
            self._transport.abort()
            return
        self._client = str(peer[0])
        self._address = ip_address(self._client.partition("%")[0]).packed
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._respond()

    def eof_received(self) -> bool:
        """A half-closed client still gets its answers: the end is only read when all before it is read."""
        self._ended = True
        if not self._awaited:
            self.close()
        return True

    def pause_writing(self) -> None:
        self._paused = True
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        assert self._transport is not None
        self._respond()
        if not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def _respond(self) -> None:
        """Answers every whole query in the buffer, until the client has too much unread."""
        assert self._transport is not None
        respond, buffer = self._responder.respond, self._buffer
        answers: list[bytes] = []
        logging = query_log.is_on()
        at = pending = count = 0
        closing = False
        size = len(buffer)
        while not self._paused and at + 2 <= size:
            length = buffer[at] << 8 | buffer[at + 1]
            if not length:
                closing, at = True, size
                break
            end = at + 2 + length
            if end > size:
                break
            packet = buffer[at + 2 : end]
            answer = respond(packet, self._address)
            at = end
            count += 1
            if isinstance(answer, Deferred):
                self._defer(answer, packet)
                continue
            if logging:
                query_log.write(packet, answer, "tcp", self._client)
            if answer is not None:
                answers += (len(answer).to_bytes(2, "big"), answer)
                pending += len(answer)
                if pending > HIGH_WATER:
                    self._write(answers)
                    answers, pending = [], 0
        self._buffer = buffer[at:]
        if count:
            self._counters.queries_tcp += count
            self.active = self._clock()
            self._write(answers)
        if closing:
            self.close()

    def _defer(self, deferred: Deferred, packet: bytes) -> None:
        """Writes the answer when other servers have been asked; later questions need not wait for it."""

        def write(task: asyncio.Task[bytes]) -> None:
            self._awaited -= 1
            if not task.cancelled():
                answer = task.result()
                if query_log.is_on():
                    query_log.write(packet, answer, "tcp", self._client)
                self._write([len(answer).to_bytes(2, "big"), answer])
            if self._ended and not self._awaited:
                self.close()

        self._awaited += 1
        self._deferred.start(deferred, self._client).add_done_callback(write)

    def _write(self, answers: list[bytes]) -> None:
        assert self._transport is not None
        if answers and not self._transport.is_closing():
            self._transport.write(b"".join(answers))

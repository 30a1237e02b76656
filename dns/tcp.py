"""DNS over TCP (RFC 7766): framed queries on connections, those over TLS (`tls`) too.

Owns the streams: many queries on one connection, split anywhere, all answers to one read joined into one write, answers
that wait for other servers out of order. A client that stops reading, or whose next question must wait for its turn
(`turns`), is no longer read from, so what it can make us hold is bounded; it delays nobody else. How many connections
there may be, and how long one lasts, is `connections`'s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from time import perf_counter
from typing import cast

from discovery.dns import query_log
from discovery.dns.admission import Answering
from discovery.dns.connections import BACKLOG, Connections
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.padding import padded
from discovery.dns.responder import Deferred
from discovery.dns.turns import LATER, Turns

SWEEP = 1.0  # seconds between looks for connections whose time is over
HIGH_WATER = 64 * 1024  # bytes of answers a client may leave unread before we stop reading from it
MAX_AWAITED = 100  # answers of other servers that one connection may wait for before we stop reading from it


class TcpListener:
    """Serves the listening socket it is given. `clock` counts seconds and never goes back."""

    def __init__(
        self,
        sock: socket.socket,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        clock: Callable[[], float],
        connections: Connections,
        turns: Turns,
    ) -> None:
        self._sock = sock
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._turns = turns
        self.connections = connections

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=self._sock, backlog=BACKLOG)
        self._sweeper = loop.call_later(SWEEP, self._sweep)

    async def close(self) -> None:
        """Stops listening, sends out what is answered, and closes every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.close()

    def _connection(self) -> Connection:
        return Connection(
            self.connections, self._responder, self._deferred, self._counters, self._clock, self._turns
        )

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        self.connections.sweep(self._clock())


class Connection(asyncio.Protocol):
    """`active` and `opened`: seconds of the clock (`connections.Held`). `secure`: TLS, so answers may be padded."""

    def __init__(
        self,
        connections: Connections,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        clock: Callable[[], float],
        turns: Turns,
        *,
        secure: bool = False,
    ) -> None:
        self._connections = connections
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        self._clock = clock
        self._turns = turns
        self._secure = secure
        self._transport_name = "tls" if secure else "tcp"
        self._latency = counters.latency_tls if secure else counters.latency_tcp
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._buffer = b""
        self._paused = False  # the client has too much unread
        self._awaited = 0  # answers that other servers are asked for
        self._waiting = False  # the next question waits for its turn
        self._ended = False  # the client has sent all it will
        self.client = b""
        self.active = self.opened = clock()

    # ------------------------------------------------------------ the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.take(transport)
        peer = transport.get_extra_info("peername")  # None: reset before it was accepted
        if peer is None or not self.is_admitted(str(peer[0])):
            self.abort()

    def take(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def is_admitted(self, client: str) -> bool:
        """Takes a place for the client with that address, where there is one."""
        self._client = client
        self.client = ip_address(client.partition("%")[0]).packed
        admitted = self._connections.admit(self, self._clock())
        self._counters.connections_refused += not admitted
        return admitted

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._respond()

    def eof_received(self) -> bool:
        """A half-closed client still gets its answers: the end is only read when all before it is read.

        TLS has no half-closed connections: its end is the end.
        """
        self._ended = True
        self._close_at_end()
        return not self._secure

    def pause_writing(self) -> None:
        self._paused = True
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._go_on()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    # ------------------------------------------------------------ queries and answers

    def _respond(self) -> None:
        """Answers every whole query in the buffer, until the client has too much unread."""
        if self._is_full():
            return
        respond, buffer = self._responder.respond, self._buffer
        answers: list[bytes] = []
        counters, latency = self._counters, self._latency
        asked = counters.queries_tls if self._secure else counters.queries_tcp
        begun = perf_counter() if asked + 1 >= latency.due else 0.0
        logging = query_log.is_on()
        at = pending = count = 0
        closing = False
        size, packet = len(buffer), b""
        while not self._paused and at + 2 <= size:
            length = buffer[at] << 8 | buffer[at + 1]
            if not length:
                closing, at = True, size
                break
            end = at + 2 + length
            if end > size:
                break
            packet = buffer[at + 2 : end]
            answer = respond(packet, self.client)
            if answer is LATER:
                self._wait()
                break
            at = end
            count += 1
            if isinstance(answer, Deferred):
                deferred, answer = answer, self._deferred.at_once(answer, self._client)
                if answer is None:
                    self._defer(deferred, packet)
                    if self._is_full():
                        break
                    continue
            if logging:
                query_log.write(packet, answer, self._transport_name, self._client)
            if answer is not None:
                if self._secure:
                    answer = padded(packet, answer)
                answers += (len(answer).to_bytes(2, "big"), answer)
                pending += len(answer)
                if pending > HIGH_WATER:
                    self._write(answers)
                    answers, pending = [], 0
        self._buffer = buffer[at:]
        if count:
            if self._secure:
                counters.queries_tls += count
            else:
                counters.queries_tcp += count
            self._connections.note(self, self._clock())
            self._write(answers)
            if begun:
                latency.take(perf_counter() - begun, asked + count)
                counters.busiest.note(packet, begun)
        if closing:
            self.close()

    def _is_full(self) -> bool:
        """Whether the client must first read, or other servers answer, or others have their turn."""
        return self._paused or self._waiting or self._awaited >= MAX_AWAITED

    def _wait(self) -> None:
        """Goes on in a later turn, and reads no more till then."""
        assert self._transport is not None
        self._waiting = self._turns.wait(self._take_turn)
        if self._waiting:
            self._transport.pause_reading()
        else:
            self.abort()

    def _take_turn(self) -> bool:
        self._waiting = False
        assert self._transport is not None
        if not self._transport.is_closing():
            self._go_on()
            self._close_at_end()
        return True

    def _close_at_end(self) -> None:
        """Where the client has sent all it will, and has its answers."""
        if self._ended and not self._awaited and not self._waiting:
            self.close()

    def _defer(self, deferred: Deferred, packet: bytes) -> None:
        """Writes the answer when other servers have been asked; later questions need not wait for it."""

        def write(task: asyncio.Task[bytes]) -> None:
            self._awaited -= 1
            if not task.cancelled():
                answer = task.result()
                if query_log.is_on():
                    query_log.write(packet, answer, self._transport_name, self._client)
                if self._secure:
                    answer = padded(packet, answer)
                self._write([len(answer).to_bytes(2, "big"), answer])
            if self._awaited == MAX_AWAITED - 1:
                self._go_on()
            self._close_at_end()

        assert self._transport is not None
        self._awaited += 1
        if self._awaited == MAX_AWAITED:
            self._transport.pause_reading()
        self._deferred.start(deferred, self._client).add_done_callback(write)

    def _go_on(self) -> None:
        """Answers what has been left lying, and reads on."""
        assert self._transport is not None
        self._respond()
        if not self._is_full() and not self._transport.is_closing():
            self._transport.resume_reading()

    def _write(self, answers: list[bytes]) -> None:
        assert self._transport is not None
        if answers and not self._transport.is_closing():
            self._transport.write(b"".join(answers))

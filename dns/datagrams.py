"""What both kinds of UDP listeners do with one question: answer it, or have it wait.

Owns the way of a question whose answer is not there at once: made in a later turn (`turns`), or when other servers have
been asked (`deferred`). How a datagram is read and an answer is sent is the listener's. What cannot be sent or cannot
wait is dropped and counted; nobody waits for a client.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from functools import partial
from typing import Generic, TypeVar

from discovery.dns import query_log
from discovery.dns.admission import Answering
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.responder import Deferred
from discovery.dns.turns import LATER, Turns

SO_RCVBUFFORCE = 33  # Linux, <asm-generic/socket.h>; the socket module has no name for it
BUFFER = 4 << 20  # bytes in the kernel for bursts while the loop is busy elsewhere

To = TypeVar("To", bound=tuple[str, *tuple[object, ...]])
"""Where an answer goes: the client's address as text, and what else sending needs."""


class Datagrams(ABC, Generic[To]):
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
        enlarge(sock)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._sock.fileno(), self.drain)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers what has arrived, then closes."""
        loop.remove_reader(self._sock.fileno())
        self.drain()
        self._sock.close()

    @abstractmethod
    def drain(self) -> bool:
        """Answers some of the datagrams that wait; whether there may be more."""

    @abstractmethod
    def _send(self, answer: bytes, to: To) -> None:
        """Or drops it, and counts that."""

    def _answer(self, packet: bytes, address: bytes, to: To) -> bool:
        """Answers one question; False: it must wait for its turn."""
        answer = self._responder.respond(packet, address)
        if answer is LATER:
            return False
        if isinstance(answer, Deferred):
            self._defer(answer, packet, address, to)
        else:
            self._finish(answer, packet, to)
        return True

    def _finish(self, answer: bytes | None, packet: bytes, to: To) -> None:
        if query_log.is_on():
            query_log.write(packet, answer, "udp", to[0])
        if answer is not None:
            self._send(answer, to)

    def _wait(self, packet: bytes, address: bytes, to: To) -> None:
        if not self._turns.wait(partial(self._go_on, packet, address, to)):
            self._counters.dropped += 1

    def _go_on(self, packet: bytes, address: bytes, to: To) -> bool:
        return self._sock.fileno() < 0 or self._answer(packet, address, to)

    def _defer(self, deferred: Deferred, packet: bytes, address: bytes, to: To) -> None:
        """Sends the answer when other servers have been asked, where they must be."""

        def send(answer: bytes) -> None:
            self._finish(self._responder.judge(answer, packet, address), packet, to)

        def end(task: asyncio.Task[bytes]) -> None:
            if not task.cancelled() and self._sock.fileno() >= 0:
                send(task.result())

        answer = self._deferred.at_once(deferred, to[0])
        if answer is not None:
            send(answer)
        else:
            self._deferred.start(deferred, to[0]).add_done_callback(end)


def enlarge(sock: socket.socket) -> None:
    """A large receive buffer: beyond the system's limit where we may, else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)

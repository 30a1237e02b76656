"""DNS over TLS (RFC 7858): connections of `tcp` behind a handshake.

Owns accepting and the handshake. A connection counts from before its handshake, for that is what costs: so the limits
hold against those who never end it. The certificate may be replaced while the node runs; connections that stand go on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from discovery.dns.admission import Answering
from discovery.dns.connections import Connections
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.tcp import Connection
from discovery.dns.turns import Turns

log = logging.getLogger(__name__)

HANDSHAKE = 5.0  # seconds for a handshake, and for the end of a session
ACCEPT = 64  # connections a wake-up
REST = 1.0  # seconds without accepting when the system has no more descriptors


class TlsListener:
    """Serves the listening, non-blocking socket it is given. `context` has the certificate for new connections."""

    def __init__(
        self,
        sock: socket.socket,
        responder: Answering,
        deferred: DeferredResponder,
        counters: DnsCounters,
        clock: Callable[[], float],
        connections: Connections,
        turns: Turns,
        context: ssl.SSLContext,
    ) -> None:
        self._sock = sock
        self._responder = responder
        self._deferred = deferred
        self._counters = counters
        self._clock = clock
        self._turns = turns
        self._resting: asyncio.TimerHandle | None = None
        self.connections = connections
        self.context = context

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        self._resting = None
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Stops listening, sends out what is answered, and closes every connection."""
        if self._resting is None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
        else:
            self._resting.cancel()
        self._sock.close()
        for connection in self.connections:
            connection.close()

    def _accept(self) -> None:
        for _ in range(ACCEPT):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left: the socket would stay readable
                log.warning("DNS over TLS: no connection can be accepted: %s", error.strerror)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._sock.fileno())
                self._resting = loop.call_later(REST, self.start)
                return
            sock.setblocking(False)
            connection = _Secure(
                self.connections,
                self._responder,
                self._deferred,
                self._counters,
                self._clock,
                self._turns,
                secure=True,
            )
            connection.begin(sock, str(peer[0]), self.context)


class _Secure(Connection):
    """A connection whose transport is there after the handshake."""

    _shaking: socket.socket | None = None  # until the handshake is over
    _handshake: asyncio.Task[None]

    def begin(self, sock: socket.socket, client: str, context: ssl.SSLContext) -> None:
        if not self.is_admitted(client):
            sock.close()
            return
        self._shaking = sock
        self._handshake = asyncio.create_task(self._shake_hands(sock, context))

    async def _shake_hands(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self,
                sock,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=HANDSHAKE,
            )
        except OSError:  # what it sent was no TLS, or it went, or took too long, or we end it
            self._connections.remove(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._shaking = None
        self.take(transport)

    def close(self) -> None:
        if not self._fails():
            super().close()

    def abort(self) -> None:
        if not self._fails():
            super().abort()

    def _fails(self) -> bool:
        """Makes a handshake fail that goes on still; its transport then cleans up after itself."""
        if self._shaking is None:
            return False
        try:
            self._shaking.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client has gone
            pass
        return True

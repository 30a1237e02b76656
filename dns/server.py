"""The DNS server of one process: responders, forwarding and listeners put together.

Owns which parts share what: one prepared cache for UDP and TCP, raw caches apart, one forwarder for both. It is given
bound sockets and ends them; `cookies` wants secrets before it gives any. It reads no configuration and knows nothing of
where the services come from.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from ipaddress import ip_address

from discovery.dns.admission import NO_LIMITS, Admission, Limits
from discovery.dns.answer import Prepared
from discovery.dns.cache import Cache
from discovery.dns.connections import Connections
from discovery.dns.cookies import Cookies
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.forward import Forwarder, Routes
from discovery.dns.options import Options
from discovery.dns.responder import Responder
from discovery.dns.source import Path, Source
from discovery.dns.synthesis import Settings
from discovery.dns.tcp import TcpListener
from discovery.dns.tls import TlsListener
from discovery.dns.turns import Turns
from discovery.dns.udp import UdpListener
from discovery.dns.wildcard import WildcardListener

# Shares of the answer cache: most questions come over UDP, again and again with the same bytes.
RAW_SHARE_UDP, RAW_SHARE_TCP, PREPARED_SHARE = 0.5, 0.2, 0.3

LOOK_AT_NEIGHBOURS = 0.02  # seconds between looks for questions that another process leaves lying


class DnsServer:
    """`cache_bytes` for finished answers (0: none are kept); `clock` counts seconds and never goes back."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        routes: Routes,
        counters: DnsCounters,
        *,
        cache_bytes: int,
        limits: Limits = NO_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.cookies = Cookies(time.time)
        options = Options(settings.nsid, self.cookies)
        self._counters = counters
        self._connections = Connections()
        self._tls: list[TlsListener] = []
        self._clock = clock
        self._stack = AsyncExitStack()
        self._turns_udp, self._turns_tcp = Turns(clock), Turns(clock)
        self._forwarder = Forwarder(routes, source, settings.zones, counters, clock)
        prepared: Cache[bytes, Prepared] = Cache(int(cache_bytes * PREPARED_SHARE))

        def responder(*, udp: bool) -> Responder:
            raw_bytes = int(cache_bytes * (RAW_SHARE_UDP if udp else RAW_SHARE_TCP))
            return Responder(
                source,
                settings,
                counters,
                draw=draw,
                udp=udp,
                raw_bytes=raw_bytes,
                prepared=prepared,
                options=options,
                turns=self._turns_udp if udp else self._turns_tcp,
            )

        self._udp, self._tcp = responder(udp=True), responder(udp=False)
        self._admitted_udp, self._admitted_tcp = (
            Admission(each, limits, self.cookies, counters, clock, udp=each is self._udp)
            for each in (self._udp, self._tcp)
        )
        self._deferred_udp, self._deferred_tcp = (
            DeferredResponder(each, self._forwarder, source, settings) for each in (self._udp, self._tcp)
        )
        self._neighbours: list[UdpListener | WildcardListener] = []
        self._look: asyncio.TimerHandle | None = None

    async def start(
        self,
        udp: Sequence[socket.socket],
        tcp: Sequence[socket.socket],
        tls: Sequence[socket.socket] = (),
        context: ssl.SSLContext | None = None,
        *,
        neighbours: Sequence[socket.socket] = (),
    ) -> None:
        """Answers on bound sockets, and takes them over; `tls` needs `context`.

        `neighbours`: UDP sockets that other processes answer on. What lies there for long, as when such a process has
        ended or is stopped, is answered here.
        """
        loop = asyncio.get_running_loop()
        for closable in (
            self._forwarder,
            self._deferred_udp,
            self._deferred_tcp,
            self._turns_udp,
            self._turns_tcp,
        ):
            self._stack.callback(closable.close)
        for sock in udp:
            listener = self._listener(sock)
            listener.start(loop)
            self._stack.callback(listener.close, loop)
        for sock in neighbours:
            self._neighbours.append(self._listener(sock))
            self._stack.callback(self._neighbours[-1].close, loop)
        if neighbours:
            self._look_at_neighbours()
        streams = (
            self._admitted_tcp,
            self._deferred_tcp,
            self._counters,
            self._clock,
            self._connections,
            self._turns_tcp,
        )
        for sock in tls:
            assert context is not None
            tls_listener = TlsListener(sock, *streams, context)
            tls_listener.start()
            self._tls.append(tls_listener)
            self._stack.callback(tls_listener.close)
        for sock in tcp:
            tcp_listener = TcpListener(sock, *streams)
            await tcp_listener.start()
            self._stack.push_async_callback(tcp_listener.close)

    def renew(self, context: ssl.SSLContext) -> None:
        """New connections over TLS have this certificate."""
        for listener in self._tls:
            listener.context = context

    def limit(self, limits: Limits) -> None:
        """From the next question on, on connections that are open too, these hold."""
        for admission in (self._admitted_udp, self._admitted_tcp):
            admission.limit(limits)

    def _listener(self, sock: socket.socket) -> UdpListener | WildcardListener:
        unbound = ip_address(sock.getsockname()[0]).is_unspecified
        kind = WildcardListener if unbound else UdpListener
        return kind(sock, self._admitted_udp, self._deferred_udp, self._counters, self._turns_udp)

    def _look_at_neighbours(self) -> None:
        """At once again while there are whole batches, so that what a process that is gone leaves doesn't pile up."""
        busy = [neighbour.drain() for neighbour in self._neighbours]
        self._look = asyncio.get_running_loop().call_later(
            0.0 if any(busy) else LOOK_AT_NEIGHBOURS, self._look_at_neighbours
        )

    async def close(self) -> None:
        """Sends out what is answered, and ends."""
        if self._look is not None:
            self._look.cancel()
        await self._stack.aclose()

    def is_kept(self, path: Path, qtype: int) -> bool:
        """Whether the answer to that question is kept and holds."""
        return self._udp.is_prepared(path, qtype)

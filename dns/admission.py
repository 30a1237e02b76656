"""Whose questions are answered, and how often: what stands before a responder where the settings ask for it.

Owns the order (who may ask, then the answer, then the rate of answers), both outside the caches, and what those get who
are held back: REFUSED with extended error 18 for clients that may not ask, as BIND and NSD do it; a cut answer or
silence for networks over their rate. Where neither is set up the responder is asked itself, so that it costs nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

import msgspec

from discovery.dns import wire
from discovery.dns.access import Access
from discovery.dns.cookies import CLIENT_COOKIE, SERVER_COOKIE, Cookies
from discovery.dns.counters import DnsCounters
from discovery.dns.responder import Reply, Responder
from discovery.dns.rrl import RateLimit, Rates, Verdict


class Limits(msgspec.Struct, frozen=True):
    """Who may ask (`access.Access`), and answers a second to one network over UDP."""

    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    deny: tuple[IPv4Network | IPv6Network, ...] = ()
    rates: Rates = Rates()


NO_LIMITS = Limits()
_OURS = wire.encode_option(wire.OPTION_COOKIE, bytes(CLIENT_COOKIE + SERVER_COOKIE))[:4]


class Answering(Protocol):
    """What a listener asks: a responder, perhaps with something before it."""

    def respond(self, packet: bytes, client: bytes = b"") -> Reply: ...
    def respond_all(self, packets: list[bytes], clients: list[bytes]) -> list[Reply]: ...
    def judge(self, answer: bytes, packet: bytes, client: bytes) -> bytes | None:
        """What is sent of an answer that was made elsewhere, for that question (`deferred`)."""


class _Respond(Protocol):
    def __call__(self, packet: bytes, client: bytes = b"") -> Reply: ...


class Admission:
    """The responder with before it what the limits ask for. They may change while it answers: `limit`."""

    respond: _Respond
    respond_all: Callable[[list[bytes], list[bytes]], list[Reply]]
    judge: Callable[[bytes, bytes, bytes], bytes | None]

    def __init__(
        self,
        responder: Responder,
        limits: Limits,
        cookies: Cookies,
        counters: DnsCounters,
        clock: Callable[[], float],
        *,
        udp: bool,
    ) -> None:
        self._responder = responder
        self._cookies = cookies
        self._counters = counters
        self._clock = clock
        self._udp = udp
        self._limits: Limits | None = None
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """Holds these from the next question on. Where nothing changes, what was counted goes on to count."""
        if limits == self._limits:
            return
        self._limits = limits
        answering: Answering = self._responder
        access = Access(limits.allow, limits.deny)
        if not access.is_open:
            answering = _Permitted(self._responder, access, self._counters)
        rate_limit = RateLimit(limits.rates)
        if self._udp and not rate_limit.is_off:  # over TCP an address cannot be forged
            answering = _Limited(
                answering, self._responder, rate_limit, self._cookies, self._counters, self._clock
            )
        self.respond, self.respond_all, self.judge = answering.respond, answering.respond_all, answering.judge


class _OneByOne(ABC):
    """Every question for itself."""

    @abstractmethod
    def respond(self, packet: bytes, client: bytes = b"") -> Reply: ...

    def respond_all(self, packets: list[bytes], clients: list[bytes]) -> list[Reply]:
        return list(map(self.respond, packets, clients))

    def judge(self, answer: bytes, packet: bytes, client: bytes) -> bytes | None:
        return answer


class _Permitted(_OneByOne):
    def __init__(self, responder: Responder, access: Access, counters: DnsCounters) -> None:
        self._responder = responder
        self._access = access
        self._counters = counters

    def respond(self, packet: bytes, client: bytes = b"") -> Reply:
        if self._access.permits(client):
            return self._responder.respond(packet, client)
        self._counters.not_permitted += 1
        return self._responder.refuse(packet, client)


class _Limited(_OneByOne):
    def __init__(
        self,
        answering: Answering,
        responder: Responder,
        rate_limit: RateLimit,
        cookies: Cookies,
        counters: DnsCounters,
        clock: Callable[[], float],
    ) -> None:
        self._answering = answering
        self._responder = responder
        self._rate_limit = rate_limit
        self._cookies = cookies
        self._counters = counters
        self._clock = clock

    def respond(self, packet: bytes, client: bytes = b"") -> Reply:
        answer = self._answering.respond(packet, client)
        return self.judge(answer, packet, client) if isinstance(answer, bytes) else answer

    def judge(self, answer: bytes, packet: bytes, client: bytes) -> bytes | None:
        verdict = self._rate_limit.judge(answer, client, self._clock())
        if verdict is Verdict.SEND or self._is_proven(packet, client):
            return answer
        if verdict is Verdict.CUT:
            self._counters.slipped += 1
            return self._responder.cut(packet, client)
        self._counters.rate_limited += 1
        return None

    def _is_proven(self, packet: bytes, client: bytes) -> bool:
        """Whether a cookie of ours shows that the client is where it sends from (RFC 7873 section 5.2.5)."""
        if _OURS not in packet:  # most of a flood, which should cost little
            return False
        query = wire.parse(packet)
        if query is None or query.edns is None or not query.edns.cookie:
            return False
        return self._cookies.is_valid(query.edns.cookie, client)

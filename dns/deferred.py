"""Questions that need other servers: outside our zones, or with outside names in the answer.

Owns what is forwarded for whom, and how an answer of another server becomes ours. A question is forwarded at most once,
never for a client that may not, never without RD; whatever happens there is an answer, SERVFAIL at worst.
"""

from __future__ import annotations

import asyncio
import logging

from discovery.dns import foreign, wire
from discovery.dns.answer import Body, Prepared
from discovery.dns.clients import network_of
from discovery.dns.counters import kind
from discovery.dns.forward import Forwarder, Kept
from discovery.dns.places import Places
from discovery.dns.responder import Deferred, Responder, bare
from discovery.dns.source import Path, Source
from discovery.dns.synthesis import Settings, synthesize
from discovery.dns.upstream import Ask, NoAnswer, has_loop_mark

log = logging.getLogger(__name__)

MAX_WAITING = 5000  # questions at a time, of one network as many as places are left; beyond, SERVFAIL at once


class DeferredResponder:
    """Finishes what a Responder deferred; one for each, since sizes differ between UDP and TCP."""

    def __init__(
        self, responder: Responder, forwarder: Forwarder, source: Source, settings: Settings
    ) -> None:
        self._responder = responder
        self._forwarder = forwarder
        self._source = source
        self._settings = settings
        self._waiting: set[asyncio.Task[bytes]] = set()
        self._places = Places()

    def at_once(self, deferred: Deferred, client: str) -> bytes | None:
        """The answer, where no other server must be asked for it after all; most of a flood is refused so."""
        query, prepared = deferred
        try:
            body = self._refusal(query, prepared, client) if prepared.outside else None
        except Exception:
            body = self._broken(query)
        return None if body is None else self._responder.finish(query, body)

    def start(self, deferred: Deferred, client: str) -> asyncio.Task[bytes]:
        """The answer to come, which is not to be had `at_once`. It never raises but when it is cancelled."""
        network = network_of(deferred.query.client)
        has_place = self._places.take(network, MAX_WAITING)
        task = asyncio.create_task(self._finish(deferred, client, has_place=has_place))
        self._waiting.add(task)

        def done(task: asyncio.Task[bytes]) -> None:
            self._waiting.discard(task)
            if has_place:
                self._places.leave(network)

        task.add_done_callback(done)
        return task

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()

    async def _finish(self, deferred: Deferred, client: str, *, has_place: bool) -> bytes:
        query, prepared = deferred
        try:
            if not has_place:
                body = self._failed(query)
            elif prepared.outside:
                body = await self._forward(query)
            else:
                body = await self._inside(query, prepared, client)
        except Exception:
            body = self._broken(query)
        return self._responder.finish(query, body)

    def _broken(self, query: wire.Query) -> Body:
        """For an exception, which is logged."""
        log.exception("an error while answering a DNS question; it was answered with SERVFAIL")
        return self._responder.pack(query, bare(wire.SERVFAIL), None)

    # ------------------------------------------------------------ outside our zones

    def _refusal(self, query: wire.Query, prepared: Prepared, client: str) -> Body | None:
        """The answer to a question that is not forwarded; None: it is."""
        path = wire.path_of(query.name)
        servers = self._forwarder.stub(path)
        if not servers and prepared.rcode != wire.REFUSED:
            return self._responder.pack(query, prepared, None)  # a PTR record of ours
        servers = servers or self._forwarder.servers(path)
        if not servers or not query.flags & wire.RD or self._too_short(query, path):
            return self._responder.pack(query, bare(wire.REFUSED), None)
        if not self._forwarder.allowed(client):
            return self._responder.pack(query, bare(wire.REFUSED), wire.EDE_PROHIBITED)
        if has_loop_mark(query.edns):
            return self._failed(query)
        return None

    def _too_short(self, query: wire.Query, path: Path) -> bool:
        return query.qtype in (wire.A, wire.AAAA) and len(path) < self._forwarder.routes.ndots

    async def _forward(self, query: wire.Query) -> Body:
        servers = self._forwarder.servers(wire.path_of(query.name))
        do = query.edns is not None and query.edns.do
        try:
            ask = Ask(query.name, query.qtype, do, bool(query.flags & wire.CD))
            kept = await self._forwarder.ask(ask, servers, network_of(query.client))
        except NoAnswer:
            return self._failed(query)
        return self._render(query, kept)

    def _render(self, query: wire.Query, kept: Kept) -> Body:
        answer = kept.answer
        flags = wire.QR | answer.flags & wire.AA | answer.rcode | self._responder.flags(query)
        opt = self._responder.opt(query, answer.rcode, None)
        age, limit = self._forwarder.age(kept), self._responder.limit(query)
        packet = foreign.render(answer, age, query.question, flags, opt, limit)
        shortened = bool(packet[0] & wire.TC >> 8)
        end = wire.HEADER_SIZE + len(query.question)
        query.option = b""  # it is in the OPT
        counted = kind(query.question, answer.rcode)
        return Body(
            packet[:10],
            packet[end - 2 :],
            [],
            0,
            b"",
            rotate=False,
            shortened=shortened,
            end=end,
            kind=counted,
        )

    def _failed(self, query: wire.Query) -> Body:
        return self._responder.pack(query, bare(wire.SERVFAIL), wire.EDE_NO_REACHABLE_AUTHORITY)

    # ------------------------------------------------------------ inside, with outside names in the answer

    async def _inside(self, query: wire.Query, prepared: Prepared, client: str) -> Body:
        path = wire.path_of(query.name)
        extended_error = wire.EDE_STALE_ANSWER if self._source.stale else None
        asked = query.flags & wire.RD and self._forwarder.allowed(client) and not has_loop_mark(query.edns)
        if asked:
            outside = await self._forwarder.outside(prepared.wanted, network_of(query.client))
            answer = synthesize(path, query.qtype, self._source, self._settings, outside)
            prepared = Prepared(answer, path)
        return self._responder.pack(query, prepared, extended_error)

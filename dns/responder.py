"""From a packet to the packet that answers it, or to silence.

Owns the order of things: raw cache, parse, the header's verdict, class, readiness, prepared cache, synthesis, and
what goes into each cache. Total: whatever comes in, it never raises; an error inside is SERVFAIL, counted and logged.
It never touches a socket. One of its kind serves UDP and one TCP, with caches of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from discovery.dns import wire
from discovery.dns.answer import MAX_MESSAGE, Body, Prepared, pack
from discovery.dns.cache import Cache
from discovery.dns.counters import DnsCounters
from discovery.dns.records import RR, Answer
from discovery.dns.source import Source
from discovery.dns.synthesis import Settings, synthesize

log = logging.getLogger(__name__)

COPIED_FLAGS = 0x7800 | wire.RD | wire.CD  # opcode; RFC 1035 section 4.1.1, RFC 4035 section 3.1.6
# Shares of `dns.answer_cache_bytes`: most questions come over UDP, again and again with the same bytes.
RAW_SHARE_UDP, RAW_SHARE_TCP, PREPARED_SHARE = 0.5, 0.2, 0.3


class Responder:
    """`draw` gives numbers in [0, 1) for rotation. `prepared` is shared between UDP and TCP."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        counters: DnsCounters,
        *,
        draw: Callable[[], float],
        udp: bool,
        raw_bytes: int,
        prepared: Cache[tuple[bytes, int], Prepared],
    ) -> None:
        self._source = source
        self._settings = settings
        self._counters = counters
        self._draw = draw
        self._udp = udp
        self._raw: Cache[bytes, Body] = Cache(raw_bytes)
        self._prepared = prepared

    def respond(self, packet: bytes) -> bytes | None:
        """The whole answer, at most 65,535 bytes and over UDP never over the client's size; None: no answer."""
        key = packet[2:]
        entry = self._raw.entries.get(key)
        if entry is not None and entry.holds(self._source.epoch.version):
            body = entry.content
            self._counters.hits_raw += 1
            self._count(body)
            return packet[:2] + body.turn(self._draw())
        query = wire.parse(packet)
        if query is None:
            self._counters.dropped += 1
            return None
        try:
            body = self._answer(query, key)
        except Exception:
            log.exception("an error while answering a DNS question; it was answered with SERVFAIL")
            self._counters.failed += 1
            body = self._pack(query, _bare(wire.SERVFAIL), None)
        if query.rcode > 15:
            self._counters.rcodes[query.rcode] += 1
        else:
            self._count(body)
        return packet[:2] + body.turn(self._draw())

    def _count(self, body: Body) -> None:
        counters = self._counters
        counters.rcodes[body.head[1] & 15] += 1
        if body.shortened:
            if self._udp:
                counters.truncated += 1
            else:
                counters.cut += 1

    def _answer(self, query: wire.Query, key: bytes) -> Body:
        counters = self._counters
        source = self._source
        epoch = source.epoch.version
        prepared: Prepared | None = None
        extended_error = None
        cacheable = False
        if query.rcode:
            counters.malformed += query.rcode == wire.FORMERR
            prepared = _bare(query.rcode)
        elif query.qclass != wire.IN:
            prepared = Prepared(self._chaos(query), wire.path_of(query.name))
        elif not source.ready:
            prepared = _bare(wire.SERVFAIL)
            extended_error = wire.EDE_NOT_READY
        else:
            cacheable = True
            extended_error = wire.EDE_STALE_ANSWER if source.stale else None
            prepared = self._prepared.get((query.name, query.qtype), epoch)
            if prepared is not None:
                counters.hits_prepared += 1
            else:
                counters.misses += 1
                prepared = self._prepare(query, epoch)
        body = self._pack(query, prepared, extended_error)
        if cacheable and _repeats(query):
            self._raw.put(key, body, prepared.stamps, epoch, len(key) + body.size)
        return body

    def _prepare(self, query: wire.Query, epoch: int) -> Prepared:
        path = wire.path_of(query.name)
        answer = synthesize(path, query.qtype, self._source, self._settings)
        prepared = Prepared(answer, path)
        if answer.cut:
            self._counters.cut += 1
            name = b".".join(reversed(path)).decode("ascii", "backslashreplace")
            limit = self._settings.max_matched
            log.warning("%s: more than %d services match; the first of them made the answer", name, limit)
        if not prepared.stamps:  # outside every zone: it depends on the configuration alone
            prepared.stamps = ((self._source.epoch, epoch),)
        self._prepared.put((query.name, query.qtype), prepared, prepared.stamps, epoch, prepared.memory)
        return prepared

    def _pack(self, query: wire.Query, prepared: Prepared, extended_error: int | None) -> Body:
        settings, edns = self._settings, query.edns
        ending = []
        limit = wire.MIN_PAYLOAD if self._udp else MAX_MESSAGE
        if edns is not None:
            ending.append(wire.encode_opt(settings.payload_size, edns.do, prepared.rcode, extended_error))
            if self._udp:
                limit = max(limit, min(edns.payload_size, settings.payload_size))
        if prepared.rcode == wire.NOTAUTH:
            ending.append(query.tsig)
        flags = query.flags & COPIED_FLAGS
        return pack(
            prepared, query.question, flags, ending, limit, udp=self._udp, rotate=settings.round_robin
        )

    def _chaos(self, query: wire.Query) -> Answer:
        """Class CH tells who answers (RFC 4892); every other class is refused."""
        answer = Answer()
        text = self._settings.chaos.get(query.name) if query.qclass == wire.CH else None
        if text is None or query.qtype not in (wire.TXT, wire.ANY):
            answer.rcode = wire.REFUSED
            return answer
        answer.authoritative = True
        answer.first.append(RR(wire.path_of(query.name), wire.TXT, 0, (wire.encode_strings(text),), wire.CH))
        return answer


def _bare(rcode: int) -> Prepared:
    answer = Answer()
    answer.rcode = rcode
    return Prepared(answer, ())


def _repeats(query: wire.Query) -> bool:
    """Whether the same bytes are likely to come again: no random letter case (0x20), no options such as cookies."""
    edns = query.edns
    return query.question.startswith(query.name) and (edns is None or not edns.options)

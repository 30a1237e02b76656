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
            counters = self._counters
            counters.hits_raw += 1
            counters.rcodes[body.head[1] & 15] += 1
            return packet[:2] + body.turn(self._draw())
        try:
            return self._answer(packet, key)
        except Exception:
            log.exception("an error while answering a DNS question; it was answered with SERVFAIL")
            self._counters.failed += 1
            self._counters.rcodes[wire.SERVFAIL] += 1
            flags = wire.QR | int.from_bytes(packet[2:4], "big") & COPIED_FLAGS | wire.SERVFAIL
            return packet[:2] + flags.to_bytes(2, "big") + bytes(8)

    def _answer(self, packet: bytes, key: bytes) -> bytes | None:
        query = wire.parse(packet)
        counters = self._counters
        if query is None:
            counters.dropped += 1
            return None
        source = self._source
        epoch = source.epoch.version
        prepared: Prepared | None = None
        extended_error = None
        cacheable = False
        if query.rcode:
            counters.malformed += query.rcode == wire.FORMERR
            prepared = _bare(query.rcode)
        elif query.qclass != wire.IN:
            prepared = Prepared(self._chaos(query), ())
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
        counters.rcodes[prepared.rcode] += 1
        counters.truncated += body.truncated
        if cacheable and _repeats(query):
            self._raw.put(key, body, prepared.stamps, epoch, len(key) + body.size)
        return packet[:2] + body.turn(self._draw())

    def _prepare(self, query: wire.Query, epoch: int) -> Prepared:
        path = wire.path_of(query.name)
        answer = synthesize(path, query.qtype, self._source, self._settings)
        self._counters.cut += answer.cut
        prepared = Prepared(answer, path)
        if not prepared.stamps:  # outside every zone: it depends on the configuration alone
            prepared.stamps = ((self._source.epoch, epoch),)
        self._prepared.put((query.name, query.qtype), prepared, prepared.stamps, epoch, prepared.whole_size)
        return prepared

    def _pack(self, query: wire.Query, prepared: Prepared, extended_error: int | None) -> Body:
        settings, edns = self._settings, query.edns
        opt = b""
        limit = wire.MIN_PAYLOAD if self._udp else MAX_MESSAGE
        if edns is not None:
            opt = wire.encode_opt(settings.payload_size, edns.do, prepared.rcode, extended_error)
            if self._udp:
                limit = max(limit, min(edns.payload_size, settings.payload_size))
        flags = query.flags & COPIED_FLAGS
        return pack(prepared, query.question, flags, opt, limit, udp=self._udp, rotate=settings.round_robin)

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

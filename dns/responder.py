"""From a packet to the packet that answers it, or to silence.

Owns the order of things: what is kept, parse, the header's verdict, class, readiness, synthesis. Total: whatever
comes in, it never raises; an error inside is SERVFAIL, counted and logged.
It never touches a socket. One of its kind serves UDP and one TCP, with caches of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from discovery.dns import plain, text, wire
from discovery.dns.answer import MAX_MESSAGE, Body, Prepared, pack
from discovery.dns.cache import Cache
from discovery.dns.counters import DnsCounters, kind
from discovery.dns.kept import Kept
from discovery.dns.missing import Missing
from discovery.dns.options import Options
from discovery.dns.records import RR, Answer
from discovery.dns.source import Path, Source
from discovery.dns.synthesis import Settings, synthesize
from discovery.dns.turns import LATER, Later, Turns

log = logging.getLogger(__name__)

TOLD = 100
COPIED_FLAGS = 0x7800 | wire.RD | wire.CD  # opcode; RFC 1035 section 4.1.1, RFC 4035 section 3.1.6


class Deferred(NamedTuple):
    """A question whose answer needs other servers; `prepared` is what we know without them."""

    query: wire.Query
    prepared: Prepared


Reply = bytes | Deferred | Later | None
"""The whole answer, at most 65,535 bytes and over UDP never over the client's size; None: there is none.

Deferred: other servers must be asked first. LATER: ask again in another turn.
"""


class Responder:
    """`draw` gives numbers in [0, 1) for rotation. `prepared` is shared between UDP and TCP.

    `turns`: when an answer that is not kept may be made.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        counters: DnsCounters,
        *,
        draw: Callable[[], float],
        udp: bool,
        raw_bytes: int,
        prepared: Cache[bytes, Prepared],
        options: Options,
        turns: Turns,
    ) -> None:
        self._source = source
        self._settings = settings
        self._counters = counters
        self._draw = draw
        self._udp = udp
        self._kept = Kept(
            source, counters, options, draw=draw, udp=udp, raw_bytes=raw_bytes, prepared=prepared
        )
        self._options = options
        self._missing = Missing(source)
        self._turns = turns
        self._told: set[bytes] = set()  # names that max_matched cut, as told in the log

    def respond(self, packet: bytes, client: bytes = b"") -> Reply:
        """`client`: its address in 4 or 16 bytes, b"" where it is not known."""
        return self._kept.answer(packet, client) or self._respond(packet, client)

    def respond_all(self, packets: list[bytes], clients: list[bytes]) -> list[Reply]:
        """`respond` for each."""
        answers: list[Reply] = [*self._kept.answer_all(packets, clients)]
        if None in answers:
            for number, answer in enumerate(answers):
                if answer is None:
                    answers[number] = self._respond(packets[number], clients[number])
        return answers

    def judge(self, answer: bytes, packet: bytes, client: bytes) -> bytes | None:
        """As `admission.Answering` has it: all is sent."""
        return answer

    def _respond(self, packet: bytes, client: bytes) -> Reply:
        if not self._turns.has_time():
            return LATER
        try:
            return self._make(packet, client)
        finally:
            self._turns.made()

    def _make(self, packet: bytes, client: bytes) -> Reply:
        query = wire.parse(packet)
        if query is None:
            self._counters.dropped += 1
            return None
        query.client = client
        body: Body | Deferred
        try:
            body = self._answer(query, packet)
        except Exception:
            log.exception("an error while answering a DNS question; it was answered with SERVFAIL")
            self._counters.failed += 1
            body = self.pack(query, bare(wire.SERVFAIL), None)
        if isinstance(body, Deferred):
            return body
        return self.finish(query, body)

    def refuse(self, packet: bytes, client: bytes) -> bytes | None:
        """REFUSED with the extended error Prohibited; what is malformed gets its own answer."""
        return self._briefly(packet, client, wire.REFUSED, wire.EDE_PROHIBITED)

    def cut(self, packet: bytes, client: bytes) -> bytes | None:
        """An answer without records, with TC set: the client is to come back over TCP."""
        return self._briefly(packet, client, wire.NOERROR, None, wire.TC)

    def _briefly(
        self, packet: bytes, client: bytes, rcode: int, extended_error: int | None, flags: int = 0
    ) -> bytes | None:
        query = wire.parse(packet)
        if query is None:
            self._counters.dropped += 1
            return None
        query.client = client
        prepared = bare(query.rcode or rcode)
        prepared.flags |= flags
        return self.finish(query, self.pack(query, prepared, extended_error))

    def is_prepared(self, path: Path, qtype: int) -> bool:
        """Whether the answer to that question is kept and holds."""
        return self._kept.prepared(wire.encode_question(path, qtype)) is not None

    def finish(self, query: wire.Query, body: Body) -> bytes:
        """The packet to send, counted."""
        if query.rcode > 15:
            self._counters.answers[kind(query.question, query.rcode)] += 1
        else:
            self._kept.count(body)
        return body.answer(query.id.to_bytes(2, "big"), query.question, self._draw) + query.option

    def _answer(self, query: wire.Query, packet: bytes) -> Body | Deferred:
        counters = self._counters
        source = self._source
        prepared: Prepared | None = None
        extended_error = None
        cacheable = False
        if query.rcode:
            counters.malformed += query.rcode == wire.FORMERR
            prepared = bare(query.rcode)
        elif not query.question:  # only a cookie, which it gets (RFC 7873 section 5.4)
            assert query.edns is not None
            query.rcode = (
                wire.BADCOOKIE if self._options.is_bad(query.edns.cookie, query.client) else wire.NOERROR
            )
            prepared = bare(query.rcode)
        elif query.qclass != wire.IN:
            prepared = Prepared(self._chaos(query), wire.path_of(query.name))
        elif not source.ready:
            prepared = bare(wire.SERVFAIL)
            extended_error = wire.EDE_NOT_READY
        else:
            cacheable = True
            extended_error = wire.EDE_STALE_ANSWER if source.stale else None
            prepared = self._kept.prepared(query.key)
            if prepared is not None:
                counters.hits_prepared += 1
            else:
                counters.misses += 1
                prepared = self._prepare(query)
            if self._settings.recursive and (prepared.outside or prepared.wanted):
                return Deferred(query, prepared)
            if prepared.outside and prepared.rcode == wire.REFUSED:
                extended_error = wire.EDE_NOT_AUTHORITATIVE
            body = self._kept.body(packet, query, prepared) if prepared.bodies[self._udp] else None
            if body is not None:
                return body
        body = self.pack(query, prepared, extended_error)
        if cacheable:
            self._kept.keep(packet, query, prepared, body)
        return body

    def _prepare(self, query: wire.Query) -> Prepared:
        path = wire.path_of(query.name)
        settings, source = self._settings, self._source
        way = plain.way_to(path, query.qtype, source, settings.zones)
        if way is None:
            return self._synthesize(query, path)
        zone, branch, is_there = way
        if not is_there:
            prepared = self._missing.answer(
                zone,
                len(query.name),
                kind(query.question, wire.NXDOMAIN),
                lambda: self._synthesize(query, path),
            )
            self._kept.keep_missing(query, prepared, branch)
            return prepared
        answer = None
        if not source.stale:
            most = settings.max_matched
            answer = plain.prepare(path, query.name, query.qtype, zone, branch, settings.zones, most)
        if answer is None:
            return self._synthesize(query, path)
        self._kept.keep_records(query, answer)
        return answer

    def _synthesize(self, query: wire.Query, path: Path) -> Prepared:
        answer = synthesize(path, query.qtype, self._source, self._settings)
        prepared = Prepared(answer, path)
        if answer.cut:
            self._counters.cut += 1
            self._tell_cut(query.name, path)
        if not prepared.stamps:  # outside every zone: it depends on the configuration alone
            prepared.stamps = ((self._source.epoch, self._source.epoch.version),)
        self._kept.keep_records(query, prepared)
        return prepared

    def _tell_cut(self, name: bytes, path: Path) -> None:
        """Once a name, and never of more than TOLD names: whoever asks decides how often this happens."""
        if name in self._told or len(self._told) >= TOLD:
            return
        self._told.add(name)
        limit = self._settings.max_matched
        log.warning(
            "%s: more than %d services match; the first of them make the answer", text.name(path), limit
        )

    def opt(self, query: wire.Query, rcode: int, extended_error: int | None) -> bytes:
        """Our OPT for a query that had one; b"" for others. Notes in the query what its options are answered with."""
        if query.edns is None:
            return b""
        options = b"" if extended_error is None else wire.encode_extended_error(extended_error)
        if query.edns.options:
            query.option = self._options.answer(query.edns.options, query.client)
        return wire.encode_opt(self._settings.payload_size, query.edns.do, rcode, options + query.option)

    def limit(self, query: wire.Query) -> int:
        """The most bytes that the answer may have."""
        if not self._udp:
            return MAX_MESSAGE
        asked = wire.MIN_PAYLOAD if query.edns is None else query.edns.payload_size
        return max(wire.MIN_PAYLOAD, min(asked, self._settings.payload_size))

    def flags(self, query: wire.Query) -> int:
        """The header flags that a query and the configuration decide."""
        return query.flags & COPIED_FLAGS | (wire.RA if self._settings.recursive else 0)

    def pack(self, query: wire.Query, prepared: Prepared, extended_error: int | None) -> Body:
        opt = self.opt(query, prepared.rcode, extended_error)
        ending = [opt] if opt else []
        flags, limit = self.flags(query), self.limit(query)
        if prepared.rcode == wire.NOTAUTH:
            query.option = b""  # it is not at the end
            if wire.HEADER_SIZE + len(query.question) + len(opt) + len(query.tsig) <= limit:
                ending.append(query.tsig)
            else:
                flags |= wire.TC  # names so long that only TCP has room for them
        return pack(
            prepared,
            query.question,
            flags,
            ending,
            limit,
            udp=self._udp,
            rotate=self._settings.round_robin,
            option=len(query.option),
        )

    def _chaos(self, query: wire.Query) -> Answer:
        """Class CH tells who answers (RFC 4892); every other class is refused."""
        answer = Answer()
        said = self._settings.chaos.get(query.name) if query.qclass == wire.CH else None
        if said is None or query.qtype not in (wire.TXT, wire.ANY):
            answer.rcode = wire.REFUSED
            return answer
        answer.authoritative = True
        answer.first.append(RR(wire.path_of(query.name), wire.TXT, 0, (wire.encode_strings(said),), wire.CH))
        return answer


def bare(rcode: int) -> Prepared:
    """An answer that is a response code and nothing else."""
    answer = Answer()
    answer.rcode = rcode
    return Prepared(answer, ())

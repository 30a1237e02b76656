"""From a packet to its answer by what is kept alone: the hit path.

Owns the two levels (house.md, "the way of the data"). Raw: the packet after its id. Prepared: the question, its letter
case folded -> the answer's records, and with them the packets made of those by the query's shape: all of it beside
the id, the question and a cookie. A query that differs from one that was parsed in those alone means the same, so
nothing is parsed here. An answer enters the prepared level when it is made and the raw one when it is asked for again,
so that a flood of questions that differ drives out nothing that is in use. `_fast` does the same, compiled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from discovery.dns import wire
from discovery.dns.answer import Body, Prepared
from discovery.dns.cache import Cache, Entry
from discovery.dns.counters import DnsCounters
from discovery.dns.options import Options
from discovery.dns.source import Branch, Source

if TYPE_CHECKING:
    from discovery.dns._fast import Hits

log = logging.getLogger(__name__)

MAX_SHAPES = 8  # of one question; clients of one kind send one
OPT = 11  # bytes of an OPT record without options
COOKIE = OPT + 4  # and with the head of one option
COOKIES = {b"\0\x0c\0\x0a\0\x08": COOKIE + 8, b"\0\x1c\0\x0a\0\x18": COOKIE + 24}
"""Where a cookie is the only option: the lengths and the code in front of it -> bytes of such an OPT (RFC 7873)."""


class Kept:
    """For UDP or for TCP, whose answers differ in size; `prepared` is shared."""

    def __init__(
        self,
        source: Source,
        counters: DnsCounters,
        options: Options,
        *,
        draw: Callable[[], float],
        udp: bool,
        raw_bytes: int,
        prepared: Cache[bytes, Prepared],
    ) -> None:
        self._source = source
        self._counters = counters
        self._options = options
        self._draw = draw
        self._udp = udp
        self._raw: Cache[bytes, Body] = Cache(raw_bytes)
        self._entries = self._raw.entries
        self._prepared = prepared
        self._hits = self._compiled()

    def _compiled(self) -> Hits | None:
        """What does the same in C, where it could be compiled."""
        try:
            from discovery.dns._fast import Hits
        except ImportError as error:
            log.info("DNS is answered without its compiled part, at three quarters of the speed: %s", error)
            return None
        return Hits(
            self._entries,
            self._prepared.entries,
            self._source.epoch,
            self._draw,
            self._promote,
            self._counters,
            self._options.secret,
            self._udp,
            Entry,
            Prepared,
            Body,
        )

    def answer(self, packet: bytes, client: bytes) -> bytes | None:
        """The packet to send, counted; None when it must be made. `packet` may be any bytes."""
        if self._hits is not None:
            return self._hits.answer(packet, client)
        epoch = self._source.epoch.version
        key = packet[2:]
        raw = self._entries.get(key)
        if raw is not None and raw.holds(epoch):
            body = raw.content
            counters = self._counters
            counters.hits_raw += 1
            counters.answers[body.kind] += 1
            if body.shortened:
                self._count_shortened()
            return body.answer(packet[:2], packet[12 : body.end], self._draw)
        end = packet.find(0, 12) + 5
        question = packet[12:end]
        folded = question[:-4].lower() + question[-4:]
        entry = self._prepared.entries.get(folded)
        if entry is None or not entry.holds(epoch):
            return None
        rest = packet[end:]
        bodies = entry.content.bodies[self._udp]
        shaped = bodies.get(packet[2:12] + rest)
        option = b""
        if shaped is None:
            if COOKIES.get(rest[OPT - 2 : COOKIE]) != len(rest):
                return None
            shaped = bodies.get(packet[2:12] + rest[:COOKIE])
            if shaped is None:
                return None
            option = self._options.answer(rest[OPT:], client)
            if len(option) != shaped.option:
                return None
        elif question == folded:
            self._promote(key, shaped, entry)
        self._counters.hits_prepared += 1
        self.count(shaped)
        return shaped.answer(packet[:2], question, self._draw) + option

    def answer_all(self, packets: list[bytes], clients: list[bytes]) -> list[bytes | None]:
        """`answer` for each: its raw level and `Body.answer` stand here once more, for calls cost more than they do."""
        if self._hits is not None:
            return self._hits.answer_all(packets, clients)
        get, draw, kinds = self._entries.get, self._draw, self._counters.answers
        epoch = self._source.epoch.version
        answers: list[bytes | None] = []
        others = 0
        for packet, client in zip(packets, clients, strict=True):
            raw = get(packet[2:])
            if raw is None or raw.branch.version != raw.version or raw.epoch != epoch or raw.more:
                others += 1
                answers.append(self.answer(packet, client))
                continue
            body = raw.content
            kinds[body.kind] += 1
            if body.shortened:
                self._count_shortened()
            if body.turns == 1:
                answers.append(b"".join((packet[:2], body.counts, packet[12 : body.end], body.first)))
                continue
            offsets, start = body.offsets, int(draw() * body.turns)
            turned = body.ring[offsets[start] : offsets[start + body.span]]
            answers.append(
                b"".join((packet[:2], body.counts, packet[12 : body.end], body.first, turned, body.tail))
            )
        self._counters.hits_raw += len(packets) - others
        return answers

    def _promote(self, key: bytes, body: Body, entry: Entry[Prepared]) -> None:
        """Into the raw level: it is asked for again."""
        self._raw.put(key, body, entry.stamps, entry.epoch, len(key) + body.size)

    def count(self, body: Body) -> None:
        """An answer that is sent."""
        self._counters.answers[body.kind] += 1
        if body.shortened:
            self._count_shortened()

    def _count_shortened(self) -> None:
        if self._udp:
            self._counters.truncated += 1
        else:
            self._counters.cut += 1

    def prepared(self, key: bytes) -> Prepared | None:
        """The records that answer a question (`wire.Query.key`), while they hold."""
        return self._prepared.get(key, self._source.epoch.version)

    def keep_records(self, query: wire.Query, prepared: Prepared) -> None:
        epoch, size = self._source.epoch.version, prepared.memory + len(query.key)
        self._prepared.put(query.key, prepared, prepared.stamps, epoch, size, passing=prepared.passing)

    def keep_missing(self, query: wire.Query, prepared: Prepared, end: Branch) -> None:
        """For a name whose way down the tree ends at `end`; `prepared` is kept for many such names."""
        epoch, stamps = self._source.epoch.version, ((end, end.version),)
        self._prepared.put(query.key, prepared, stamps, epoch, len(query.key), passing=True)

    def body(self, packet: bytes, query: wire.Query, prepared: Prepared) -> Body | None:
        """The packet made of `prepared` before for a query of that shape, if any. The query had no options."""
        if len(packet) > wire.HEADER_SIZE + len(query.question) + OPT:
            return None
        end = wire.HEADER_SIZE + len(query.question)
        return prepared.bodies[self._udp].get(packet[2:12] + packet[end:])

    def keep(self, packet: bytes, query: wire.Query, prepared: Prepared, body: Body) -> None:
        """Keeps the packet made of `prepared` for that query, where another with the same shape may come."""
        entry = self._prepared.entries.get(query.key)
        if entry is None or entry.content is not prepared or packet.find(0, 12) + 5 != body.end:
            return  # not kept, or a name with a zero byte in a label, which `answer` would not find the end of
        rest = packet[body.end :]
        if query.edns is not None and COOKIES.get(rest[OPT - 2 : COOKIE]) == len(rest):
            rest = rest[:COOKIE]
        elif len(rest) > OPT:
            return
        bodies = prepared.bodies[self._udp]
        size = body.size
        if len(bodies) == MAX_SHAPES:
            size -= sum(each.size for each in bodies.values())
            bodies.clear()
        bodies[packet[2:12] + rest] = body
        if not prepared.shared:  # else they are no entry's own, and few
            self._prepared.grow(entry, size)

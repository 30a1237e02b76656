"""From an answer's records to a packet.

Owns sections, sizes and truncation. `prepare` encodes an answer once, independent of who asks; `pack` cuts it to a
size and gives a `Body`, of which every packet is made by joining: id, counts, question, a slice of a ring. The ring
holds the rotating records twice in a row, so that a rotation is one slice of `span` records.
What does not fit is left out as RFC 2181 section 9 wants it: additional records in whole bundles and without TC,
then records of the answer, with TC over UDP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from struct import Struct

from discovery.dns import wire
from discovery.dns.counters import kind
from discovery.dns.records import RR, Answer
from discovery.dns.source import Branch, Path

_COUNTS = Struct("!HHHHH")
MAX_MESSAGE = 65535  # RFC 1035 section 4.2.2
PART_OVERHEAD = 48  # bytes that CPython needs for a short bytes object and its place in a list
BODY_OVERHEAD = 400  # and for a Body with its parts


class Prepared:
    """An answer encoded but for header, question and OPT; `memory` in bytes, about.

    `bodies`: packets made of it over TCP and over UDP (`bodies[True]`), by the shape of the query (`kept`).
    `answer_size`: bytes of answer and authority; `whole_size`: and of additional.
    `shared`: it answers many questions.
    """

    __slots__ = (
        "additional",
        "answer_size",
        "authority",
        "bodies",
        "cut",
        "first",
        "flags",
        "memory",
        "outside",
        "passing",
        "rcode",
        "rotating",
        "shared",
        "stamps",
        "wanted",
        "whole_size",
    )

    def __init__(self, answer: Answer, question: Path) -> None:
        encoder = wire.Encoder(question)

        def encode(records: Sequence[RR]) -> list[bytes]:
            return [encoder.record(*record) for record in records] if records else []

        self.flags = wire.QR | (wire.AA if answer.authoritative else 0)
        self.rcode = answer.rcode
        self.first = encode(answer.first)
        self.rotating = encode(answer.rotating)
        self.authority = encode(answer.authority)
        self.additional = [(b"".join(encode(bundle)), len(bundle)) for bundle in answer.additional]
        self.stamps: tuple[tuple[Branch, int], ...] = answer.stamps
        self.outside = answer.outside
        self.wanted = answer.wanted
        self.cut = answer.cut
        self.passing = answer.passing
        self.answer_size = (
            sum(map(len, self.first)) + sum(map(len, self.rotating)) + sum(map(len, self.authority))
        )
        self._begin(len(self.first) + len(self.rotating) + len(self.authority) + len(self.additional))

    @classmethod
    def of(cls, rotating: list[bytes], additional: list[tuple[bytes, int]], branch: Branch) -> Prepared:
        """What a branch alone gives, encoded already: records that rotate, and others, each with its number."""
        made = cls.__new__(cls)
        made.flags, made.rcode = wire.QR | wire.AA, wire.NOERROR
        made.first, made.rotating, made.authority, made.additional = [], rotating, [], additional
        made.stamps = ((branch, branch.version),)
        made.outside = made.cut = made.passing = False
        made.wanted = ()
        made.answer_size = sum(map(len, rotating))
        made._begin(len(rotating) + len(additional))
        return made

    def _begin(self, parts: int) -> None:
        """With no packets made of it yet; `parts`: how many bytes objects it holds."""
        self.whole_size = self.answer_size + sum([len(bundle) for bundle, _ in self.additional])
        self.shared = False
        self.bodies: tuple[dict[bytes, Body], dict[bytes, Body]] = ({}, {})
        self.memory = self.whole_size + PART_OVERHEAD * parts


class Body:
    """All of a packet but its id and its question: `counts` (flags too), [the question], `first` +
    `ring[offsets[k]:offsets[k + span]]` + `tail`, for any k below `turns`.

    With `turns` 1 the ring is empty and all stands in `first`. `shortened`: records of the answer were left out.
    `end`: where the question ends in query and answer. `kind`: what it is counted as.
    `option`: bytes at the end of the packet that are not here, since they are made anew for each client.
    """

    __slots__ = (
        "counts",
        "end",
        "first",
        "kind",
        "offsets",
        "option",
        "ring",
        "shortened",
        "size",
        "span",
        "tail",
        "turns",
    )

    def __init__(
        self,
        counts: bytes,
        first: bytes,
        ring: list[bytes],
        span: int,
        tail: bytes,
        *,
        rotate: bool,
        shortened: bool,
        end: int,
        kind: int,
        option: int = 0,
    ) -> None:
        self.end = end
        self.counts = counts
        self.kind = kind
        self.shortened = shortened
        self.span = span
        self.option = option
        if option:
            tail = tail[:-option]
        if rotate and len(ring) > 1 and span:
            self.turns = len(ring)
            twice = ring + (ring if span == len(ring) else ring[:span])
            self.first, self.ring, self.tail = first, b"".join(twice), tail
            self.offsets = tuple(accumulate(map(len, twice), initial=0))
        else:
            self.turns = 1
            self.first, self.ring, self.tail = b"".join((first, *ring[:span], tail)), b"", b""
            self.offsets = ()
        self.size = BODY_OVERHEAD + len(self.first) + len(self.ring) + len(self.tail) + 36 * len(self.offsets)

    def answer(self, ident: bytes, question: bytes, draw: Callable[[], float]) -> bytes:
        """The packet, but for the `option` bytes; `draw` gives a number in [0, 1) that chooses the rotation."""
        if self.turns == 1:
            return b"".join((ident, self.counts, question, self.first))
        start = int(draw() * self.turns)
        turned = self.ring[self.offsets[start] : self.offsets[start + self.span]]
        return b"".join((ident, self.counts, question, self.first, turned, self.tail))


def pack(
    prepared: Prepared,
    question: bytes,
    flags: int,
    ending: Sequence[bytes],
    limit: int,
    *,
    udp: bool,
    rotate: bool,
    option: int = 0,
) -> Body:
    """`flags`: the header flags to copy from the query; `question` as it came; `limit` in bytes, whole packet.

    `ending`: OPT and TSIG, the last records of all, which are never left out; their last `option` bytes count, but
    whoever sends the answer adds them.
    """
    end = b"".join(ending)
    room = limit - wire.HEADER_SIZE - len(question) - len(end)
    first, ring = prepared.first, prepared.rotating
    authority, additional = b"".join(prepared.authority), b""
    counts = [1 if question else 0, 0, len(prepared.authority), len(ending)]
    span = len(ring)
    shortened = False
    left = room - prepared.answer_size
    if left < 0:
        first, span = _fit(first, ring, room)
        authority, counts[2] = b"", 0
        shortened = True
    elif prepared.whole_size <= room:
        additional = b"".join([bundle for bundle, _ in prepared.additional])
        counts[3] += sum([number for _, number in prepared.additional])
    else:
        for bundle, number in prepared.additional:
            if len(bundle) <= left:
                left -= len(bundle)
                additional += bundle
                counts[3] += number
    counts[1] = len(first) + span
    flags |= prepared.flags | prepared.rcode & 15 | (wire.TC if shortened and udp else 0)
    return Body(
        _COUNTS.pack(flags, *counts),
        b"".join(first),
        ring,
        span,
        b"".join((authority, additional, end)),
        rotate=rotate,
        shortened=shortened,
        end=wire.HEADER_SIZE + len(question),
        kind=kind(question, prepared.rcode & 15),
        option=option,
    )


def _fit(first: list[bytes], ring: list[bytes], room: int) -> tuple[list[bytes], int]:
    """How many whole records fit, whichever of the ring comes first: as many as of the largest ones would."""
    kept: list[bytes] = []
    for record in first:
        room -= len(record)
        if room < 0:
            return kept, 0
        kept.append(record)
    span = 0
    for size in sorted(map(len, ring), reverse=True):
        room -= size
        if room < 0:
            break
        span += 1
    return kept, span

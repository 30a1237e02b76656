"""Which questions come most, from the few that are sampled.

Pure: owns the counts of the last one to two minutes, by name and type, and keeps them bounded whoever asks for what:
when there are too many, all are halved and those of one sample are forgotten, so that what comes often stays. Shares
hold for what comes often; a name that is asked for seldom is not among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from discovery.dns import text

PERIOD = 60.0  # seconds that a count is added to; the one before it counts, too
MAX_QUESTIONS = 1000  # kept in a period
_MAX_LABEL, _MAX_NAME = 63, 255  # bytes (RFC 1035 section 3.1)

Question = bytes  # a name in wire form, in lower case, and its type


class Busiest:
    """Times are seconds of a clock that never goes back, the same for all calls."""

    def __init__(self) -> None:
        self._now: Counter[Question] = Counter()
        self._before: Counter[Question] = Counter()
        self._since: float | None = None  # the beginning of `_now`
        self._seconds_before = 0.0  # how long `_before` was counted

    def note(self, packet: bytes, now: float) -> None:
        """One question that was sampled; what is none is left out."""
        question = _question(packet)
        if question is not None:
            self.add([(question, 1)], now)

    def add(self, counts: Iterable[tuple[Question, int]], now: float) -> None:
        """What was sampled here, or in another process."""
        self._turn(now)
        for question, number in counts:
            if question not in self._now and len(self._now) >= MAX_QUESTIONS:
                self._now = Counter({each: count // 2 for each, count in self._now.items() if count > 1})
            self._now[question] += number

    def take(self, now: float) -> list[tuple[Question, int]]:
        """What has been sampled since the last time, for another's `add`; it is forgotten here."""
        self._turn(now)
        found = list((self._now + self._before).items())
        self._now, self._before = Counter(), Counter()
        return found

    def top(self, limit: int, now: float) -> tuple[float, int, list[tuple[str, str, int]]]:
        """Over how many seconds was sampled, how many samples there are, and the most frequent questions: name, type
        and samples."""
        self._turn(now)
        both = self._now + self._before
        seconds = self._seconds_before + (now - self._since if self._since is not None else 0.0)
        ordered = sorted(both.items(), key=lambda each: (-each[1], each[0]))[:limit]
        return seconds, both.total(), [(*_words(question), count) for question, count in ordered]

    def _turn(self, now: float) -> None:
        if self._since is None:
            self._since = now
        elif (passed := now - self._since) >= PERIOD:
            stale = passed >= 2 * PERIOD
            self._before = Counter() if stale else self._now
            self._seconds_before = 0.0 if stale else passed
            self._now, self._since = Counter(), now


def _question(packet: bytes) -> Question | None:
    """None: it has no whole question."""
    at, size = 12, len(packet)
    while at < size and (length := packet[at]):
        at += length + 1
        if length > _MAX_LABEL or at - 12 > _MAX_NAME:
            return None
    if at + 3 > size:
        return None
    return packet[12 : at + 1].lower() + packet[at + 1 : at + 3]  # a length is below every letter


def _words(question: Question) -> tuple[str, str]:
    labels, at = [], 0
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length])
        at += length + 1
    return text.name(tuple(reversed(labels))), text.type_name(int.from_bytes(question[-2:], "big"))

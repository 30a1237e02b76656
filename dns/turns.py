"""Turns: what must be made for an answer takes a few milliseconds at a time, then everybody else has a turn.

Owns how long answers may be made before the event loop goes round, and those that wait for their next turn, in the
order of their coming. An answer that is kept never waits here. Questions that are dear to answer, and there may be
many, so delay neither those that are not, nor HTTP, nor what a worker must acknowledge. UDP and TCP have turns of
their own, for one connection's questions wait in the connection. It knows nothing of questions; time is given to it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum

SHARE = 0.003  # seconds of each turn; one answer is made even where it takes longer
NOTED = (
    SHARE / 2
)  # from which on the end of a turn is planned; till then it may last over several rounds of the loop
MAX_WAITING = 2000  # as many connections as there may be, or questions over UDP: some 0.1 s of ordinary ones


class Later(Enum):
    """In place of an answer: it must be made, and this turn is over."""

    LATER = "later"


LATER = Later.LATER


class Turns:
    """`clock` counts seconds and never goes back. To be used in an event loop.

    What counts is the time that answers take, not what lies between them: so the loop need not be asked to come round
    for each of the few answers that a change makes necessary.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = 0.0  # the answer that is being made
        self._spent = 0.0  # seconds of this turn
        self._next: asyncio.Handle | None = None  # none: no end of the turn is planned
        self._waiting: deque[Callable[[], bool]] = deque()

    def has_time(self) -> bool:
        """Whether one more answer may be made in this turn: then it is to be made now, and `made` called."""
        if self._spent >= SHARE:
            return False
        self._begun = self._clock()
        return True

    def made(self) -> None:
        """The answer is there, or there is none."""
        self._spent += self._clock() - self._begun
        if self._next is None and self._spent >= NOTED:
            self._plan()

    def wait(self, go_on: Callable[[], bool]) -> bool:
        """Has `go_on` called in a later turn, and again in others until it returns True. False: too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(go_on)
        if self._next is None:
            self._plan()
        return True

    def close(self) -> None:
        """Forgets those who wait."""
        self._waiting.clear()

    def _plan(self) -> None:
        self._next = asyncio.get_running_loop().call_soon(self._go_round)

    def _go_round(self) -> None:
        """Begins the next turn with those who wait, each once."""
        self._next = None
        self._spent = 0.0
        if not self._waiting:
            return
        self._plan()
        until = self._clock() + SHARE  # for what they do beside
        for _ in range(len(self._waiting)):
            if self._spent >= SHARE:
                return
            go_on = self._waiting.popleft()
            if not go_on():
                self._waiting.append(go_on)
            if self._clock() >= until:
                return

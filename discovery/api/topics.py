"""A topic: what all streams of one scope and one format are told, and each stream's place in it.

Owns the bounded ring of pieces, when a piece is made, and who has had it. It never waits for a reader: one that fell
out of the ring is told so. How: lines that came together are one piece, which all streams share. A stream that has had
all is given a new piece at once, as a chunk that was framed for all of them; one that can't take it now is woken, and
catches up in its own time. With many streams the pieces are made more seldom, since each costs a write for every one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from discovery.api.events import Format, keep_alive

RING_BYTES = 4 << 20  # that a reader may be behind
KEEP_ALIVE = 10.0  # seconds; the promise is 15
SECONDS_PER_STREAM = 20e-6  # what a piece costs for each stream that is told: so long the next one waits

Send = Callable[[bytes], bool]
"""Writes a chunk (RFC 9112 section 7.1) as it is; False: it can't now, and nothing was written."""


class Topic:
    """`position`s count the pieces from the first ever."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.streams = 0
        self.closed = False  # nothing more comes, and what came is not whole
        self._ring: deque[bytes] = deque()
        self._first = 0
        self._bytes = 0
        self._pending: list[bytes] = []
        self._flush_after = 0.0  # by the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[Reader, None] = {}  # those that have had all
        self._beat()

    def add(self, line: bytes) -> None:
        self._pending.append(line)

    def plan(self) -> None:
        """What was added goes out: now, or when the last piece has been written to all."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._flush_after), self._flush)

    def join(self) -> int:
        """The position after all that was told so far."""
        self._flush()
        return self._first + len(self._ring)

    def reader(self, position: int, send: Send | None) -> Reader:
        """A stream that has had all before `position`."""
        return Reader(self, position, send)

    def close(self) -> None:
        self.closed = True
        self._beats.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for reader in self._waiting:
            reader.wake()

    def since(self, position: int) -> list[bytes] | None:
        """The pieces from `position` on; None: some of them are gone."""
        behind = position - self._first
        return None if behind < 0 else [self._ring[index] for index in range(behind, len(self._ring))]

    def wait(self, reader: Reader) -> None:
        """It has had all, and is given what comes next."""
        self._waiting[reader] = None

    def leave(self, reader: Reader) -> None:
        self._waiting.pop(reader, None)

    def _beat(self) -> None:
        """Renewed by every piece, so that a line goes out in time whatever happens."""
        self._beats = asyncio.get_running_loop().call_later(KEEP_ALIVE, self._keep_alive)

    def _keep_alive(self) -> None:
        self._pending.append(keep_alive(self.form))
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            return
        piece = b"".join(self._pending)
        self._pending.clear()
        self._ring.append(piece)
        self._bytes += len(piece)
        while self._bytes > RING_BYTES and len(self._ring) > 1:
            self._bytes -= len(self._ring.popleft())
            self._first += 1
        self._flush_after = asyncio.get_running_loop().time() + self.streams * SECONDS_PER_STREAM
        self._beats.cancel()
        self._beat()
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
        for reader in self._waiting:
            reader.give(chunk)


class Reader:
    """One stream's place. `send` None: it takes nothing but what it asks for."""

    __slots__ = ("_position", "_send", "_topic", "_wake")

    def __init__(self, topic: Topic, position: int, send: Send | None) -> None:
        self._topic = topic
        self._position = position
        self._send = send
        self._wake: asyncio.Future[None] | None = None

    async def next(self) -> bytes | None:
        """What it could not be given; None: it was too slow, or the topic is closed."""
        while not self._topic.closed:
            pieces = self._topic.since(self._position)
            if pieces is None:
                return None
            if pieces:
                self._position += len(pieces)
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._wake = asyncio.get_running_loop().create_future()
            self._topic.wait(self)
            try:
                await self._wake
            finally:
                self._topic.leave(self)
        return None

    def give(self, chunk: bytes) -> None:
        """The next piece, to one that waits. Once it is woken it takes nothing but in order."""
        if self._wake is not None and self._wake.done():
            return
        if self._send is not None and self._send(chunk):
            self._position += 1
        else:
            self.wake()

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

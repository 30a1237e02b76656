"""The main process's end of one worker: the process, what it was sent, what it has acknowledged.

Owns the counting: messages sent and acknowledged, those who wait for an acknowledgement, and how often a look found
one overdue. It never decides when a worker is replaced: `pool` does. Writing never waits; only the first load, which
may be large, asks for room first, so that a worker that does not read costs what is told within its last second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from discovery.workers import messages
from discovery.workers.messages import Ack, Kept, Sampled

IDLE, BUSY = 5, 1  # what a look counts at a worker that owes something: one that works is given more time
# Bytes unsent beyond which there is no room: some messages of a load, so that both ends are at work.
ROOM = 1 << 20

log = logging.getLogger(__name__)


class Barrier:
    """Done when `missing` links have acknowledged, or are no longer waited for."""

    def __init__(self, missing: int) -> None:
        self._missing = missing
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def pass_one(self) -> None:
        self._missing -= 1
        if self._missing <= 0 and not self.done.done():
            self.done.set_result(None)


class Link(asyncio.Protocol):
    """`on_lost` is called once, when the worker has gone or is given up."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        on_counters: Callable[[Sequence[int]], None],
        on_kept: Callable[[int], None],
        on_lost: Callable[[Link], None],
        on_sampled: Callable[[Sequence[tuple[bytes, int]]], None],
    ) -> None:
        self.process = process
        self._on_counters = on_counters
        self._on_kept = on_kept
        self._on_lost = on_lost
        self._on_sampled = on_sampled
        self._transport: asyncio.Transport | None = None
        self._frames = messages.Frames()
        self._counted: Sequence[int] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._waiting: deque[tuple[int, Barrier]] = deque()
        self._finished = False
        self._seen = self._due = 0  # acknowledged and sent, as of the last look
        self.sent = 0
        self.acked = 0
        self.opened = False  # it has been sent all that it needs to answer
        self.serving = False
        self.ready = False  # its view is
        self.served = False  # at any time
        # Looks in a row at something unacknowledged since the look before: IDLE or BUSY each.
        self.overdue = 0
        self.lost = False

    async def connect(self, sock: socket.socket) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=ROOM)

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        try:
            for content in self._frames.feed(data):
                self._take(messages.said(content))
        except (ValueError, msgspec.DecodeError):
            log.exception("what a DNS worker says makes no sense: it is replaced")
            self.give_up()

    def _take(self, message: messages.Said) -> None:
        match message:
            case Ack(count, serving, ready, counters):
                self.acked = count
                self.serving, self.ready = serving, ready
                self.served |= serving
                if counters is not None:
                    old = self._counted or [0] * len(counters)
                    self._counted = counters
                    self._on_counters([now - then for now, then in zip(counters, old, strict=True)])
                while self._waiting and self._waiting[0][0] <= count:
                    self._waiting.popleft()[1].pass_one()
            case Kept(number):
                self._on_kept(number)
            case Sampled(counts):
                self._on_sampled(counts)

    # ------------------------------------------------------------ sending

    def send(self, frame: bytes) -> None:
        if self._transport is not None and not self._finished and not self._transport.is_closing():
            self._transport.write(frame)
            self.sent += 1

    async def room(self) -> None:
        """Returns when little is left unsent."""
        await self._room.wait()

    def enter(self, barrier: Barrier) -> None:
        """Passes the barrier when all that was sent until now is acknowledged."""
        if self.lost or self.acked >= self.sent:
            barrier.pass_one()
        else:
            self._waiting.append((self.sent, barrier))

    # ------------------------------------------------------------ ending

    def look(self, *, busy: bool) -> None:
        """To be called at even times: counts how long the worker owes an acknowledgement.

        `busy`: it computes, or waits for a CPU, so it may come to it yet.
        """
        late = self.acked < self._due and self.acked == self._seen
        self.overdue = self.overdue + (BUSY if busy else IDLE) if late else 0
        self._seen, self._due = self.acked, self.sent

    def finish(self) -> None:
        """Lets the worker send out what it has and end. Nothing is sent to it from here on."""
        self._finished = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def give_up(self) -> None:
        """Ends the process, whatever it does, and whoever waits for it waits no longer."""
        if self.lost:
            return
        self.lost = True
        self.serving = self.ready = self.opened = False
        self._room.set()
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            self._waiting.popleft()[1].pass_one()
        self._on_lost(self)

"""Counting what a worker owes, and who waits for it. The worker is a socket here, its process a real one."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from discovery.workers.link import BUSY, IDLE, Barrier, Link
from discovery.workers.messages import Ack, Kept, Said, Tick, frame
from tests.support.api import until


class Worker:
    """`said`: what the link was told of."""

    def __init__(self, link: Link, sock: socket.socket, said: list[object]) -> None:
        self.link = link
        self.sock = sock
        self.said = said

    async def say(self, *messages: Said) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, b"".join(map(frame, messages)))


@asynccontextmanager
async def worker() -> AsyncIterator[Worker]:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220  # as the pool does
    said: list[object] = []

    def count(more: Sequence[int]) -> None:
        said.append(list(more))

    link = Link(process, count, said.append, said.append, said.append)
    theirs.setblocking(False)
    await link.connect(ours)
    try:
        yield Worker(link, theirs, said)
    finally:
        link.give_up()
        process.wait()
        theirs.close()


async def test_a_barrier_passes_when_all_before_it_is_acknowledged() -> None:
    async with worker() as one:
        passed = Barrier(1)
        one.link.enter(passed)
        assert passed.done.done()  # nothing was sent
        one.link.send(frame(Tick()))
        one.link.send(frame(Tick()))
        first = Barrier(1)
        one.link.enter(first)
        one.link.send(frame(Tick()))
        second = Barrier(1)
        one.link.enter(second)
        await one.say(Ack(1, True, True))
        await until(lambda: one.link.acked == 1)
        assert (first.done.done(), one.link.serving) == (False, True)
        await one.say(Ack(2, True, True))
        await until(lambda: one.link.acked == 2)
        assert (first.done.done(), second.done.done()) == (True, False)


async def test_a_barrier_of_two_waits_for_both_and_a_lost_one_is_not_waited_for() -> None:
    async with worker() as one, worker() as other:
        barrier = Barrier(2)
        for each in (one, other):
            each.link.send(frame(Tick()))
            each.link.enter(barrier)
        await one.say(Ack(1, True, True))
        await until(lambda: one.link.acked == 1)
        assert not barrier.done.done()
        other.sock.close()
        await until(barrier.done.done)
        assert other.link.lost
        assert other.said == [other.link]
        assert not other.link.serving
        late = Barrier(1)
        other.link.enter(late)
        assert late.done.done()


async def test_counters_are_told_as_what_was_added() -> None:
    async with worker() as one:
        await one.say(Ack(1, True, True, [5, 0]), Kept(7), Ack(2, True, True), Ack(3, True, True, [6, 2]))
        await until(lambda: one.link.acked == 3)
        assert one.said == [[5, 0], 7, [1, 2]]


async def test_what_is_owed_is_counted_from_the_look_after_it_was_sent() -> None:
    async with worker() as one:
        link = one.link
        for _ in range(3):
            link.look(busy=False)
        assert link.overdue == 0  # nothing is owed
        link.send(frame(Tick()))
        link.look(busy=False)
        assert link.overdue == 0
        link.look(busy=False)
        link.look(busy=False)
        assert link.overdue == 2 * IDLE
        link.send(frame(Tick()))
        link.look(busy=False)
        await one.say(Ack(1, False, True))  # not all of it, but it moves
        await until(lambda: link.acked == 1)
        link.look(busy=False)
        assert link.overdue == 0
        link.look(busy=False)
        assert link.overdue == IDLE
        link.look(busy=True)
        assert link.overdue == IDLE + BUSY < 2 * IDLE


async def test_one_that_does_not_read_has_no_room_until_it_is_given_up() -> None:
    async with worker() as one:
        await one.link.room()
        one.link.send(bytes(10_000_000))
        room = asyncio.create_task(one.link.room())
        await asyncio.sleep(0)
        assert not room.done()
        one.link.give_up()
        await room
        assert one.link.process.wait() == -9
        sent = one.link.sent
        one.link.send(b"x")
        assert one.link.sent == sent


async def test_nonsense_ends_it() -> None:
    async with worker() as one:
        await asyncio.get_running_loop().sock_sendall(one.sock, b"\0\0\0\1\xc1")
        await until(lambda: one.link.lost)

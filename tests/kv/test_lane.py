"""One thread for many callers: groups, answers, and the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from discovery.kv.contract import Unavailable
from discovery.kv.lane import GROUP, Answers, Job, Lane


class Worker:
    """Counts groups; a group waits until the test lets it go."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()

    def run(self, jobs: Sequence[Job[int]]) -> Answers:
        self.begun.set()
        self.free.wait(30)
        self.groups.append(len(jobs))
        return Answers([job(7) for job in jobs])


async def test_what_waits_is_done_as_one_group() -> None:
    worker = Worker()
    lane: Lane[int] = Lane("test", worker.run)
    worker.free.clear()
    first = asyncio.create_task(lane.do(lambda seven: seven))
    await asyncio.to_thread(worker.begun.wait, 30)
    others = []
    for _ in range(2):  # handed over in two turns of the loop
        others += [asyncio.create_task(lane.do(lambda seven: seven + 1)) for _ in range(25)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    worker.free.set()
    assert await first == 7
    assert await asyncio.gather(*others) == [8] * 50
    assert worker.groups == [1, 50]
    await lane.close()


@pytest.mark.slow
async def test_a_group_has_a_greatest_size() -> None:
    worker = Worker()
    lane: Lane[int] = Lane("test", worker.run)
    await asyncio.gather(*(lane.do(lambda seven: seven) for _ in range(GROUP * 2 + 5)))
    assert max(worker.groups) <= GROUP
    assert sum(worker.groups) == GROUP * 2 + 5
    await lane.close()


async def test_a_refusal_fails_its_own_job() -> None:
    def run(jobs: Sequence[Job[int]]) -> Answers:
        return Answers([Unavailable("no") if number % 2 else number for number in range(len(jobs))])

    lane: Lane[int] = Lane("test", run)
    results = await asyncio.gather(*(lane.do(lambda _: 0) for _ in range(4)), return_exceptions=True)
    assert [isinstance(result, Unavailable) for result in results] == [False, True, False, True]
    await lane.close()


async def test_the_close_does_what_waits_and_takes_no_more() -> None:
    worker = Worker()
    lane: Lane[int] = Lane("test", worker.run)
    waiting = [asyncio.create_task(lane.do(lambda seven: seven)) for _ in range(10)]
    await asyncio.gather(
        asyncio.create_task(lane.close()), asyncio.create_task(lane.close())
    )  # in the same turn
    assert await asyncio.gather(*waiting) == [7] * 10
    with pytest.raises(Unavailable):
        await lane.do(lambda seven: seven)
    assert "test" not in [thread.name for thread in threading.enumerate()]


async def test_publishing_comes_before_the_answers() -> None:
    order: list[str] = []

    def run(jobs: Sequence[Job[int]]) -> Answers:
        return Answers([0 for _ in jobs], lambda: order.append("published"))

    async def call() -> None:
        await lane.do(lambda _: 0)
        order.append("answered")

    lane: Lane[int] = Lane("test", run)
    await asyncio.gather(call(), call())
    assert order == ["published", "answered", "answered"]
    await lane.close()

"""Turns, on a real event loop and a clock of the test's own."""

from __future__ import annotations

import asyncio

from discovery.dns.turns import MAX_WAITING, SHARE, Turns
from tests.support.clock import FakeClock, TickingClock
from tests.support.loop import until


def made(turns: Turns) -> bool:
    """Whether one more answer was made."""
    has_time = turns.has_time()
    if has_time:
        turns.made()
    return has_time


async def test_a_turn_ends_with_its_time_and_the_next_begins_when_the_loop_has_gone_round() -> None:
    clock = FakeClock()
    turns = Turns(clock)
    assert [made(turns) for _ in range(3)] == [True, True, True]
    assert turns.has_time()
    clock.advance(SHARE)
    turns.made()
    assert [made(turns) for _ in range(3)] == [False, False, False]
    await asyncio.sleep(0)
    assert made(turns)


async def test_what_lies_between_answers_is_not_counted_and_few_of_them_do_not_wake_the_loop() -> None:
    clock = FakeClock()
    turns = Turns(clock)
    for _ in range(4):
        assert turns.has_time()
        clock.advance(SHARE / 10)
        turns.made()
        clock.advance(10 * SHARE)
    assert turns._next is None
    assert turns.has_time()
    clock.advance(SHARE / 8)
    turns.made()
    assert turns._next is not None, "half of the time is gone: the end of the turn is in sight"


async def test_one_answer_is_made_in_a_turn_however_slow_everything_is() -> None:
    turns = Turns(TickingClock(10 * SHARE))
    for _ in range(3):
        assert [made(turns), made(turns)] == [True, False]
        await asyncio.sleep(0)


async def test_those_who_wait_have_their_turns_in_order_and_before_newcomers() -> None:
    turns = Turns(TickingClock(SHARE))
    order: list[str] = []

    def one(name: str, times: int) -> None:
        left = [times]

        def go_on() -> bool:
            if not made(turns):
                return False
            order.append(name)
            left[0] -= 1
            return not left[0]

        assert turns.wait(go_on)

    one("a", 3)
    one("b", 2)
    one("c", 1)
    await until(lambda: len(order) == 6)
    assert order == ["a", "b", "c", "a", "b", "a"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert turns._next is None, "nobody waits: the loop may sleep"


async def test_what_those_who_wait_do_beside_making_answers_is_bounded_too() -> None:
    clock = FakeClock()
    turns = Turns(clock)
    came: list[int] = []

    def go_on() -> bool:
        came.append(1)
        clock.advance(0.6 * SHARE)  # such as answers that were kept, and are sent
        return True

    for _ in range(5):
        assert turns.wait(go_on)
    for expected in (2, 4, 5):
        await asyncio.sleep(0)
        assert len(came) == expected


async def test_no_more_wait_than_there_is_room_for() -> None:
    turns = Turns(FakeClock())
    assert [turns.wait(lambda: True) for _ in range(MAX_WAITING + 1)].count(False) == 1
    turns.close()
    assert turns.wait(lambda: True)

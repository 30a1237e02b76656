"""Which questions come most: counted by name and type, over the last minutes, bounded whoever asks."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from discovery.dns.busiest import MAX_QUESTIONS, PERIOD, Busiest
from tests.support.dns import World, query


def packet(name: str, rtype: str = "A") -> bytes:
    return query(name, rtype).to_wire()


def test_by_name_and_type_whatever_the_letters() -> None:
    busiest = Busiest()
    for name, rtype, times in (("web", "A", 3), ("WEB", "A", 2), ("web", "SRV", 4), ("a.b", "TYPE65", 1)):
        for _ in range(times):
            busiest.note(packet(name, rtype), 10.0)
    seconds, sampled, names = busiest.top(10, 12.0)
    assert (seconds, sampled) == (2.0, 10)
    assert names == [
        ("web.d.test.", "A", 5),
        ("web.d.test.", "SRV", 4),
        ("a.b.d.test.", "TYPE65", 1),
    ]
    assert busiest.top(1, 12.0)[2] == names[:1]


@pytest.mark.parametrize(
    "damaged", [b"", bytes(12), bytes(14), packet("web")[:20], bytes(12) + b"\xc0\x0c\0\1\0\1"]
)
def test_what_is_no_question_is_left_out(damaged: bytes) -> None:
    busiest = Busiest()
    busiest.note(damaged, 1.0)
    assert busiest.top(10, 1.0)[1:] == (0, [])


def test_the_last_minute_and_the_one_before_count() -> None:
    busiest = Busiest()
    busiest.note(packet("a"), 0.0)
    busiest.note(packet("b"), PERIOD)
    assert [each[0][0] for each in busiest.top(9, PERIOD + 1)[2]] == ["a", "b"]
    assert busiest.top(9, PERIOD + 1)[0] == PERIOD + 1
    assert [each[0][0] for each in busiest.top(9, 2 * PERIOD)[2]] == ["b"]
    assert busiest.top(9, 5 * PERIOD)[1:] == (0, [])


def test_however_many_names_are_asked_for_memory_is_bounded_and_the_busiest_stays() -> None:
    seed = 20260101
    print(f"seed {seed}")
    rng = random.Random(seed)
    busiest = Busiest()
    for number in range(10 * MAX_QUESTIONS):
        label = b"web" if rng.random() < 0.1 else b"x%d" % number
        busiest.note(bytes(12) + bytes([len(label)]) + label + b"\0\0\1\0\1", 1.0)
        assert len(busiest._now) <= MAX_QUESTIONS
    assert busiest.top(1, 1.0)[2][0][:2] == ("web.", "A")


def test_what_is_taken_is_added_elsewhere_once() -> None:
    worker, main = Busiest(), Busiest()
    for name in ("a", "b", "a"):
        worker.note(packet(name), 1.0)
    main.add(worker.take(2.0), 2.0)
    main.add(worker.take(3.0), 3.0)
    assert [(name, count) for name, _, count in main.top(9, 3.0)[2]] == [
        ("a.d.test.", 2),
        ("b.d.test.", 1),
    ]


def test_counters_of_processes_are_added_without_it() -> None:
    world = World({})
    world.counters.busiest.note(packet("a"), 1.0)
    world.counters.queries_udp = 5
    world.counters.add(world.counters.values())
    assert world.counters.queries_udp == 10
    assert Counter(world.counters.values())[5] == 0

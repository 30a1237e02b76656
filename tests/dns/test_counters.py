"""What a question is counted as, on every way to its answer, and of which the time is taken."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from discovery.dns.counters import RCODES, SAMPLE, TYPES, DnsCounters, Latency, kind
from tests.support.dns import World, query

STORED = {"1.web.prod": {"host": "10.0.0.1", "port": 80}}
CLIENT = bytes((192, 0, 2, 1))


def counted(counters: DnsCounters) -> dict[tuple[str, int], int]:
    return {
        (TYPES[place // RCODES], place % RCODES): number
        for place, number in enumerate(counters.answers)
        if number
    }


@pytest.mark.parametrize("way", ["compiled", "python"])
def test_answers_are_counted_by_type_and_rcode_whichever_way_they_come(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "python":
        monkeypatch.setitem(sys.modules, "discovery.dns._fast", None)
    world = World(STORED)
    asked = [
        ("web.prod", "A", 4),
        ("web.prod", "AAAA", 3),
        ("web.prod", "HTTPS", 5),
        ("web.prod", "CAA", 6),  # 257, whose second byte is A's
        ("none.prod", "A", 7),
        ("none.prod", "AAAA", 8),  # the same name, answered by the same records
        ("nine.prod", "AAAA", 2),
    ]
    for name, rtype, times in asked:
        world.udp.respond(query(name, rtype).to_wire(), CLIENT)
        world.udp.respond_all([query(name, rtype).to_wire()] * (times - 1), [CLIENT] * (times - 1))
    assert world.counters.hits_raw > 10
    assert counted(world.counters) == {
        ("A", 0): 4,
        ("AAAA", 0): 3,
        ("HTTPS", 0): 5,
        ("other", 0): 6,
        ("A", 3): 7,
        ("AAAA", 3): 10,
    }
    assert (world.counters.rcodes[0], world.counters.rcodes[3]) == (18, 17)


def test_what_has_no_question_is_other() -> None:
    assert kind(b"", 16) == 16
    assert kind(b"\0\0\x21\0\1", 3) == TYPES.index("SRV") * RCODES + 3


def test_the_compiled_part_knows_as_many_kinds() -> None:
    source = (Path(__file__).parents[2] / "dns" / "_fast.c").read_text()
    assert re.findall(r"KINDS = (\d+) \* (\d+),", source) == [(str(RCODES), str(len(TYPES)))]


def test_the_time_of_one_question_in_so_many_is_taken() -> None:
    latency = Latency()
    for asked in range(1, 10 * SAMPLE + 1):
        if asked >= latency.due:
            latency.take(0.001, asked)
    assert sum(latency.counts) == 10

"""The work for one question is bounded by `dns.max_matched`, however many services a zone has.

Work is counted in calls, so that a busy machine changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from types import FrameType
from typing import Any

import pytest

from discovery.dns.matching import SEARCHED_LEAST
from tests.support.dns import World, query

LIMIT = 50  # dns.max_matched
NAMES = (
    *(
        "",
        "s0",
        "*",
        "any",
        "*.s0",
        "*.*",
        "any.any",
        "*.*.*",
        "1.s0",
        "*.s1",
        "i1.*",
        "dns",
        "ns.dns",
        "*.dns",
    ),
    *("blue.tag.s0", "blue.tag", "tag.s0", "none.tag.s0", "blue.tag.*", "*.tag.s0"),
    *("_http._tcp.s0", "_none._tcp.s0", "_http._tcp", "_http._tcp.*", "_http._udp.s0", "*._tcp.s0"),
    *("missing", "missing.s0", "*.missing", "a.b.c.d.e.f.g.h", "*.*.*.*.*.*.*.*", "to0", "alias", "*.alias"),
)
TYPES = ("A", "AAAA", "SRV", "MX", "TXT", "CNAME", "NS", "SOA", "ANY", "PTR", "CAA")


def world(services: int, instances: int) -> World:
    """`services` of few instances, one of very many, and aliases to it."""
    stored: dict[str, object] = {
        f"i{number}.s0": {
            "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "port": 1,
            "mail": True,
            "text": "t",
            "tags": ["blue"] if number % 2 else [],
            "ports": {"http": 80},
        }
        for number in range(instances)
    }
    stored |= {
        f"i{n}.s{service}": {"host": f"10.200.0.{n}"} for service in range(1, services) for n in (1, 2)
    }
    stored |= {f"i{number}.alias": {"host": "s0.d.test"} for number in range(instances // 4)}
    stored |= {f"to{number}": {"host": f"to{number + 1}.d.test"} for number in range(instances // 4)}
    return World(stored, max_matched=LIMIT)


def work(world: World, name: str, rtype: str) -> int:
    """Calls for one answer made anew."""
    return counted(sys.setprofile, ("call", "c_call"), world, name, rtype)


def steps(world: World, name: str, rtype: str) -> int:
    """Lines of Python run for one answer made anew: loops without a call count, too."""
    return counted(sys.settrace, ("line",), world, name, rtype)


def counted(
    watch: Callable[[Any], None], events: tuple[str, ...], world: World, name: str, rtype: str
) -> int:
    """How often one of `events` happens while an answer is made; `watch` is the interpreter's way to tell of them."""
    responder = world.responder(udp=True)
    packet = query(name, rtype).to_wire()
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> Any:  # itself; its type can't be written
        nonlocal count
        count += event in events
        return note

    watch(note)
    try:
        responder.respond(packet)
    finally:
        watch(None)
    assert not world.counters.failed
    return count


@pytest.mark.slow
def test_no_question_costs_more_in_a_larger_zone() -> None:
    small, large = world(2000, 6000), world(4000, 24000)
    worse = {
        (name, rtype): (first, second)
        for name in NAMES
        for rtype in TYPES
        if (second := work(large, name, rtype)) > 1.2 * (first := work(small, name, rtype)) + 50
    }
    assert not worse


@pytest.mark.slow
def test_no_question_costs_more_than_a_few_hundred_calls_a_service() -> None:
    large = world(1200, 4000)
    most = max((work(large, name, rtype), name, rtype) for name in NAMES for rtype in TYPES)
    assert most[0] < 300 * LIMIT, most


# ---------------------------------------------------------------- behind names, and for names that are made up


def led_astray(targets: int, *, group: str) -> World:
    """Instances whose hosts are patterns, each of which stands for the same very many services, or for the one that
    is left of them."""
    stored: dict[str, object] = {
        f"i{number:04}.a.b.c.d": {"text": "t"} | ({"host": "10.0.0.1", "group": "other"} if group else {})
        for number in range(1000)
    }
    if group:
        stored["0.b.c.d"] = {"host": "10.0.0.2", "group": group}
    labels = (("*", "any"), ("b", "*", "any"), ("c", "*", "any"), ("d", "*", "any"))
    patterns = [".".join(each) for each in product(*labels)]
    stored |= {f"w{n:03}.web": {"host": f"{patterns[n]}.d.test", "port": 80} for n in range(targets)}
    return World(stored, max_matched=1000)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["", "one"])
@pytest.mark.parametrize("rtype", ["SRV", "A"])
def test_what_lies_behind_many_names_costs_no_more_than_behind_a_few(rtype: str, group: str) -> None:
    few, many = (steps(led_astray(count, group=group), "web", rtype) for count in (8, 54))
    assert many < 2 * few + 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["made-up.tag.s0", "_made-up._tcp.s0", "x.made-up.tag.s0", "a.tag.made-up.tag.s0"]
)
def test_a_tag_or_port_that_nobody_has_costs_no_search(name: str) -> None:
    assert steps(world(10, 6000), name, "A") < 1000


# ---------------------------------------------------------------- what is given up is not denied


def tagged(instances: int, at: int, max_matched: int) -> World:
    """Instances of one service, of which one has the tag and the port."""
    stored = {
        f"i{number:04}.s": {"host": "10.0.0.1"} | ({"tags": ["t"], "ports": {"p": 7}} if number == at else {})
        for number in range(instances)
    }
    return World(stored, max_matched=max_matched)


@pytest.mark.parametrize("name", ["t.tag.s", "_p._tcp.s"])
def test_what_is_found_within_the_bound_is_answered_and_what_may_lie_beyond_is_not_denied(name: str) -> None:
    rtype = "SRV"
    last = SEARCHED_LEAST - 1
    assert len(tagged(1100, last, 5).ask(name, rtype).answer) == 1
    world = tagged(1100, last + 1, 5)
    response = world.ask(name, rtype)
    assert (response.rcode(), response.answer, world.counters.cut) == (0, [], 1)  # NODATA: it may be there
    assert tagged(last + 1, 9999, 5).ask(name, rtype).rcode() == 3
    assert tagged(1100, 9999, 5).ask(name, rtype).rcode() == 3  # nobody has it anywhere


def test_a_wildcard_looks_at_so_many_names() -> None:
    stored: dict[str, object] = {f"x{number:04}": {"host": "10.0.0.1"} for number in range(1100)}
    world = World(stored | {"i.x1050": {"host": "10.1.0.1"}}, max_matched=5)
    assert world.ask("i.*", "A").answer == []
    assert world.counters.cut == 1
    assert len(World(stored | {"i.x0999": {"host": "10.1.0.1"}}, max_matched=5).ask("i.*", "A").answer) == 1

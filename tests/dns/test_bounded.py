"""The work for one question is bounded by `dns.max_matched`, however many services a zone has.

Work is counted in calls, so that a busy machine changes nothing.
"""

from __future__ import annotations

import sys
from types import FrameType

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
    responder = world.responder(udp=True)
    packet = query(name, rtype).to_wire()
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        responder.respond(packet)
    finally:
        sys.setprofile(None)
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


def test_a_wildcard_looks_at_so_many_names() -> None:
    stored: dict[str, object] = {f"x{number:04}": {"host": "10.0.0.1"} for number in range(1100)}
    world = World(stored | {"i.x1050": {"host": "10.1.0.1"}}, max_matched=5)
    assert world.ask("i.*", "A").answer == []
    assert world.counters.cut == 1
    assert len(World(stored | {"i.x0999": {"host": "10.1.0.1"}}, max_matched=5).ask("i.*", "A").answer) == 1

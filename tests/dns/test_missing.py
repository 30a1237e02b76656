"""The short way to NXDOMAIN says what the long way says."""

from __future__ import annotations

import random

import pytest

from discovery import names
from discovery.dns import plain, wire
from discovery.dns.answer import Prepared
from discovery.dns.synthesis import synthesize
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World, query

LABELS = (
    "web",
    "prod",
    "i1",
    "x",
    "tag",
    "blue",
    "_tcp",
    "_http",
    "*",
    "any",
    "dns",
    "ns",
    "apex",
    "local",
    "in",
    "hostmaster",
    "post",
)
ZONES = (
    Zone(apex=APEX, local=names.from_text("web.d.test"), hostmaster=names.from_text("x.post.d.test")),
    Zone(apex=names.from_text("in.d.test"), ttl=60, hostmaster=names.from_text("root.example.com")),
    Zone(apex=names.from_text("0.10.in-addr.arpa"), reverse=True),
)
STORED = {
    "i1.web.prod": {"host": "10.0.0.1", "tags": ["blue"], "ports": {"http": 80}},
    "i1.x.in": {"host": "www.x"},
}
TYPES = (
    wire.A,
    wire.SRV,
    wire.TXT,
    wire.NS,
    wire.SOA,
    wire.PTR,
    wire.ANY,
    wire.AXFR,
    wire.OPT,
    wire.CNAME,
    65,
)


def test_what_is_plainly_missing_is_answered_as_synthesis_answers(rng: random.Random) -> None:
    world = World(STORED, zones=ZONES)
    world.delete("i1.web.prod")
    world.put("i1.web.prod", STORED["i1.web.prod"])
    made: dict[tuple[int, tuple[bytes, ...]], Prepared] = {}
    found = 0
    for _ in range(3000):
        suffix = rng.choice(("d.test.", "in.d.test.", "test.", "0.10.in-addr.arpa.", ""))
        text = ".".join((*(rng.choice(LABELS) for _ in range(rng.randint(0, 4))), suffix))
        if text in ("", "."):
            continue
        path, qtype = names.from_text(text.replace("..", ".")), rng.choice(TYPES)
        way = plain.way_to(path, qtype, world.view, world.settings.zones)
        if way is None or way[2]:
            continue
        end = way[1]
        found += 1
        answer = synthesize(path, qtype, world.view, world.settings)
        prepared = Prepared(answer, path)
        assert (answer.rcode, prepared.passing, answer.outside, answer.cut) == (
            wire.NXDOMAIN,
            True,
            False,
            False,
        )
        assert (end, end.version) in answer.stamps
        zone = world.settings.zones.closest(path)
        assert zone is not None
        shared = made.setdefault((len(wire.encode_name(path)), zone.apex), prepared)
        for field in ("flags", "rcode", "first", "rotating", "authority", "additional", "wanted"):
            assert getattr(shared, field) == getattr(prepared, field), (text, field)
    assert found > 300


@pytest.mark.parametrize("hostmaster", ["hostmaster.d.test", "root.post.d.test", "root.example.com"])
@pytest.mark.parametrize(
    "first", ["abc.hostmaster", "hostmaster", "abc.root.post", "xroot.post", "abc.dns", "abc.ns.dns"]
)
def test_one_missing_name_says_nothing_that_points_into_another(first: str, hostmaster: str) -> None:
    """The SOA's names may be those of the first question that is answered so, but not of those after it."""
    world = World(
        {"web": {"host": "10.0.0.1"}}, zones=[Zone(apex=APEX, hostmaster=names.from_text(hostmaster))]
    )
    for name in (first, "y" * len(first), "a." + "y" * (len(first) - 2)):
        response = world.ask(name, "A")
        assert response.rcode() == 3
        assert response.authority[0][0].rname.to_text() == f"{hostmaster}."


def test_a_serial_that_moves_is_told_and_few_answers_are_made() -> None:
    world = World({"i1.web.prod": {"host": "10.0.0.1"}})
    for number in range(100, 200):
        world.udp.respond(query(f"x{number}.prod", "A").to_wire())
    (kept,) = world.udp._missing._made.values()
    world.put("i2.web.prod", {"host": "10.0.0.2"})
    response = world.ask("y100.prod", "A")
    assert response.authority[0][0].serial == world.revision
    (again,) = world.udp._missing._made.values()
    assert again[2] is not kept[2]
    prepared = world.udp._kept._prepared
    assert prepared.bytes == sum(entry.size for entry in prepared.entries.values())


def test_a_name_that_is_stored_is_missing_no_more() -> None:
    world = World({"i1.web.prod": {"host": "10.0.0.1"}})
    for name in ("i1.new.prod", "i2.web.prod", "new.new"):
        for _ in range(3):
            assert world.ask(name, "A").rcode() == 3
        world.put(name, {"host": "10.0.0.9"})
        assert world.says(name, "A") == [f"{name} 5 A 10.0.0.9"]

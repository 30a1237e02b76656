"""The short way to the common answers says what the long way says."""

from __future__ import annotations

import random

import pytest

from discovery import names
from discovery.dns import plain, wire
from discovery.dns.answer import Prepared
from discovery.dns.synthesis import synthesize
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World

ZONES = (
    Zone(apex=APEX, ttl=30, priority=7, weight=50, local=names.from_text("web.d.test")),
    Zone(apex=names.from_text("e.test"), ttl=8),
    Zone(apex=names.from_text("in.prod.e.test"), ttl=60, priority=3),
    Zone(apex=names.from_text("0.10.in-addr.arpa"), reverse=True),
)
LABELS = (
    "web",
    "prod",
    "i1",
    "i2",
    "I2",
    "x",
    "*",
    "any",
    "tag",
    "_tcp",
    "_http",
    "dns",
    "ns",
    "apex",
    "local",
)
SUFFIXES = ("d.test.", "e.test.", "in.prod.e.test.", "0.10.in-addr.arpa.", "test.")
TYPES = (wire.A, wire.A, wire.AAAA, wire.SRV, wire.SRV, wire.SRV, wire.TXT, wire.MX, wire.CNAME, wire.ANY)
SAME = (
    "flags",
    "rcode",
    "first",
    "rotating",
    "authority",
    "additional",
    "answer_size",
    "whole_size",
    "memory",
    "stamps",
    "outside",
    "wanted",
    "cut",
    "passing",
    "shared",
)


ODD: dict[str, tuple[object, ...]] = {
    "host": ("web.d.test", "", "example.com"),
    "group": ("", "blue", "red"),
    "targetstrip": (-1, 0, 1),
    "mail": (True,),
    "port": ("unreadable", 80),
}


def made_up(rng: random.Random, odd: str) -> tuple[object, int]:
    """A service's value, plain but perhaps for the field `odd`, and its lease."""
    fields: dict[str, object] = {
        "host": rng.choice(("10.0.0.1", "10.0.0.2", "2001:db8::1", "10.0.0.3", "10.0.0.1"))
    }
    choices: dict[str, tuple[object, ...]] = {
        "port": (80, 443),
        "priority": (0, 1, 10),
        "weight": (0, 1, 100, 1000),
        "ttl": (0, 4, 40),
        "text": ("", "x"),
        "lease_ttl": (3, 300),
    }
    for name, values in choices.items():
        if rng.random() < 0.5:
            fields[name] = rng.choice(values)
    if odd and rng.random() < 0.5:
        fields[odd] = rng.choice(ODD[odd])
    return fields, rng.choice((0, 0, 1, 2))


def test_a_plain_answer_is_what_synthesis_answers(rng: random.Random) -> None:
    found = dict.fromkeys(TYPES, 0)
    for _ in range(60):
        world = World(zones=ZONES, max_matched=rng.choice((2, 100)))
        suffixes = rng.choice((("d.test.",), ("e.test.", "in.prod.e.test."), SUFFIXES))
        odd = rng.choice(("", "", *ODD))
        stored = []
        for _ in range(rng.randint(1, 12)):
            labels = [
                rng.choice(LABELS[:6]),
                *rng.choices(LABELS[:3], k=rng.randint(0, 2)),
                rng.choice(suffixes),
            ]
            stored.append(".".join(labels))
            content, lease = made_up(rng, odd)
            world.put("/skydns/" + "/".join(reversed(stored[-1][:-1].split("."))), content, lease)
        for text in dict.fromkeys(stored):
            labels = text.split(".")
            for start in range(len(labels) - 2):
                asked = ".".join(labels[start:])
                if rng.random() < 0.1:
                    asked = f"{rng.choice(LABELS)}.{asked}"
                for qtype in TYPES:
                    found[qtype] += same_answer(world, names.from_text(asked), qtype)
    assert found[wire.A] > 300
    assert found[wire.SRV] > 500
    assert found[wire.AAAA] > 50


def same_answer(world: World, path: tuple[bytes, ...], qtype: int) -> bool:
    """Whether there was a plain answer; it is compared."""
    settings = world.settings
    way = plain.way_to(path, qtype, world.view, settings.zones)
    if way is None or not way[2]:
        return False
    zone, branch, _ = way
    name = wire.encode_name(path)
    short = plain.prepare(path, name, qtype, zone, branch, settings.zones, settings.max_matched)
    if short is None:
        return False
    long = Prepared(synthesize(path, qtype, world.view, settings), path)
    for field in SAME:
        assert getattr(short, field) == getattr(long, field), (path, qtype, field)
    return True


@pytest.mark.parametrize(
    ("name", "rtype"),
    [("web.prod", "SRV"), ("web.prod", "A"), ("i1.web.prod", "SRV"), ("prod", "AAAA"), ("WEB.prod", "SRV")],
)
def test_the_common_questions_go_the_short_way(
    name: str, rtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {
        "i1.web.prod": {
            "host": "10.0.0.1",
            "port": 80,
            "tags": ["x"],
            "ports": {"http": 1},
            "meta": {"a": "b"},
        },
        "i2.web.prod": {"host": "2001:db8::1", "port": 80},
    }
    world = World(stored)
    monkeypatch.setattr("discovery.dns.responder.synthesize", None)
    assert world.ask(name, rtype).answer


def test_a_stale_view_goes_the_long_way() -> None:
    world = World({"i1.web.prod": {"host": "10.0.0.1", "ttl": 100}})
    world.view.stale = True
    world.view.new_epoch()
    assert world.says("web.prod", "A") == ["web.prod 30 A 10.0.0.1"]


def test_groups_go_the_long_way() -> None:
    world = World(
        {"i1.web": {"host": "10.0.0.1", "group": "blue"}, "i2.b.web": {"host": "10.0.0.2", "group": "red"}}
    )
    assert not same_answer(world, names.from_text("web.d.test"), wire.A)
    assert not same_answer(world, names.from_text("web.d.test"), wire.SRV)

"""The short way to the common answers says what the long way says."""

from __future__ import annotations

import random
from collections.abc import Callable

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
    Zone(apex=names.from_text("in.e.test"), ttl=60, priority=3),
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
SUFFIXES = ("d.test.", "e.test.", "in.e.test.", "0.10.in-addr.arpa.", "test.")
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


def made_up(rng: random.Random) -> tuple[object, int]:
    """A service's value, most often a plain one, and its lease."""
    odd = rng.random() < 0.15
    hosts = ("10.0.0.1", "10.0.0.2", "2001:db8::1", "10.0.0.3", "10.0.0.1")
    fields: dict[str, object] = {"host": rng.choice(("web.d.test", "", "example.com") if odd else hosts)}
    choices: dict[str, Callable[[], object]] = {
        "port": lambda: rng.choice((80, 443)),
        "priority": lambda: rng.choice((0, 1, 10)),
        "weight": lambda: rng.choice((0, 1, 100, 1000)),
        "ttl": lambda: rng.choice((0, 4, 40)),
        "text": lambda: rng.choice(("", "x")),
        "lease_ttl": lambda: rng.choice((3, 300)),
    }
    odd_choices: dict[str, Callable[[], object]] = {
        "group": lambda: rng.choice(("", "blue", "red")),
        "targetstrip": lambda: rng.choice((-1, 0, 1)),
        "mail": lambda: True,
        "port": lambda: "unreadable",
    }
    for name, draw in (choices | odd_choices if odd else choices).items():
        if rng.random() < 0.5:
            fields[name] = draw()
    return fields, rng.choice((0, 0, 1, 2))


def test_a_plain_answer_is_what_synthesis_answers(rng: random.Random) -> None:
    found = dict.fromkeys(TYPES, 0)
    for _ in range(60):
        world = World(zones=ZONES, max_matched=rng.choice((2, 100)))
        stored = []
        for _ in range(rng.randint(1, 12)):
            text = ".".join(
                (*(rng.choice(LABELS[:6]) for _ in range(rng.randint(1, 4))), rng.choice(SUFFIXES))
            )
            content, lease = made_up(rng)
            key = "/skydns/" + "/".join(reversed(text[:-1].split(".")))
            world.put(key, content, lease)
            stored.append(text)
        for text in stored:
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

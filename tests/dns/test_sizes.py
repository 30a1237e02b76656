"""Properties of every answer at every size: it fits, it is whole or says that it is not, and others can read it."""

from __future__ import annotations

import random

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest

from discovery.dns.cookies import Secret
from tests.support.dns import World

APEX = (b"d", b"test")
CLIENT = bytes((192, 0, 2, 1))
TYPES = ("A", "AAAA", "SRV", "MX", "TXT", "NS", "SOA", "CNAME", "ANY", "CAA")


def label(rng: random.Random) -> bytes:
    """Of 1 to 63 bytes of any kind but a slash; lower case, as keys are."""
    size = rng.choice((1, 1, 2, 3, 10, 63))
    kinds = (b"abcxyz0123-_", bytes(each for each in range(256) if each != 0x2F))
    return bytes(rng.choice(rng.choice(kinds)) for _ in range(size)).lower()


def path(rng: random.Random, *, longest: bool = False) -> tuple[bytes, ...]:
    """Labels from left to right of a name in the zone, at most 255 bytes in wire form; `longest`: exactly that."""
    labels: list[bytes] = []
    room = 255 - 1 - sum(len(each) + 1 for each in APEX)
    for _ in range(rng.randint(1, 4)) if not longest else range(99):
        if room < 2:
            break
        made = label(rng)[: room - 1]
        if longest and room - len(made) - 1 == 1:  # a last byte that would be no label
            made += b"x" if len(made) < 63 else b""
            made = made if room - len(made) - 1 != 1 else made[:-1]
        labels.append(made)
        room -= len(made) + 1
    return (*labels, *APEX)


def value(rng: random.Random, hosts: list[str]) -> dict[str, object]:
    fields: dict[str, object] = {
        "host": rng.choice(hosts),
        "port": rng.randint(1, 65535),
        "ttl": rng.randint(1, 99),
    }
    if rng.random() < 0.3:
        fields["text"] = "t" * rng.choice((1, 255, 256, 700))
    if rng.random() < 0.3:
        fields["mail"] = True
    return fields


def stored(rng: random.Random) -> tuple[World, list[tuple[bytes, ...]]]:
    """A world of services under few names, and the names."""
    parents = [path(rng, longest=rng.random() < 0.2) for _ in range(3)] + [APEX]
    hosts = [f"10.0.0.{number}" for number in range(200)] + [f"2001:db8::{number:x}" for number in range(50)]
    hosts += ["www.example.com", "one.d.test", "two.d.test"]
    world = World(nsid=b"n" * 40)
    world.cookies.use([Secret(b"k" * 16, 0)])
    world.put("one", {"host": "10.9.9.1"})
    world.put("two", {"host": "2001:db8:9::2"})
    for parent in parents:
        for _ in range(rng.choice((1, 3, 30, 120))):
            below = (label(rng), *parent)
            name = below if sum(len(each) + 1 for each in below) + 1 <= 255 else parent
            raw = b"/skydns/" + b"/".join(reversed(name))
            world.put_raw(raw, value(rng, hosts))
    return world, parents


def asked(
    rng: random.Random, name: tuple[bytes, ...], rtype: str, payload: int | None
) -> dns.message.Message:
    made = dns.message.make_query(dns.name.Name((*name, b"")), rtype)
    if payload is not None:
        options: list[dns.edns.Option] = []
        options += [dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")] if rng.random() < 0.5 else []
        if rng.random() < 0.5:
            options.append(dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678"))
        made.use_edns(0, rng.choice((0, 0x8000)), payload, options=options)
    return made


def sets(section: list[dns.rrset.RRset]) -> set[tuple[str, int, frozenset[str]]]:
    return {
        (rrset.name.to_text(), int(rrset.rdtype), frozenset(item.to_text() for item in rrset))
        for rrset in section
    }


def check(query: dns.message.Message, over_udp: bytes, over_tcp: bytes, limit: int) -> None:
    assert len(over_udp) <= limit
    cut, whole = dns.message.from_wire(over_udp), dns.message.from_wire(over_tcp)
    assert query.is_response(cut)
    assert query.is_response(whole)
    assert not whole.flags & dns.flags.TC
    assert (cut.rcode(), cut.edns, cut.options) == (whole.rcode(), whole.edns, whole.options)
    if cut.flags & dns.flags.TC:
        assert sum(map(len, cut.answer)) < sum(map(len, whole.answer))
        assert not cut.additional
        assert not cut.authority
        for rrset in cut.answer:
            complete = next(
                each for each in whole.answer if each.match(rrset.name, rrset.rdclass, rrset.rdtype, 0)
            )
            assert set(rrset) <= set(complete)
    else:
        assert sets(cut.answer) == sets(whole.answer)
        assert sets(cut.authority) == sets(whole.authority)
        assert sets(cut.additional) <= sets(whole.additional)
        if sets(cut.additional) < sets(whole.additional):
            assert len(over_tcp) > limit
    assert_pointers_point_back(over_tcp)


def assert_pointers_point_back(message: bytes) -> None:
    """RFC 1035 section 4.1.4, RFC 2782: each name is read by hand, and SRV targets are spelled out."""
    counts = [int.from_bytes(message[at : at + 2], "big") for at in (4, 6, 8, 10)]
    at = 12
    for _ in range(counts[0]):
        at = end_of_name(message, at) + 4
    for _ in range(sum(counts[1:])):
        at = end_of_name(message, at)
        rtype, length = (
            int.from_bytes(message[at : at + 2], "big"),
            int.from_bytes(message[at + 8 : at + 10], "big"),
        )
        at += 10
        if rtype == 33:
            target = at + 6
            while message[target]:
                assert message[target] < 64
                target += message[target] + 1
            assert target + 1 == at + length
        at += length
    assert at == len(message)


def end_of_name(message: bytes, at: int) -> int:
    while message[at]:
        if message[at] >= 0xC0:
            assert (message[at] & 0x3F) << 8 | message[at + 1] < at
            return at + 2
        at += message[at] + 1
    return at + 1


def run(rng: random.Random, worlds: int, questions: int) -> int:
    """How many of the answers were cut."""
    cuts = 0
    for _ in range(worlds):
        world, names = stored(rng)
        for _ in range(questions):
            name, rtype = rng.choice(names), rng.choice(TYPES)
            payload = rng.choice((None, 0, 512, 513, 700, 1231, 1232, 4096, rng.randint(512, 1300)))
            query = asked(rng, name, rtype, payload)
            answers = [responder.respond(query.to_wire(), CLIENT) for responder in (world.udp, world.tcp)]
            assert isinstance(answers[0], bytes)
            assert isinstance(answers[1], bytes)
            limit = 512 if payload is None else max(512, min(payload, 1232))
            check(query, answers[0], answers[1], limit)
            cuts += bool(answers[0][2] & 2)
    return cuts


def test_every_answer_fits_and_is_whole_or_says_so(rng: random.Random) -> None:
    assert run(rng, 2, 40) > 5


@pytest.mark.slow
def test_every_answer_fits_and_is_whole_or_says_so_for_long(rng: random.Random) -> None:
    assert run(rng, 20, 300) > 500


@pytest.mark.parametrize("rtype", TYPES)
def test_names_of_255_bytes_and_labels_of_63(rng: random.Random, rtype: str) -> None:
    for _ in range(10):
        name = path(rng, longest=True)
        assert sum(len(each) + 1 for each in name) + 1 == 255
        world = World()
        world.put_raw(
            b"/skydns/" + b"/".join(reversed(name)),
            {"host": "10.0.0.1", "port": 1, "mail": True, "text": "t"},
        )
        query = asked(rng, name, rtype, 1232)
        answers = [responder.respond(query.to_wire(), CLIENT) for responder in (world.udp, world.tcp)]
        assert isinstance(answers[0], bytes)
        assert isinstance(answers[1], bytes)
        check(query, answers[0], answers[1], 1232)
        assert (answers[0][3] & 15) == 0
        if rtype in ("A", "SRV", "TXT", "MX"):
            assert dns.message.from_wire(answers[0]).answer

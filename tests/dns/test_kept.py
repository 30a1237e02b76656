"""The hit path: what may be answered by what is kept, and what a flood may not drive out."""

from __future__ import annotations

import random
import sys

import dns.edns
import dns.message
import pytest

from discovery.dns.cookies import Secret
from discovery.dns.kept import MAX_SHAPES
from tests.support.dns import World, query

STORED = {"1.web.prod": {"host": "10.0.0.1", "port": 80}, "a\0b.prod": {"host": "10.0.0.2"}}
CLIENT, OTHER = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


@pytest.fixture(params=["compiled", "python"], autouse=True)
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setitem(sys.modules, "discovery.dns._fast", None)


def world() -> World:
    made = World(STORED)
    made.cookies.use([Secret(b"k" * 16, 0)])
    return made


def with_option(content: bytes, name: str = "web.prod") -> bytes:
    message = query(name, "A")
    message.use_edns(0, 0, 1232, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, content)])
    return message.to_wire()


def answered(world: World, packet: bytes, client: bytes = CLIENT) -> bytes:
    """The answer, which is what a responder without caches says."""
    answer = world.udp.respond(packet, client)
    assert answer == world.responder(udp=True, cache_bytes=0).respond(packet, client)
    assert isinstance(answer, bytes)
    return answer


def hits(world: World) -> tuple[int, int]:
    return world.counters.hits_raw, world.counters.hits_prepared


def kept(world: World, packet: bytes, client: bytes = CLIENT) -> bytes | None:
    return world.udp._kept.answer(packet, client)


def test_a_new_cookie_or_letter_case_is_answered_without_parsing() -> None:
    made = world()
    answered(made, with_option(b"12345678"))
    for content in (b"abcdefgh", b"ABCDEFGH"):
        for client in (CLIENT, OTHER):
            packet = with_option(content, name="wEb.PROD")
            answer = kept(made, packet, client)
            assert answer is not None
            assert answer == answered(made, packet, client)
            assert dns.message.from_wire(answer).options[0].to_wire()[:8] == content
    assert kept(made, with_option(b"12345678" + b"s" * 16)) is None  # of another shape
    answered(made, with_option(b"12345678" + b"s" * 16))
    assert kept(made, with_option(b"87654321" + b"t" * 16)) == answered(
        made, with_option(b"87654321" + b"t" * 16)
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda packet: packet + b"x",
        lambda packet: packet[:-1],
        lambda packet: packet[:2] + b"\x80" + packet[3:],
        lambda packet: packet[:2] + b"\x08" + packet[3:],
        lambda packet: packet[:5] + b"\2" + packet[6:],
        lambda packet: packet[:12] + b"\4" + packet[13:],
        lambda packet: packet[:-13] + b"\x10" + packet[-12:],
        lambda packet: packet[:-9] + b"\7" + packet[-8:],
        lambda packet: packet[:-12] + b"\0\x0b" + packet[-10:],
    ],
)
def test_what_differs_in_more_is_parsed(spoil: object) -> None:
    made = world()
    packet = with_option(b"12345678")
    answered(made, packet)
    assert kept(made, packet) is not None
    assert callable(spoil)
    assert kept(made, spoil(packet)) is None


def test_without_a_secret_there_is_no_cookie_and_with_one_there_is_at_once() -> None:
    made = world()
    made.cookies.use([])
    answered(made, with_option(b"12345678"))
    assert kept(made, with_option(b"12345678")) is not None
    made.cookies.use([Secret(b"k" * 16, 0)])
    assert kept(made, with_option(b"12345678")) is None
    assert dns.message.from_wire(answered(made, with_option(b"12345678"))).options


def test_types_that_fold_like_letters_stay_apart() -> None:
    """HTTPS is 65, `A`; 97, `a`, is nobody's."""
    made = world()
    for rtype in ("TYPE65", "TYPE97"):
        answered(made, query("web.prod", rtype).to_wire())
        answered(made, query("web.prod", rtype).to_wire())
    assert made.counters.misses == 2 + 4  # and those of the responders without caches


def test_a_zero_byte_in_a_label_is_never_taken_for_the_end() -> None:
    made = world()
    packet = query("a\\000b.prod", "A").to_wire()
    for _ in range(3):
        assert dns.message.from_wire(answered(made, packet)).answer
        assert kept(made, packet) is None


@pytest.mark.parametrize("size", range(24))
def test_any_short_bytes_are_nothing(size: int) -> None:
    made = world()
    answered(made, query("web.prod", "A").to_wire())
    for byte in (b"\0", b"a", b"\xff"):
        assert kept(made, byte * size) is None


def test_few_shapes_of_a_question_are_kept_and_all_are_counted() -> None:
    made = world()
    for payload in range(512, 512 + 5 * MAX_SHAPES):
        message = query("web.prod", "A")
        message.use_edns(0, 0, payload)
        answered(made, message.to_wire())
        (entry,) = made.udp._kept._prepared.entries.values()
        bodies = entry.content.bodies[True]
        assert len(bodies) <= MAX_SHAPES
        assert entry.size >= entry.content.memory + sum(body.size for body in bodies.values())
        assert made.udp._kept._prepared.bytes == entry.size
    assert not made.udp._kept._raw.entries


def test_a_flood_of_missing_names_drives_out_nothing_that_is_asked(rng: random.Random) -> None:
    made = world()
    wanted = [query("web.prod", rtype).to_wire() for rtype in ("A", "AAAA", "SRV")]
    for packet in wanted * 2:
        answered(made, packet)
    for number in range(3000):
        name = f"{rng.randbytes(6).hex()}.prod" if number % 2 else f"{rng.randbytes(6).hex()}.example.com."
        made.udp.respond(query(name, "A").to_wire(), CLIENT)
    before = made.counters.hits_raw
    for packet in wanted:
        answered(made, packet)
    assert made.counters.hits_raw == before + len(wanted)
    prepared, raw = made.udp._kept._prepared, made.udp._kept._raw
    assert prepared.passing_bytes * 4 <= prepared.limit
    assert len(raw.entries) == len(wanted)
    assert prepared.bytes == sum(entry.size for entry in prepared.entries.values())


def test_many_at_once_are_answered_and_counted_as_one_by_one(rng: random.Random) -> None:
    """Kept or made, rotated, cut at 512 bytes, depending on one branch or on several."""
    stored = {
        **{f"{number}.web.prod": {"host": f"10.0.1.{number}", "port": 80} for number in range(40)},
        **{f"{number}.few.prod": {"host": f"10.0.2.{number}", "port": 80} for number in range(3)},
        "1.lone.prod": {"host": "10.0.3.1", "port": 80},
        "1.alias.prod": {"host": "few.prod.d.test", "port": 80},
    }
    turn = [0.0]
    singly, together = (World(stored, draw=lambda: turn[0]) for _ in range(2))
    asked = ("web.prod", "few.prod", "lone.prod", "alias.prod", "1.alias.prod", "missing.prod", "other.test.")
    packets = [query(name, rtype).to_wire() for name in asked for rtype in ("A", "SRV")]
    for number in range(200):
        turn[0] = rng.random()
        change = rng.random()
        for each in (singly, together):
            if change < 0.1:
                each.put(f"1.{asked[number % 4]}", {"host": f"10.0.4.{number}", "port": 80})
            elif change < 0.2:
                each.view.new_epoch()
        some = [rng.randbytes(2) + packet[2:] for packet in rng.sample(packets, 10)]
        clients = [CLIENT] * len(some)
        assert together.udp.respond_all(some, clients) == [singly.udp.respond(one, CLIENT) for one in some]
        assert together.counters.values() == singly.counters.values()
    assert together.counters.hits_raw > 200
    assert together.counters.truncated > 20

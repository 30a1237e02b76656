"""Sizes, truncation, rotation."""

from __future__ import annotations

import random
from collections import Counter

import dns.flags
import dns.message
import pytest

from discovery.dns.responder import Responder
from tests.support.dns import World, ask, lines, query


def many(count: int, name: str = "web") -> dict[str, object]:
    return {f"{n:05}.{name}": {"host": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"} for n in range(count)}


def size(world: World, name: str, rtype: str, *, edns: bool = False, payload: int = 1232) -> int:
    answer = world.udp.respond(query(name, rtype, edns=edns, payload=payload).to_wire())
    assert isinstance(answer, bytes)
    return len(answer)


def first_record(responder: Responder, question: bytes) -> bytes:
    """The answer section's first record, whose owner is a pointer."""
    answer = responder.respond(question)
    assert isinstance(answer, bytes)
    at = len(question)
    return answer[at : at + 12 + int.from_bytes(answer[at + 10 : at + 12], "big")]


# ---------------------------------------------------------------- sizes over UDP


def test_512_bytes_without_edns() -> None:
    world = World(many(40))
    response = world.ask("web", "A")
    assert response.flags & dns.flags.TC
    assert 512 - 16 < size(world, "web", "A") <= 512
    assert len(response.answer) == (512 - 28) // 16
    assert world.counters.truncated == 2


@pytest.mark.parametrize(
    ("asked", "limit"), [(0, 512), (511, 512), (600, 600), (1232, 1232), (4096, 1232), (65535, 1232)]
)
def test_the_clients_payload_size_never_below_512_and_never_above_ours(asked: int, limit: int) -> None:
    world = World(many(200))
    assert limit - 16 < size(world, "web", "A", edns=True, payload=asked) <= limit
    response = world.ask("web", "A", edns=True, payload=asked)
    assert response.flags & dns.flags.TC
    assert response.edns == 0


def test_our_payload_size_is_what_we_tell() -> None:
    world = World(many(400), payload_size=4096)
    assert world.ask("web", "A", edns=True).payload == 4096
    assert 4000 < size(world, "web", "A", edns=True, payload=65535) <= 4096


def test_an_answer_that_just_fits_is_not_truncated() -> None:
    fitting = (512 - 28) // 16
    world = World(many(fitting) | many(fitting + 1, "wex"))
    assert not world.ask("web", "A").flags & dns.flags.TC
    assert world.ask("wex", "A").flags & dns.flags.TC


def test_the_payload_size_is_not_applied_to_tcp() -> None:
    response = World(many(200)).ask("web", "A", tcp=True, edns=True, payload=512)
    assert len(response.answer) == 200
    assert not response.flags & dns.flags.TC


# ---------------------------------------------------------------- what is left out


def test_additional_is_dropped_in_whole_rrsets_without_tc() -> None:
    stored = {f"{n}.web": {"host": f"10.0.0.{n}", "port": n} for n in range(10)}
    for n in range(10):
        stored[f"x.{n}.web"] = {"host": f"10.0.1.{n}", "port": 99, "targetstrip": 1}
    world = World(stored)
    whole = {line.split()[0] for line in world.adds("web", "SRV")}
    response = world.ask("web", "SRV", edns=True, payload=900)
    assert not response.flags & dns.flags.TC
    assert len(response.answer) == 20
    owners = Counter(line.split()[0] for line in lines(response.additional))
    assert 0 < len(owners) < len(whole)
    assert set(owners.values()) == {2}


def test_an_alias_in_additional_is_never_sent_without_its_addresses() -> None:
    stored: dict[str, object] = {
        "1.web": {"host": "alias.d.test", "port": 1},
        "alias": {"host": "real.d.test"},
    }
    stored |= {f"{n}.real": {"host": f"10.0.0.{n}"} for n in range(40)}
    stored |= {"2.web": {"host": "10.9.9.9"}}
    response = World(stored).ask("web", "SRV")
    assert not response.flags & dns.flags.TC
    assert lines(response.additional) == ["2.web 5 A 10.9.9.9"]
    assert len(World(stored).adds("web", "SRV")) == 42


def test_what_is_truncated_has_no_additional_and_whole_records() -> None:
    world = World({f"{n}.web": {"host": f"10.0.0.{n}", "port": n} for n in range(100)})
    response = world.ask("web", "SRV", edns=True)
    assert response.flags & dns.flags.TC
    assert response.additional == []
    assert response.edns == 0
    assert 0 < len(response.answer) < 100


def test_truncated_answers_fit_whichever_record_comes_first() -> None:
    """Records of very different sizes: every rotation must keep to the limit."""
    stored = {f"{'x' * (n % 60 + 1)}.{n}.web": {"host": f"10.0.0.{n}", "port": n} for n in range(60)}
    draws = iter([n / 60 for n in range(60)] * 3)
    world = World(stored, draw=lambda: next(draws))
    for _ in range(120):
        assert size(world, "web", "SRV", edns=True) <= 1232


def test_a_truncated_chain_keeps_its_order() -> None:
    stored: dict[str, object] = {f"n{n}{'x' * 55}": {"host": f"n{n + 1}{'x' * 55}.d.test"} for n in range(11)}
    world = World(stored | {f"n11{'x' * 55}": {"host": "10.0.0.1"}})
    response = world.ask(f"n0{'x' * 55}", "A")
    assert response.flags & dns.flags.TC
    owners = [line.split()[0][:3].rstrip("x") for line in lines(response.answer)]
    assert owners == [f"n{n}" for n in range(len(owners))]
    assert owners


def test_more_than_64_kib_over_tcp_is_cut_at_whole_records_without_tc_and_counted() -> None:
    starts = set()
    rng = random.Random(5)
    world = World(many(5000), draw=rng.random)
    question = query("web", "A").to_wire()
    answer = world.tcp.respond(question)
    assert isinstance(answer, bytes)
    assert int.from_bytes(answer[2:4], "big") & dns.flags.TC == 0
    assert int.from_bytes(answer[6:8], "big") == (65535 - 28) // 16
    assert len(answer) == 28 + (65535 - 28) // 16 * 16
    for _ in range(20):
        starts.add(first_record(world.tcp, question))
    assert len(starts) > 15
    assert world.counters.cut == 21


def test_one_record_that_fits_nowhere_is_left_out() -> None:
    world = World({"web": {"text": "x" * 65270}})
    assert world.ask("web", "TXT").flags & dns.flags.TC
    response = world.ask("web", "TXT", tcp=True, edns=True)
    assert (response.answer, response.flags & dns.flags.TC) == ([], 0)
    assert world.counters.failed == 0


# ---------------------------------------------------------------- rotation


@pytest.mark.parametrize("rtype", ["A", "SRV", "MX"])
def test_every_record_comes_first_about_equally_often(rtype: str, rng: random.Random) -> None:
    stored = {f"{n}.web": {"host": f"10.0.0.{n}", "mail": True, "priority": n + 1} for n in range(7)}
    world = World(stored, draw=rng.random)
    question = query("web", rtype).to_wire()
    firsts = Counter(first_record(world.udp, question) for _ in range(1400))
    assert len(firsts) == 7
    assert min(firsts.values()) > 140
    assert max(firsts.values()) < 260


def test_a_rotation_is_a_rotation_of_the_whole() -> None:
    draws = [0.0, 0.5, 0.99]
    world = World(many(4), draw=lambda: draws[0])
    order = world.says("web", "A")
    for draw, start in ((0.5, 2), (0.99, 3)):
        draws[0] = draw
        assert world.says("web", "A") == order[start:] + order[:start]


def test_truncated_answers_rotate_over_all_records(rng: random.Random) -> None:
    world = World(many(100), draw=rng.random)
    question = query("web", "A").to_wire()
    assert len({first_record(world.udp, question) for _ in range(1500)}) == 100


def test_aliases_stay_first_and_the_addresses_behind_them_rotate() -> None:
    draws = [0.0]
    world = World({"www": {"host": "web.d.test"}, **many(2)}, draw=lambda: draws[0])
    first = world.says("www", "A")
    draws[0] = 0.5
    assert world.says("www", "A") == [first[0], first[2], first[1]]


def test_ns_txt_and_ptr_keep_key_order() -> None:
    stored = {f"{n}.ns.dns": {"host": f"10.0.0.{n}", "text": str(n)} for n in range(4)}
    world = World(stored, draw=lambda: 0.6)
    assert [line.split()[-1] for line in world.says("", "NS")] == [f"{n}.ns.dns" for n in range(4)]
    assert [line.split()[-1] for line in world.says("ns.dns", "TXT")] == [f'"{n}"' for n in range(4)]


def test_round_robin_may_be_off() -> None:
    world = World(many(4), draw=lambda: 0.6, round_robin=False)
    assert [line.split()[-1] for line in world.says("web", "A")] == [f"10.0.0.{n}" for n in range(4)]


# ---------------------------------------------------------------- flags


def test_rd_and_cd_are_copied_and_ra_is_off() -> None:
    world = World(many(1))
    for flags in (0, dns.flags.RD, dns.flags.CD, dns.flags.RD | dns.flags.CD | dns.flags.AD | dns.flags.RA):
        message = query("web", "A")
        message.flags = dns.flags.Flag(flags)
        answer = world.udp.respond(message.to_wire())
        assert isinstance(answer, bytes)
        expected = dns.flags.QR | dns.flags.AA | flags & (dns.flags.RD | dns.flags.CD)
        assert dns.message.from_wire(answer).flags == expected


def test_additional_under_the_question_is_compressed_to_it() -> None:
    world = World({"1.web": {"host": "10.0.0.1"}})
    response = ask(world.udp, "1.web", "SRV")
    assert lines(response.additional) == ["1.web 5 A 10.0.0.1"]
    assert size(world, "1.web", "SRV") < 12 + 16 + 12 + 6 + 14 + 16 + 5

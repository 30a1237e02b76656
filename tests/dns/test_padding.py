"""Padding of answers (RFC 7830): whole blocks, still the same answer, and never where it was not asked for."""

from __future__ import annotations

import dns.edns
import dns.message
import pytest

from discovery.dns.padding import BLOCK, padded
from tests.support.dns import World, query

PADDING = dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(12))
MANY: dict[str, object] = {f"{n}.big": {"host": f"10.0.{n >> 8}.{n & 255}", "port": 1} for n in range(3000)}


def asked(world: World, name: str, rtype: str, *options: dns.edns.Option) -> tuple[bytes, bytes]:
    message = query(name, rtype)
    message.use_edns(0, 0, 1232, options=list(options))
    packet = message.to_wire()
    answer = world.tcp.respond(packet)
    assert isinstance(answer, bytes)
    return packet, answer


@pytest.mark.parametrize("name", ["1.big", "x", "d.test.", "example.com.", "5.big"])
def test_an_answer_is_padded_to_whole_blocks_and_says_the_same(name: str) -> None:
    packet, answer = asked(World(MANY), name, "SRV", PADDING)
    longer = padded(packet, answer)
    assert len(longer) % BLOCK == 0
    before, after = dns.message.from_wire(answer), dns.message.from_wire(longer)
    assert [option.otype for option in after.options] == [*(option.otype for option in before.options), 12]
    after.use_edns(before.edns, before.ednsflags, before.payload, options=list(before.options))
    assert after.to_text() == before.to_text()


def test_without_the_option_or_without_edns_nothing_is_padded() -> None:
    world = World(MANY)
    packet, answer = asked(world, "1.big", "A")
    assert padded(packet, answer) == answer
    packet = query("1.big", "A").to_wire()
    answer = world.tcp.respond(packet)  # type: ignore[assignment]
    assert padded(packet, answer) == answer


def test_a_message_never_gets_too_long() -> None:
    many = {f"{n}.big": {"host": f"10.0.{n >> 8}.{n & 255}"} for n in range(4200)}
    packet, answer = asked(World(many), "big", "A", PADDING)
    assert 65535 - 16 < len(answer) <= 65535
    assert padded(packet, answer) == answer


def test_what_is_malformed_is_not_padded() -> None:
    world = World(MANY)
    packet = bytearray(asked(world, "1.big", "A", PADDING)[0])
    packet += b"x"
    answer = world.tcp.respond(bytes(packet))
    assert isinstance(answer, bytes)
    assert padded(bytes(packet), answer) == answer

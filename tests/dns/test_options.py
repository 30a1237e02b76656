"""EDNS options that are answered, on whole queries: NSID (RFC 5001) and cookies (RFC 7873)."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import pytest

from discovery.dns.cookies import Secret
from tests.support.dns import World, query

WEB: dict[str, object] = {"1.web": {"host": "10.0.0.1"}}
CLIENT = bytes((192, 0, 2, 1))
NSID = dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")


def world() -> World:
    made = World(WEB, nsid=b"n1")
    made.cookies.use([Secret(b"k" * 16, 0)])
    return made


def cookie(content: bytes) -> dns.edns.GenericOption:
    return dns.edns.GenericOption(dns.edns.OptionType.COOKIE, content)


def ask(
    world: World, *options: dns.edns.Option, name: str = "web", client: bytes = CLIENT, empty: bool = False
) -> dns.message.Message:
    message = query(name, "A")
    message.use_edns(0, 0, 1232, options=list(options))
    if empty:
        message.question = []
    answer = world.udp.respond(message.to_wire(), client)
    assert isinstance(answer, bytes)
    return dns.message.from_wire(answer)


def contents(response: dns.message.Message) -> list[tuple[int, bytes]]:
    return [(int(option.otype), option.to_wire() or b"") for option in response.options]


def test_nsid_is_told_to_those_who_ask_and_what_they_sent_with_it_is_ignored() -> None:
    made = world()
    for sent in (b"", b"something"):
        response = ask(made, dns.edns.GenericOption(dns.edns.OptionType.NSID, sent))
        assert contents(response) == [(3, b"n1")]
    assert ask(made).options == ()
    assert ask(World(WEB), NSID).options == ()


def test_unknown_options_are_ignored_and_not_echoed() -> None:
    response = ask(
        world(),
        dns.edns.GenericOption(dns.edns.OptionType(65001), b"x"),
        NSID,
        dns.edns.GenericOption(dns.edns.OptionType.ECS, b""),
    )
    assert contents(response) == [(3, b"n1")]


def test_a_client_cookie_brings_a_server_cookie_that_is_accepted() -> None:
    made = world()
    ((code, content),) = contents(ask(made, cookie(b"12345678")))
    assert (code, content[:8], len(content)) == (10, b"12345678", 24)
    assert made.cookies.is_valid(content, CLIENT)
    assert contents(ask(made, cookie(content))) == [(10, content)]


@pytest.mark.parametrize("name", ["web", "x", "example.com.", "d.test."])
def test_every_answer_has_it(name: str) -> None:
    assert 10 in dict(contents(ask(world(), cookie(b"12345678"), name=name)))


@pytest.mark.parametrize("size", [16, 24, 40])
def test_a_server_cookie_that_is_not_ours_is_replaced_and_the_question_answered(size: int) -> None:
    """RFC 7873 section 5.2.4, no policy against such clients."""
    made = world()
    response = ask(made, cookie(bytes(size)))
    assert response.rcode() == 0
    assert response.answer
    ((_, content),) = contents(response)
    assert made.cookies.is_valid(content, CLIENT)


@pytest.mark.parametrize("size", [0, 1, 7, 9, 15, 41, 100])
def test_a_cookie_of_a_bad_length_is_malformed(size: int) -> None:
    response = ask(world(), cookie(bytes(size)))
    assert (response.rcode(), response.edns) == (1, 0)


def test_damaged_options_are_answered_by_none_even_where_the_opcode_decides() -> None:
    """Found by the fuzzer: NOTIMP with a cookie cut short."""
    made = world()
    for options in (b"\0\x0a\0\0", b"\0\x0a\0\6abcdef", b"\0\3\0\0\0\x0a\0\7abcdefg", b"\0\3\0\1"):
        packet = bytearray(query("web", "A").to_wire())
        packet[2] |= 4 << 3
        packet[11] = 1
        packet += b"\0\0\x29\4\xd0\0\0\0\0" + len(options).to_bytes(2, "big") + options
        answer = made.udp.respond(bytes(packet), CLIENT)
        assert isinstance(answer, bytes)
        response = dns.message.from_wire(answer[:2] + bytes((answer[2] & 0x87,)) + answer[3:])
        assert (response.rcode(), response.edns, response.options) == (4, 0, ())


def test_of_many_cookies_the_first_counts() -> None:
    response = ask(world(), NSID, cookie(b"12345678"), cookie(b"x"), cookie(b"87654321"), NSID)
    assert response.rcode() == 0
    (first, second) = contents(response)
    assert first == (3, b"n1")
    assert second[1][:8] == b"12345678"


def test_a_query_for_a_cookie_alone() -> None:
    """RFC 7873 section 5.4: no question, a cookie; BADCOOKIE when the server cookie with it is not ours."""
    made = world()
    response = ask(made, cookie(b"12345678"), empty=True)
    assert (response.rcode(), response.question, response.answer) == (0, [], [])
    ((_, content),) = contents(response)
    assert made.cookies.is_valid(content, CLIENT)
    assert ask(made, cookie(content), empty=True).rcode() == 0
    response = ask(made, cookie(b"12345678" + bytes(16)), empty=True)
    assert response.rcode() == 23
    assert made.cookies.is_valid(contents(response)[0][1], CLIENT)
    assert made.counters.rcodes[23] == 1
    assert ask(made, NSID, empty=True).rcode() == 1  # RFC 9619


def test_clients_are_told_apart_and_no_cookie_enters_the_raw_level() -> None:
    made = world()
    first = contents(ask(made, cookie(b"12345678")))
    second = contents(ask(made, cookie(b"12345678"), client=bytes((192, 0, 2, 2))))
    assert first != second
    made.wall += 5
    assert first != contents(ask(made, cookie(b"12345678")))
    assert (made.counters.hits_raw, made.counters.hits_prepared) == (0, 2)


def test_an_answer_stays_within_the_clients_size_with_the_options_in_it() -> None:
    made = World({f"{n}.web": {"host": f"10.0.0.{n}"} for n in range(40)}, nsid=b"n" * 63)
    made.cookies.use([Secret(b"k" * 16, 0)])
    for payload in range(512, 700, 7):
        message = query("web", "A")
        message.use_edns(0, 0, payload, options=[NSID, cookie(b"12345678")])
        answer = made.udp.respond(message.to_wire(), CLIENT)
        assert isinstance(answer, bytes)
        assert payload - 16 < len(answer) <= payload or not dns.message.from_wire(answer).flags & dns.flags.TC
        assert len(dns.message.from_wire(answer).options) == 2

"""dns.upstream: one exchange with a real server, honest or not."""

from __future__ import annotations

from collections.abc import Sequence

import dns.edns
import dns.flags
import pytest

from discovery.dns import wire
from discovery.dns.foreign import Foreign
from discovery.dns.upstream import LOOP_OPTION, Ask, NoAnswer, Server, exchange, has_loop_mark
from tests.support.upstream import Asked, Script, both_sockets, fails, knows, reply, silent, upstream

NAME = b"\3www\7example\3com\0"
WWW = Ask(NAME, wire.A, False, False)
RECORD = "www.example.com. 60 A 192.0.2.1"
SECONDS = 5.0


def addresses(answer: Foreign) -> list[bytes]:
    message = answer.message
    return [message[at + 6 : at + 10] for at in answer.ttls]


async def test_an_answer_over_udp() -> None:
    async with upstream(knows(RECORD)) as server:
        answer = await exchange(server.server, WWW, SECONDS)
    assert addresses(answer) == [b"\xc0\0\2\1"]
    assert server.transports == ["UDP"]
    assert server.texts == ["www.example.com. A"]


async def test_over_ipv6() -> None:
    async with upstream(knows(RECORD), "::1") as server:
        assert addresses(await exchange(server.server, WWW, SECONDS)) == [b"\xc0\0\2\1"]


async def test_what_a_query_says() -> None:
    async with upstream(knows(RECORD)) as server:
        await exchange(server.server, WWW, SECONDS)
        await exchange(server.server, Ask(NAME, wire.A, True, True), SECONDS)
    plain, dnssec = (asked.query for asked in server.asked)
    assert plain.flags == dns.flags.RD
    assert dnssec.flags == dns.flags.RD | dns.flags.CD
    assert (plain.ednsflags, dnssec.ednsflags) == (0, dns.flags.DO)
    assert plain.payload == 1232
    (mark,) = plain.options
    assert mark.otype == LOOP_OPTION


async def test_id_port_and_letter_case_are_drawn_anew_for_every_query() -> None:
    long = Ask(b"\x14" + b"a" * 20 + b"\7example\3com\0", wire.A, False, False)
    async with upstream(knows()) as server:
        for _ in range(20):
            await exchange(server.server, long, SECONDS)
    assert server.transports == ["UDP"] * 20
    assert len({asked.query.id for asked in server.asked}) > 15
    assert len({asked.port for asked in server.asked}) > 15
    assert len({asked.raw[12:] for asked in server.asked}) > 15


async def test_truncated_is_asked_again_over_tcp() -> None:
    def script(asked: Asked) -> Sequence[bytes]:
        return [reply(asked, tc=True) if asked.transport == "UDP" else reply(asked, RECORD)]

    async with upstream(script) as server:
        assert addresses(await exchange(server.server, WWW, SECONDS)) == [b"\xc0\0\2\1"]
    assert server.transports == ["UDP", "TCP"]
    assert server.asked[1].raw[12:].startswith(NAME)


async def test_another_letter_case_is_asked_again_over_tcp() -> None:
    def script(asked: Asked) -> Sequence[bytes]:
        packet = reply(asked, RECORD)
        end = 12 + len(NAME)
        return [packet[:12] + packet[12:end].swapcase() + packet[end:]]

    # Over TCP the name goes out folded, so this server changes it there too, which is nobody's answer.
    async with upstream(script) as server:
        with pytest.raises(NoAnswer):
            await exchange(server.server, WWW, SECONDS)
    assert server.transports == ["UDP", "TCP"]

    def folding(asked: Asked) -> Sequence[bytes]:
        packet = reply(asked, RECORD)
        return [packet[:12] + NAME + packet[12 + len(NAME) :]]

    async with upstream(folding) as server:
        for _ in range(10):
            assert addresses(await exchange(server.server, WWW, SECONDS)) == [b"\xc0\0\2\1"]
    assert "TCP" in server.transports


def guess(change: str) -> Script:
    """A forged answer of another address, then the true one."""

    def script(asked: Asked) -> Sequence[bytes]:
        forged = bytearray(reply(asked, "www.example.com. 60 A 203.0.113.66"))
        if change == "id":
            forged[0] ^= 1
        elif change == "name":
            forged[13:16] = b"ww2"
        elif change == "type":
            forged[12 + len(NAME) + 1] = wire.AAAA
        elif change == "class":
            forged[12 + len(NAME) + 3] = wire.CH
        elif change == "a query":
            forged[2] &= 0x7F
        elif change == "opcode":
            forged[2] |= 0x20
        elif change == "no question":
            forged[5] = 0
            del forged[12 : 12 + len(NAME) + 4]
        elif change == "cut off":
            del forged[-20:]
        elif change == "junk":
            forged[:] = b"junk"
        elif change == "empty":
            forged.clear()
        return [bytes(forged), reply(asked, RECORD)]

    return script


@pytest.mark.parametrize(
    "change",
    ["id", "name", "type", "class", "a query", "opcode", "no question", "cut off", "junk", "empty"],
)
async def test_what_does_not_fit_is_waited_past(change: str) -> None:
    async with upstream(guess(change)) as server:
        assert addresses(await exchange(server.server, WWW, SECONDS)) == [b"\xc0\0\2\1"]
    assert server.transports == ["UDP"]


async def test_an_answer_from_another_port_is_not_seen() -> None:
    tcp, other = both_sockets()
    tcp.close()

    def script(asked: Asked) -> Sequence[bytes]:
        other.sendto(reply(asked, "www.example.com. 60 A 203.0.113.66"), ("127.0.0.1", asked.port))
        return [reply(asked, RECORD)]

    async with upstream(script) as server:
        assert addresses(await exchange(server.server, WWW, SECONDS)) == [b"\xc0\0\2\1"]
    other.close()


@pytest.mark.parametrize("change", ["id", "name", "a query", "cut off", "junk", "empty"])
async def test_over_tcp_what_does_not_fit_is_no_answer(change: str) -> None:
    def script(asked: Asked) -> Sequence[bytes]:
        return [reply(asked, tc=True)] if asked.transport == "UDP" else guess(change)(asked)

    async with upstream(script) as server:
        with pytest.raises(NoAnswer):
            await exchange(server.server, WWW, SECONDS)


async def test_a_connection_closed_without_a_word_is_no_answer() -> None:
    def script(asked: Asked) -> Sequence[bytes]:
        return [reply(asked, tc=True)] if asked.transport == "UDP" else []

    async with upstream(script) as server:
        with pytest.raises(NoAnswer):
            await exchange(server.server, WWW, SECONDS)


async def test_silence_is_no_answer_in_the_time_given() -> None:
    async with upstream(silent) as server:
        with pytest.raises(NoAnswer, match=rf"127.0.0.1 port {server.server.port} .* within 0.05 s"):
            await exchange(server.server, WWW, 0.05)


async def test_a_port_that_refuses_is_no_answer_at_once() -> None:
    async with upstream(silent) as server:
        pass
    with pytest.raises(NoAnswer, match="refused"):
        await exchange(server.server, WWW, SECONDS)


async def test_an_address_that_cannot_be_reached_is_no_answer() -> None:
    with pytest.raises(NoAnswer):
        await exchange(Server("255.255.255.255", 53), WWW, SECONDS)


async def test_a_response_code_is_an_answer() -> None:
    async with upstream(fails(dns.rcode.SERVFAIL)) as server:
        assert (await exchange(server.server, WWW, SECONDS)).rcode == wire.SERVFAIL


async def test_the_loop_mark_is_read_back() -> None:
    async with upstream(knows(RECORD)) as server:
        await exchange(server.server, WWW, SECONDS)
    own = wire.parse(server.asked[0].raw)
    assert own is not None
    assert has_loop_mark(own.edns)
    assert not has_loop_mark(None)
    assert not has_loop_mark(wire.Edns(1232, 0, False, wire.encode_option(LOOP_OPTION, b"another")))

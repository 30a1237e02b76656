"""dns.deferred with many questions at a time: floods, and questions that wait on one TCP connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from discovery.dns import deferred, forward, rrl
from discovery.dns import tcp as tcp_module
from discovery.dns.admission import Limits
from discovery.dns.rrl import Rates
from tests.support.dns import full, lines
from tests.support.forwarding import answer, be_patient, extended_errors, frame, serving
from tests.support.upstream import fails, knows, silent

RECORD = "www.example.com. 60 A 192.0.2.1"
WEB = {"1.web": {"host": "10.0.0.1"}}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


async def test_a_flood_of_distinct_questions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "MAX_IN_FLIGHT", 20)
    await flooded([f"n{number}.example.com." for number in range(30)], answered=10, asked=10)


async def test_a_flood_of_equal_questions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "MAX_WAITING", 40)
    await flooded(["www.example.com."] * 30, answered=20, asked=1)


async def test_a_flood_of_refusals_is_limited_and_none_of_them_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without forwarding. Rates are not for loopback, which is all that there is everywhere."""
    monkeypatch.setattr(rrl, "is_loopback", lambda client: False)
    async with serving(knows(), WEB) as it:
        it.server.limit(Limits(rates=Rates(errors=5)))
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", it.port))
            for number in range(40):
                query = dns.message.make_query(f"n{number}.example.com.", "A")
                query.flags &= ~dns.flags.RD
                client.send(query.to_wire())
            client.send(dns.message.make_query("web.d.test.", "A").to_wire())
            answers: list[dns.message.Message] = []
            async with asyncio.timeout(30):
                while not answers or answers[-1].rcode() != dns.rcode.NOERROR or not answers[-1].answer:
                    answers.append(dns.message.from_wire(await loop.sock_recv(client, 4096)))
        counters = it.world.counters
        assert counters.rate_limited + counters.slipped == 35
        assert sum(each.rcode() == dns.rcode.REFUSED for each in answers) == 5
        assert it.behind.asked == []


async def test_what_other_servers_answer_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rrl, "is_loopback", lambda client: False)
    async with serving(fails(dns.rcode.SERVFAIL), WEB) as it:
        it.server.limit(Limits(rates=Rates(errors=2)))
        assert (await it.ask("a.example.com.")).rcode() == dns.rcode.SERVFAIL
        assert (await it.ask("b.example.com.")).rcode() == dns.rcode.SERVFAIL
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", it.port))
            client.send(dns.message.make_query("c.example.com.", "A").to_wire())
            await until(lambda: it.world.counters.rate_limited == 1)


async def flooded(names: Sequence[str], *, answered: int, asked: int) -> None:
    """The first questions are answered, all others are failures at once, and our own are not kept waiting."""
    async with serving(knows(), WEB) as it:
        it.behind.gate.clear()
        reader, writer = await it.connect()
        queries = [dns.message.make_query(name, "A", use_edns=0) for name in names]
        for number, query in enumerate(queries):
            query.id = number
        writer.write(b"".join(map(frame, queries)))
        failed = [await answer(reader) for _ in range(len(names) - answered)]
        assert [response.id for response in failed] == list(range(answered, len(names)))
        assert {response.rcode() for response in failed} == {dns.rcode.SERVFAIL}
        assert all(extended_errors(response) == [22] for response in failed)
        assert (await it.ask("web.d.test.")).answer
        await until(lambda: len(it.behind.asked) == asked)
        it.behind.gate.set()
        rest = [await answer(reader) for _ in range(answered)]
        assert {response.rcode() for response in rest} == {dns.rcode.NXDOMAIN}
        assert len(it.behind.asked) == asked
        writer.write(frame(queries[-1]))
        assert (await answer(reader)).rcode() == dns.rcode.NXDOMAIN


async def until(condition: Callable[[], bool]) -> None:
    """Turns the loop until the condition holds, for at most 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # it comes over a real socket
            await asyncio.sleep(0)


async def test_pipelined_questions_do_not_wait_for_each_other_over_tcp() -> None:
    async with serving(knows(RECORD), WEB) as it:
        it.behind.gate.clear()
        reader, writer = await it.connect()
        names = ["www.example.com.", "web", "none.example.com.", "none", "web"]
        queries = [dns.message.make_query(full(name), "A") for name in names]
        writer.write(b"".join(map(frame, queries)))
        own = [await answer(reader) for _ in range(3)]
        assert [response.id for response in own] == [queries[n].id for n in (1, 3, 4)]
        it.behind.gate.set()
        forwarded = {response.id: response for response in [await answer(reader) for _ in range(2)]}
        assert lines(forwarded[queries[0].id].answer) == [RECORD]
        assert forwarded[queries[2].id].rcode() == dns.rcode.NXDOMAIN
        writer.write(frame(queries[0]))
        assert (await answer(reader)).id == queries[0].id


async def test_one_connection_waits_for_so_many_answers_and_is_then_read_from_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tcp_module, "MAX_AWAITED", 10)
    async with serving(knows(), WEB) as it:
        it.behind.gate.clear()
        reader, writer = await it.connect()
        queries = [dns.message.make_query(f"n{number}.example.com.", "A") for number in range(35)]
        for number, query in enumerate(queries):
            query.id = number
        writer.write(b"".join(map(frame, queries)))
        writer.write_eof()
        await until(lambda: len(it.behind.asked) == 10)
        assert (await it.ask("web.d.test.")).answer
        assert it.world.counters.queries_tcp == 10
        it.behind.gate.set()
        assert {(await answer(reader)).id for _ in queries} == set(range(35))
        assert await asyncio.wait_for(reader.read(1), 20) == b""


async def test_a_half_closed_client_gets_its_forwarded_answers() -> None:
    async with serving(knows(RECORD), WEB) as it:
        it.behind.gate.clear()
        reader, writer = await it.connect()
        queries = [dns.message.make_query(name, "A") for name in ("www.example.com.", "none.example.com.")]
        writer.write(frame(dns.message.make_query("web.d.test.", "A")) + b"".join(map(frame, queries)))
        writer.write_eof()
        assert (await answer(reader)).question[0].name.to_text() == "web.d.test."
        it.behind.gate.set()
        got = {(await answer(reader)).id for _ in queries}
        assert got == {query.id for query in queries}
        assert await asyncio.wait_for(reader.read(1), 20) == b""


async def test_a_client_that_is_gone_harms_nobody() -> None:
    async with serving(knows(RECORD), WEB) as it:
        it.behind.gate.clear()
        _, writer = await it.connect()
        writer.write(frame(dns.message.make_query("www.example.com.", "A")))
        waiting = asyncio.create_task(it.ask("www.example.com."))
        await until(lambda: it.world.counters.queries_tcp + it.world.counters.queries_udp == 2)
        writer.transport.abort()
        it.behind.gate.set()
        assert lines((await waiting).answer) == [RECORD]
        assert len(it.behind.asked) == 1


async def test_closing_the_server_ends_what_waits() -> None:
    async with serving(silent) as it:
        reader, writer = await it.connect()
        writer.write(frame(dns.message.make_query("www.example.com.", "A")))
        await until(lambda: bool(it.behind.asked))
        await it.server.close()
        assert await asyncio.wait_for(reader.read(), 20) == b""

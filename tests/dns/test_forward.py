"""dns.forward: fail-over, one exchange for equal questions, what is kept for how long, and outside names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import dns.rcode
import pytest

from discovery.dns import forward, wire
from discovery.dns.counters import DnsCounters
from discovery.dns.forward import MAX_OUTSIDE, SHUN_SECONDS, Forwarder, Kept, Routes, joined
from discovery.dns.records import RR
from discovery.dns.source import Path
from discovery.dns.upstream import Ask, NoAnswer
from discovery.names import from_text
from tests.support.clock import FakeClock
from tests.support.dns import World
from tests.support.forwarding import be_patient
from tests.support.upstream import Asked, Script, Upstream, fails, knows, reply, silent, upstream

OUTSIDE_SECONDS = forward.OUTSIDE_SECONDS
WWW = from_text("www.example.com.")
RECORD = "www.example.com. 60 A 192.0.2.1"
SOA = "example.com. 3600 SOA ns. host. 1 2 3 4 60"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.05) -> None:
    monkeypatch.setattr(forward, "TRY_SECONDS", seconds)


class Set:
    """A forwarder with its clock and counters, and the servers it may ask."""

    def __init__(self, world: World, routes: Routes, servers: Sequence[Upstream]) -> None:
        self.clock = FakeClock()
        self.world = world
        self.servers = servers
        self.forwarder = Forwarder(routes, world.view, world.settings.zones, world.counters, self.clock)

    @property
    def counters(self) -> DnsCounters:
        return self.world.counters

    async def ask(
        self,
        path: Path = WWW,
        qtype: int = wire.A,
        *,
        do: bool = False,
        cd: bool = False,
        network: bytes = b"",
    ) -> Kept:
        ask = Ask(wire.encode_name(path), qtype, do, cd)
        return await self.forwarder.ask(ask, self.forwarder.servers(path), network)

    @property
    def seen(self) -> list[int]:
        """How many questions each server got."""
        return [len(server.asked) for server in self.servers]


@asynccontextmanager
async def forwarding(*scripts: Script, cache_bytes: int = 1 << 20) -> AsyncIterator[Set]:
    """To upstreams that are run by these scripts."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(upstream(script)) for script in scripts]
        routes = Routes(upstreams=tuple(server.server for server in servers), cache_bytes=cache_bytes)
        made = Set(World(), routes, servers)
        stack.callback(made.forwarder.close)
        yield made


# ---------------------------------------------------------------- fail-over


async def test_the_first_server_is_asked_and_no_other() -> None:
    async with forwarding(knows(RECORD), knows(RECORD)) as it:
        assert (await it.ask()).answer.rcode == wire.NOERROR
        assert it.seen == [1, 0]
        assert it.counters.forwarded == 1


async def test_a_silent_server_is_passed_over_and_goes_behind_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    impatient(monkeypatch, 0.2)
    async with forwarding(silent, knows()) as it:
        for number in range(3):
            assert (await it.ask((*WWW, b"%d" % number))).answer.rcode == wire.NXDOMAIN
        assert it.seen == [1, 3]
        it.clock.advance(SHUN_SECONDS)
        it.servers[0].script = knows()
        await it.ask()
        assert it.seen == [2, 3]
        await it.ask((b"other",))
        assert it.seen == [3, 3]


async def test_a_server_that_refuses_connections_is_passed_over() -> None:
    async with forwarding(silent, knows(RECORD)) as it:
        await it.servers[0].stop()
        assert (await it.ask()).answer.rcode == wire.NOERROR


async def test_when_all_are_behind_they_are_tried_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    async with forwarding(silent, silent) as it:
        with pytest.raises(NoAnswer):
            await it.ask()
        assert it.seen == [2, 2]  # twice each: a datagram may get lost
        assert it.counters.forward_failed == 1
        it.servers[0].script = knows(RECORD)
        impatient(monkeypatch, 10)
        assert (await it.ask()).answer.rcode == wire.NOERROR


async def test_a_server_that_answers_again_is_behind_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    async with forwarding(silent, silent) as it:
        with pytest.raises(NoAnswer):
            await it.ask()
        impatient(monkeypatch, 0.2)
        it.servers[1].script = knows(RECORD)
        await it.ask()
        assert it.seen == [3, 3]
        await it.ask((b"other",))
        assert it.seen == [3, 4]


async def test_one_lost_datagram_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, 0.2)

    def script(asked: Asked) -> Sequence[bytes]:
        return [] if len(it.servers[0].asked) == 1 else [reply(asked, RECORD)]

    async with forwarding(script) as it:
        assert (await it.ask()).answer.rcode == wire.NOERROR


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_another_server_may_know_what_one_fails_at(rcode: dns.rcode.Rcode) -> None:
    async with forwarding(fails(rcode), knows(RECORD)) as it:
        assert (await it.ask()).answer.rcode == wire.NOERROR
        assert it.seen == [1, 1]
        await it.ask((b"other",))
        assert it.seen == [2, 2]  # it answers: it is not put behind


async def test_a_failure_that_all_tell_is_told_and_not_kept() -> None:
    async with forwarding(fails(dns.rcode.SERVFAIL), silent) as it:
        await it.servers[1].stop()
        for _ in range(2):
            assert (await it.ask()).answer.rcode == wire.SERVFAIL
        assert it.seen[0] == 2
        assert (it.counters.forwarded, it.counters.forward_failed, it.counters.forward_hits) == (2, 0, 0)
        assert sum(it.counters.forward_latency.counts) == 2


async def test_nxdomain_is_an_answer_that_no_other_server_is_asked_about() -> None:
    async with forwarding(knows(), knows(RECORD)) as it:
        assert (await it.ask()).answer.rcode == wire.NXDOMAIN
        assert it.seen == [1, 0]


async def test_the_time_for_all_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many servers there are, each with so much time."""
    impatient(monkeypatch, 0.02)
    monkeypatch.setattr(forward, "TOTAL_SECONDS", 0.05)
    async with forwarding(silent, silent, silent, silent) as it:
        it.forwarder._clock = asyncio.get_running_loop().time
        with pytest.raises(NoAnswer):
            await it.ask()
        assert sum(it.seen) <= 3


async def test_the_last_server_has_only_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TOTAL_SECONDS", 0.05)
    async with forwarding(silent) as it, asyncio.timeout(5):
        it.forwarder._clock = asyncio.get_running_loop().time
        with pytest.raises(NoAnswer, match=r"within 0\.0"):
            await it.ask()


async def test_a_dead_server_is_told_of_once_and_not_for_every_question(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "discovery.dns.forward"):
        async with forwarding(silent) as it:
            await it.servers[0].stop()
            for number in range(3):
                with pytest.raises(NoAnswer):
                    await it.ask((*WWW, b"%d" % number))
            (record,) = caplog.records
            assert f"port {it.servers[0].server.port}:" in record.getMessage()
            it.clock.advance(SHUN_SECONDS)
            with pytest.raises(NoAnswer):
                await it.ask()
            assert len(caplog.records) == 2


# ---------------------------------------------------------------- one in flight


async def test_equal_questions_share_one_exchange() -> None:
    async with forwarding(knows(RECORD)) as it:
        it.servers[0].gate.clear()
        waiting = [asyncio.create_task(it.ask()) for _ in range(50)]
        await until_asked(it.servers[0], 1)
        it.servers[0].gate.set()
        answers = await asyncio.gather(*waiting)
        assert len({id(each) for each in answers}) == 1
        assert it.seen == [1]
        assert it.counters.forwarded == 1


async def test_questions_that_differ_in_type_do_or_cd_are_not_equal() -> None:
    async with forwarding(knows(RECORD)) as it:
        it.servers[0].gate.clear()
        waiting = [
            asyncio.create_task(it.ask(qtype=qtype, do=do, cd=cd))
            for qtype in (wire.A, wire.AAAA)
            for do in (False, True)
            for cd in (False, True)
        ]
        await until_asked(it.servers[0], 8)
        it.servers[0].gate.set()
        await asyncio.gather(*waiting)
        await it.ask(do=True)
        assert it.seen == [8]


async def test_equal_questions_for_other_servers_are_not_equal() -> None:
    async with forwarding(knows(RECORD), knows()) as it:
        ask = Ask(wire.encode_name(WWW), wire.A, False, False)
        both = (it.forwarder.ask(ask, (server.server,), b"") for server in it.servers)
        answers = await asyncio.gather(*both)
        assert [kept.answer.rcode for kept in answers] == [wire.NOERROR, wire.NXDOMAIN]


async def test_a_failure_is_shared_too_and_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    async with forwarding(silent) as it:
        outcomes = await asyncio.gather(*(it.ask() for _ in range(10)), return_exceptions=True)
        assert all(isinstance(each, NoAnswer) for each in outcomes)
        assert it.seen == [2]
        assert not it.forwarder._in_flight


async def test_who_no_longer_waits_does_not_end_it_for_the_others() -> None:
    async with forwarding(knows(RECORD)) as it:
        it.servers[0].gate.clear()
        first, second = asyncio.create_task(it.ask()), asyncio.create_task(it.ask())
        await until_asked(it.servers[0], 1)
        first.cancel()
        it.servers[0].gate.set()
        assert (await second).answer.rcode == wire.NOERROR
        assert first.cancelled()


async def test_exchanges_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "MAX_IN_FLIGHT", 10)
    async with forwarding(knows()) as it:
        it.servers[0].gate.clear()
        waiting = [asyncio.create_task(it.ask((b"n%d" % number,))) for number in range(8)]
        await until_asked(it.servers[0], 5)
        same = asyncio.create_task(it.ask((b"n0",)))
        done = [each for each in waiting if each.done()]
        assert len(done) == 3
        assert all(isinstance(each.exception(), NoAnswer) for each in done)
        assert it.counters.forward_failed == 3
        it.servers[0].gate.set()
        await asyncio.gather(*(each for each in waiting if each not in done), same)
        assert it.seen == [5]
        assert (await it.ask((b"n7",))).answer.rcode == wire.NXDOMAIN


async def test_one_network_leaves_places_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "MAX_IN_FLIGHT", 8)
    async with forwarding(knows()) as it:
        it.servers[0].gate.clear()
        greedy = [asyncio.create_task(it.ask((b"n%d" % number,), network=b"a")) for number in range(20)]
        await until_asked(it.servers[0], 4)
        other = asyncio.create_task(it.ask((b"other",), network=b"b"))
        await until_asked(it.servers[0], 5)
        it.servers[0].gate.set()
        assert (await other).answer.rcode == wire.NXDOMAIN
        outcomes = await asyncio.gather(*greedy, return_exceptions=True)
        assert sum(isinstance(each, NoAnswer) for each in outcomes) == 16


async def test_closing_ends_what_is_in_flight() -> None:
    async with forwarding(silent) as it:
        waiting = asyncio.create_task(it.ask())
        await until_asked(it.servers[0], 1)
        it.forwarder.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def until_asked(server: Upstream, count: int) -> None:
    async with asyncio.timeout(5):
        while len(server.asked) < count:  # noqa: ASYNC110  # it comes over a real socket
            await asyncio.sleep(0)
    await asyncio.sleep(0)


# ---------------------------------------------------------------- what is kept


async def test_an_answer_is_kept_for_its_ttl_and_ages() -> None:
    async with forwarding(knows(RECORD)) as it:
        first = await it.ask()
        it.clock.advance(59.5)
        again = await it.ask()
        assert (again, it.forwarder.age(again), it.counters.forward_hits) == (first, 59, 1)
        it.clock.advance(0.5)
        assert it.forwarder.age(await it.ask()) == 0
        assert it.seen == [2]


async def test_a_negative_answer_is_kept_as_its_soa_says() -> None:
    async with forwarding(knows("other.example.com. 1 A 192.0.2.1", RECORD)) as it:
        for path, qtype in ((WWW, wire.AAAA), (from_text("none.example.com."), wire.A)):
            it.servers[0].asked.clear()
            await it.ask(path, qtype)
            it.clock.advance(59)
            await it.ask(path, qtype)
            assert it.seen == [1]
            it.clock.advance(1)
            await it.ask(path, qtype)
            assert it.seen == [2]


@pytest.mark.parametrize(
    "script",
    [
        fails(dns.rcode.SERVFAIL),
        fails(dns.rcode.NXDOMAIN),  # without an SOA
        fails(dns.rcode.NOERROR),
        knows("www.example.com. 0 A 192.0.2.1"),
    ],
)
async def test_what_is_not_kept(script: Script) -> None:
    async with forwarding(script) as it:
        await it.ask()
        await it.ask()
        assert it.seen == [2]


async def test_what_is_kept_is_bounded_in_bytes_and_the_oldest_goes() -> None:
    async with forwarding(knows(soa=SOA), cache_bytes=10_000) as it:
        paths = [from_text(f"n{number}.example.com.") for number in range(60)]
        for path in paths:
            await it.ask(path)
            held = sum(len(kept.answer.message) + forward.OVERHEAD for kept in it.forwarder._kept.values())
            assert held == it.forwarder._bytes <= 10_000
        assert len(it.forwarder._kept) >= 10
        await it.ask(paths[-1])
        assert it.seen == [60]
        await it.ask(paths[0])
        assert it.seen == [61]


async def test_an_answer_that_came_again_is_counted_once() -> None:
    async with forwarding(knows(RECORD)) as it:
        await it.ask()
        held = it.forwarder._bytes
        it.clock.advance(60)
        await it.ask()
        assert it.forwarder._bytes == held > 0


async def test_without_room_nothing_is_kept() -> None:
    async with forwarding(knows(RECORD), cache_bytes=0) as it:
        await it.ask()
        await it.ask()
        assert (it.seen, it.forwarder._bytes, it.forwarder._kept) == ([2], 0, {})


async def test_an_answer_is_kept_for_the_servers_that_gave_it() -> None:
    async with forwarding(knows(RECORD), knows()) as it:
        ask = Ask(wire.encode_name(WWW), wire.A, False, False)
        first, second = (server.server for server in it.servers)
        assert (await it.forwarder.ask(ask, (first,), b"")).answer.rcode == wire.NOERROR
        assert (await it.forwarder.ask(ask, (second,), b"")).answer.rcode == wire.NXDOMAIN


# ---------------------------------------------------------------- outside names in answers of ours


async def test_outside_names_give_aliases_and_addresses_of_both_families() -> None:
    records = (
        "www.example.com. 300 CNAME end.example.com.",
        "end.example.com. 60 A 192.0.2.1",
        "end.example.com. 50 AAAA 2001:db8::1",
    )
    async with forwarding(knows(*records)) as it:
        found = await it.forwarder.outside([WWW], b"")
    end = from_text("end.example.com.")
    alias = RR(WWW, wire.CNAME, 300, (end,))
    v6 = bytes.fromhex("20010db8000000000000000000000001")
    assert found[WWW] == [alias, RR(end, wire.A, 60, (b"\xc0\0\2\1",)), RR(end, wire.AAAA, 50, (v6,))]


async def test_families_with_aliases_of_their_own_are_joined_at_the_name() -> None:
    """Some networks give A and AAAA different CNAMEs; an owner can't have both."""
    way4 = RR(WWW, wire.CNAME, 30, (from_text("e4.example.com."),))
    way6 = RR(WWW, wire.CNAME, 300, (from_text("e6.example.com."),))
    four = RR(from_text("e4.example.com."), wire.A, 60, (b"\xc0\0\2\1",))
    six = RR(from_text("e6.example.com."), wire.AAAA, 50, (bytes(16),))
    assert joined(WWW, [([way4], [four]), ([way6], [six])]) == [
        RR(WWW, wire.A, 30, four.rdata),
        RR(WWW, wire.AAAA, 50, six.rdata),
    ]
    assert joined(WWW, [([way4], [four])]) == [way4, four]


async def test_outside_names_that_do_not_resolve_are_left_out() -> None:
    async with forwarding(knows(RECORD)) as it:
        found = await it.forwarder.outside([from_text("none.example.com."), WWW], b"")
        assert {path for path, records in found.items() if records} == {WWW}
        assert await it.forwarder.outside([], b"") == {}


async def test_no_more_than_eight_names_are_asked_for() -> None:
    paths = [from_text(f"n{number}.example.com.") for number in range(12)]
    async with forwarding(knows()) as it:
        await it.forwarder.outside(paths, b"")
        asked = {text.split(" ")[0] for text in it.servers[0].texts}
    assert (MAX_OUTSIDE, OUTSIDE_SECONDS) == (8, 1.0)
    assert asked == {f"n{number}.example.com." for number in range(8)}
    assert it.seen == [16]


async def test_names_that_come_late_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "OUTSIDE_SECONDS", 0.2)
    late = "late.example.com."

    def script(asked: Asked) -> Sequence[bytes]:
        return [] if asked.text.startswith(late) else [reply(asked, RECORD)]

    async with forwarding(script) as it, asyncio.timeout(5):
        found = await it.forwarder.outside([from_text(late), WWW], b"")
        assert [path for path, records in found.items() if records] == [WWW]


async def test_a_name_with_one_family_late_has_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "OUTSIDE_SECONDS", 0.2)

    def script(asked: Asked) -> Sequence[bytes]:
        return [] if asked.text.endswith("AAAA") else [reply(asked, RECORD)]

    async with forwarding(script) as it:
        found = await it.forwarder.outside([WWW], b"")
        assert [rr.rtype for rr in found[WWW]] == [wire.A]


async def test_outside_names_go_to_their_stub_zone() -> None:
    async with forwarding(knows(), knows(RECORD)) as it:
        host, port = it.servers[1].server
        it.world.put("a.example.com.stub.dns", {"host": host, "port": port})
        routes = Routes(upstreams=(it.servers[0].server,), stubs=True)
        forwarder = Forwarder(routes, it.world.view, it.world.settings.zones, it.world.counters, FakeClock())
        found = await forwarder.outside([WWW], b"")
        assert [rr.rtype for rr in found[WWW]] == [wire.A]
        assert it.seen == [0, 2]

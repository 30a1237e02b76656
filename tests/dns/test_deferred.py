"""dns.deferred: what clients get of forwarding, from a whole server on real sockets, UDP and TCP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest

from discovery.dns import deferred, forward, rrl, upstream
from discovery.dns import tcp as tcp_module
from discovery.dns.admission import Limits
from discovery.dns.forward import Routes
from discovery.dns.rrl import Rates
from discovery.dns.server import DnsServer
from discovery.dns.source import Path
from discovery.dns.upstream import Server
from tests.support.clock import FakeClock
from tests.support.dns import Stored, World, full, lines
from tests.support.upstream import Asked, Script, Upstream, both_sockets, fails, knows, reply, silent
from tests.support.upstream import upstream as running_upstream

LOOPBACK = (ip_network("127.0.0.0/8"),)
RECORD = "www.example.com. 60 A 192.0.2.1"
SOA = "example.com. 3600 SOA ns. host. 1 2 3 4 60"
WEB = {"1.web": {"host": "10.0.0.1"}}
LOOP = dns.edns.GenericOption(dns.edns.OptionType.make(upstream.LOOP_OPTION), b"discovery")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no silent server."""
    monkeypatch.setattr(forward, "TRY_SECONDS", 10.0)
    monkeypatch.setattr(forward, "TOTAL_SECONDS", 20.0)
    monkeypatch.setattr(forward, "OUTSIDE_SECONDS", 10.0)


class Running:
    """A server of ours and the upstream behind it."""

    def __init__(
        self, world: World, server: DnsServer, behind: Upstream, clock: FakeClock, port: int
    ) -> None:
        self.world = world
        self.server = server
        self.behind = behind
        self.clock = clock
        self.port = port
        self._writers: list[asyncio.StreamWriter] = []

    async def ask(
        self,
        name: str,
        rtype: str = "A",
        *,
        tcp: bool = False,
        rd: bool = True,
        edns: bool = False,
        payload: int = 1232,
        options: Sequence[dns.edns.Option] = (),
        do: bool = False,
    ) -> dns.message.Message:
        query = dns.message.make_query(
            name,
            rtype,
            use_edns=0 if edns or options or do else False,
            payload=payload,
            options=list(options),
        )
        if do:
            query.want_dnssec()
        if not rd:
            query.flags &= ~dns.flags.RD
        how = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        response = await how(query, "127.0.0.1", port=self.port, timeout=20)
        assert query.is_response(response)
        assert bool(response.flags & dns.flags.RD) == rd
        assert (response.edns == 0) == (query.edns == 0)
        return response

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    def disconnect(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def serving(
    script: Script = silent,
    stored: Stored | None = None,
    *,
    routes: Callable[[Upstream], Routes] = lambda behind: Routes(upstreams=(behind.server,), allow=LOOPBACK),
    ready: bool = True,
) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(running_upstream(script))
        world = World(stored, ready=ready)
        where = routes(behind)
        settings = msgspec.structs.replace(world.settings, recursive=where.any)
        clock = FakeClock()
        server = DnsServer(
            world.view, settings, where, world.counters, cache_bytes=1 << 20, clock=clock, draw=lambda: 0.0
        )
        tcp, udp = both_sockets()
        await server.start([udp], [tcp])
        stack.push_async_callback(server.close)
        running = Running(world, server, behind, clock, tcp.getsockname()[1])
        stack.callback(running.disconnect)
        yield running


def extended_errors(response: dns.message.Message) -> list[int]:
    return [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)]


# ---------------------------------------------------------------- outside our zones


@pytest.mark.parametrize("tcp", [False, True])
async def test_what_an_upstream_knows(tcp: bool) -> None:
    async with serving(knows(RECORD)) as it:
        response = await it.ask("www.example.com.", tcp=tcp)
        assert lines(response.answer) == [RECORD]
        assert response.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
        missing = await it.ask("none.example.com.", tcp=tcp, edns=True)
        assert missing.rcode() == dns.rcode.NXDOMAIN
        assert lines(missing.authority)[0].startswith("example.com. 60 SOA ")
        assert it.world.counters.rcodes[:4] == [1, 0, 0, 1]


async def test_an_answer_from_the_cache_has_aged() -> None:
    async with serving(knows(RECORD)) as it:
        await it.ask("www.example.com.")
        await it.ask("none.example.com.")
        it.clock.advance(20)
        for tcp in (False, True):
            aged = await it.ask("www.example.com.", tcp=tcp)
            assert lines(aged.answer) == ["www.example.com. 40 A 192.0.2.1"]
            negative = await it.ask("none.example.com.", tcp=tcp)
            assert negative.authority[0].ttl == 40
        assert it.behind.texts == ["www.example.com. A", "none.example.com. A"]


async def test_the_question_comes_back_in_the_clients_letter_case() -> None:
    async with serving(knows(RECORD)) as it:
        for name in ("wWw.eXample.com.", "WWW.EXAMPLE.COM."):
            response = await it.ask(name)
            assert response.question[0].name.to_text() == name
            assert response.answer[0].name.to_text() == name
        assert len(it.behind.asked) == 1


async def test_forwarded_answers_enter_no_cache_of_our_own() -> None:
    """Neither the raw one nor the prepared one: the next answer is the upstream's, not ours."""
    async with serving(
        knows("www.example.com. 0 A 192.0.2.1"), WEB | {"out": {"host": "www.example.com"}}
    ) as it:
        for number in range(1, 4):
            assert (await it.ask("www.example.com.")).answer
            assert len(it.behind.asked) == number
        assert (await it.ask("out.d.test.")).answer
        it.behind.script = knows("www.example.com. 0 A 192.0.2.2")
        assert lines((await it.ask("www.example.com.")).answer) == ["www.example.com. 0 A 192.0.2.2"]
        assert lines((await it.ask("out.d.test.")).answer)[-1] == "www.example.com. 0 A 192.0.2.2"
        assert it.world.counters.hits_raw == 0


async def test_do_is_passed_on_and_kept_apart() -> None:
    async with serving(knows(RECORD)) as it:
        for do in (False, True, True):
            response = await it.ask("www.example.com.", do=do)
            assert bool(response.ednsflags & dns.flags.DO) == do
        assert [asked.query.ednsflags for asked in it.behind.asked] == [0, dns.flags.DO]


async def test_aa_is_passed_on() -> None:
    async with serving(lambda asked: [reply(asked, RECORD, aa=True)]) as it:
        assert (await it.ask("www.example.com.")).flags & dns.flags.AA


async def test_types_unknown_to_us_are_passed_on() -> None:
    async with serving(knows("www.example.com. 60 TYPE65400 \\# 4 01020304")) as it:
        response = await it.ask("www.example.com.", "TYPE65400")
        assert lines(response.answer) == ["www.example.com. 60 TYPE65400 \\# 4 01020304"]


# ---------------------------------------------------------------- sizes

LARGE = [f'www.example.com. 60 TXT "{"x" * 200}{number:03}"' for number in range(20)]


async def test_what_is_over_the_clients_size_is_truncated_and_comes_over_tcp() -> None:
    def script(asked: Asked) -> Sequence[bytes]:
        return [reply(asked, tc=True) if asked.transport == "UDP" else reply(asked, *LARGE)]

    async with serving(script) as it:
        for edns, payload in ((False, 512), (True, 1232), (True, 4096)):
            response = await it.ask("www.example.com.", "TXT", edns=edns, payload=payload)
            assert response.flags & dns.flags.TC
            assert not response.answer
        whole = await it.ask("www.example.com.", "TXT", tcp=True)
        assert not whole.flags & dns.flags.TC
        assert len(lines(whole.answer)) == 20
        assert it.behind.transports == ["UDP", "TCP"]
        assert it.world.counters.truncated == 3


async def test_what_fits_the_clients_size_only_is_whole_for_that_client() -> None:
    async with serving(knows(*LARGE[:4])) as it:
        assert (await it.ask("www.example.com.", "TXT")).flags & dns.flags.TC
        whole = await it.ask("www.example.com.", "TXT", edns=True)
        assert not whole.flags & dns.flags.TC
        assert len(lines(whole.answer)) == 4


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_dead_upstream_is_servfail_with_extended_error_22(tcp: bool) -> None:
    async with serving() as it:
        await it.behind.stop()
        response = await it.ask("www.example.com.", edns=True, tcp=tcp)
        assert (response.rcode(), extended_errors(response)) == (dns.rcode.SERVFAIL, [22])
        assert response.flags & dns.flags.RA
        assert not response.flags & dns.flags.AA
        assert (await it.ask("www.example.com.", tcp=tcp)).rcode() == dns.rcode.SERVFAIL
        assert (await it.ask("web.d.test.", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN


async def test_a_silent_upstream_is_servfail_and_delays_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TRY_SECONDS", 0.1)
    async with serving(silent, WEB) as it:
        waiting = asyncio.create_task(it.ask("www.example.com.", edns=True))
        own = await it.ask("web.d.test.")
        assert lines(own.answer) == ["web 5 A 10.0.0.1"]
        assert not waiting.done()
        response = await waiting
        assert (response.rcode(), extended_errors(response)) == (dns.rcode.SERVFAIL, [22])


async def test_servfail_of_an_upstream_is_passed_on_and_not_kept() -> None:
    async with serving(fails(dns.rcode.SERVFAIL)) as it:
        for number in (1, 2):
            assert (await it.ask("www.example.com.", edns=True)).rcode() == dns.rcode.SERVFAIL
            assert len(it.behind.asked) == number


async def test_a_query_of_a_node_of_ours_is_not_forwarded_again() -> None:
    async with serving(knows(RECORD)) as it:
        response = await it.ask("www.example.com.", options=[LOOP])
        assert (response.rcode(), extended_errors(response)) == (dns.rcode.SERVFAIL, [22])
        assert not it.behind.asked


async def test_a_server_that_forwards_to_itself_says_servfail() -> None:
    async with serving() as it:
        it.server._forwarder.routes = msgspec.structs.replace(
            it.server._forwarder.routes, upstreams=(Server("127.0.0.1", it.port),)
        )
        response = await it.ask("www.example.com.", edns=True)
        assert response.rcode() == dns.rcode.SERVFAIL
        assert it.world.counters.queries_udp == 2


async def test_an_error_of_ours_is_servfail_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(knows(RECORD)) as it:
        monkeypatch.setattr(it.server._forwarder, "age", lambda kept: 1 // 0)
        with caplog.at_level(logging.ERROR):
            response = await it.ask("www.example.com.", edns=True)
    assert (response.rcode(), extended_errors(response)) == (dns.rcode.SERVFAIL, [])
    assert caplog.records[0].exc_info is not None


# ---------------------------------------------------------------- for whom, and what not


async def test_rd_0_is_refused() -> None:
    async with serving(knows(RECORD), WEB) as it:
        response = await it.ask("www.example.com.", rd=False, edns=True)
        assert (response.rcode(), extended_errors(response)) == (dns.rcode.REFUSED, [])
        assert not it.behind.asked
        assert (await it.ask("web.d.test.", rd=False)).answer


async def test_a_client_that_may_not_is_refused_with_extended_error_18() -> None:
    def strangers(behind: Upstream) -> Routes:
        return Routes(upstreams=(behind.server,), allow=(ip_network("10.0.0.0/8"),))

    stored = WEB | {"out": {"host": "www.example.com"}}
    async with serving(knows(RECORD), stored, routes=strangers) as it:
        for tcp in (False, True):
            response = await it.ask("www.example.com.", edns=True, tcp=tcp)
            assert (response.rcode(), extended_errors(response)) == (dns.rcode.REFUSED, [18])
            assert response.flags & dns.flags.RA
            plain = await it.ask("www.example.com.", tcp=tcp)
            assert plain.rcode() == dns.rcode.REFUSED
            assert lines((await it.ask("web.d.test.", tcp=tcp)).answer) == ["web 5 A 10.0.0.1"]
            alone = await it.ask("out.d.test.", tcp=tcp)
            assert lines(alone.answer) == ["out 5 CNAME www.example.com."]
        assert not it.behind.asked


async def test_an_answer_kept_for_others_is_not_for_a_client_that_may_not() -> None:
    async with serving(knows(RECORD)) as it:
        assert (await it.ask("www.example.com.")).answer
        it.server._forwarder.routes = msgspec.structs.replace(it.server._forwarder.routes, allow=())
        it.server._forwarder._allowed.clear()
        assert (await it.ask("www.example.com.")).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR", "MAILA", "MAILB"])
async def test_transfers_are_refused(rtype: str) -> None:
    async with serving(knows(RECORD)) as it:
        query = dns.message.make_query("example.com.", rtype)
        reader, writer = await it.connect()
        writer.write(frame(query))
        assert (await answer(reader)).rcode() == dns.rcode.REFUSED
        assert not it.behind.asked


async def test_other_classes_are_refused() -> None:
    async with serving(knows(RECORD)) as it:
        query = dns.message.make_query("www.example.com.", "A", "HS")
        response = await dns.asyncquery.udp(query, "127.0.0.1", port=it.port, timeout=20)
        assert response.rcode() == dns.rcode.REFUSED
        assert not it.behind.asked


@pytest.mark.parametrize("ndots", [0, 1, 2, 3])
async def test_names_with_fewer_labels_than_ndots_are_refused(ndots: int) -> None:
    def routes(behind: Upstream) -> Routes:
        return Routes(upstreams=(behind.server,), allow=LOOPBACK, ndots=ndots)

    async with serving(fails(dns.rcode.NXDOMAIN), routes=routes) as it:
        for labels in range(4):
            name = ".".join(["x"] * labels) + "."
            expected = dns.rcode.REFUSED if labels < ndots else dns.rcode.NXDOMAIN
            for rtype in ("A", "AAAA"):
                assert (await it.ask(name, rtype)).rcode() == expected, name
            assert (await it.ask(name, "NS")).rcode() == dns.rcode.NXDOMAIN


async def test_ra_is_set_exactly_when_forwarding_is_configured() -> None:
    nowhere = Server("127.0.0.1", 1)
    for routes, forwards in (
        (Routes(upstreams=(nowhere,)), True),
        (Routes(zones={(b"test",): (nowhere,)}), True),
        (Routes(stubs=True), True),
        (Routes(allow=LOOPBACK), False),
    ):
        async with serving(stored=WEB, routes=lambda _, routes=routes: routes) as it:  # type: ignore[misc]  # a default binds it
            for name in ("web.d.test.", "none.d.test.", "www.example.com."):
                for rd in (True, False):
                    response = await it.ask(name, rd=rd)
                    assert bool(response.flags & dns.flags.RA) == forwards
                    assert (response.rcode() == dns.rcode.REFUSED) == name.endswith(".com.")


async def test_before_the_first_load_all_is_servfail_14() -> None:
    async with serving(knows(RECORD), ready=False) as it:
        for name in ("web.d.test.", "www.example.com."):
            response = await it.ask(name, edns=True)
            assert (response.rcode(), extended_errors(response)) == (dns.rcode.SERVFAIL, [14])


# ---------------------------------------------------------------- stub zones and zones of their own


async def test_stub_zones_follow_their_keys() -> None:
    stubs: Callable[[Upstream], Routes] = lambda _: Routes(stubs=True, allow=LOOPBACK)  # noqa: E731
    async with serving(lambda asked: [reply(asked, RECORD, aa=True)], routes=stubs) as it:
        assert (await it.ask("www.example.com.")).rcode() == dns.rcode.REFUSED
        host, port = it.behind.server
        it.world.put("a.example.com.stub.dns", {"host": host, "port": port})
        response = await it.ask("www.example.com.")
        assert lines(response.answer) == [RECORD]
        assert response.flags & dns.flags.AA
        assert (await it.ask("www.example.com.", rd=False)).rcode() == dns.rcode.REFUSED
        assert (await it.ask("www.example.org.")).rcode() == dns.rcode.REFUSED
        it.world.delete("a.example.com.stub.dns")
        assert (await it.ask("www.example.com.")).rcode() == dns.rcode.REFUSED


async def test_stub_zones_go_before_keys_outside_every_zone_and_never_into_ours() -> None:
    pointer = "1.2.0.192.in-addr.arpa."
    stored = WEB | {pointer: {"host": "web.d.test"}, "out": {"host": "stored.example.com"}}
    stubs: Callable[[Upstream], Routes] = lambda _: Routes(stubs=True, allow=LOOPBACK)  # noqa: E731
    told = f"{pointer} 60 PTR told.example.com."
    async with serving(knows(told), stored, routes=stubs) as it:
        response = await it.ask(pointer, "PTR")
        assert lines(response.answer) == [f"{pointer} 5 PTR web"]
        assert response.flags & dns.flags.AA
        host, port = it.behind.server
        for zone in ("192.in-addr.arpa", "test", "d.test", "web.d.test"):
            it.world.put(f"a.{zone.replace('.d.test', '')}.stub.dns.d.test.", {"host": host, "port": port})
            it.world.put(f"a.{zone}.stub.dns.d.test.", {"host": host, "port": port})
        assert lines((await it.ask(pointer, "PTR")).answer) == [told]
        assert lines((await it.ask("web.d.test.")).answer) == ["web 5 A 10.0.0.1"]
        assert it.behind.texts == [f"{pointer} PTR"]


async def test_zones_of_their_own_go_before_upstreams() -> None:
    async with running_upstream(knows("www.corp.test. 60 A 192.0.2.7")) as own:

        def routes(behind: Upstream) -> Routes:
            zones: dict[Path, tuple[Server, ...]] = {(b"test", b"corp"): (own.server,)}
            return Routes(upstreams=(behind.server,), zones=zones, allow=LOOPBACK)

        async with serving(knows(RECORD), routes=routes) as it:
            assert lines((await it.ask("www.corp.test.")).answer) == ["www.corp.test. 60 A 192.0.2.7"]
            assert lines((await it.ask("www.example.com.")).answer) == [RECORD]
            assert (own.texts, it.behind.texts) == (["www.corp.test. A"], ["www.example.com. A"])


# ---------------------------------------------------------------- outside names in answers of ours

OUT = {"out": {"host": "www.example.com", "ttl": 300}, "p.srv": {"host": "www.example.com", "port": 80}}


async def test_an_outside_alias_is_answered_with_its_addresses() -> None:
    async with serving(knows(RECORD), OUT) as it:
        response = await it.ask("out.d.test.", edns=True)
        assert lines(response.answer) == ["out 60 CNAME www.example.com.", "www.example.com. 60 A 192.0.2.1"]
        assert response.flags & dns.flags.AA
        assert response.flags & dns.flags.RA
        srv = await it.ask("srv.d.test.", "SRV")
        assert lines(srv.additional) == ["www.example.com. 60 A 192.0.2.1"]
        it.clock.advance(20)
        assert lines((await it.ask("out.d.test.")).answer)[1] == "www.example.com. 40 A 192.0.2.1"


async def test_an_outside_name_is_flattened_under_ours() -> None:
    async with serving(knows(RECORD), OUT) as it:
        assert lines((await it.ask("srv.d.test.")).answer) == ["srv 5 A 192.0.2.1"]


async def test_without_recursion_or_without_answers_the_alias_stands_alone() -> None:
    alone = ["out 300 CNAME www.example.com."]
    async with serving(knows(RECORD), OUT) as it:
        assert lines((await it.ask("out.d.test.", rd=False)).answer) == alone
        assert lines((await it.ask("out.d.test.", options=[LOOP])).answer) == alone
        assert not it.behind.asked
        await it.behind.stop()
        response = await it.ask("out.d.test.", edns=True)
        assert (response.rcode(), lines(response.answer), extended_errors(response)) == (0, alone, [])
        assert (await it.ask("srv.d.test.", "SRV")).answer


async def test_eight_outside_targets_and_the_others_without() -> None:
    stored = {f"{n:02}.srv": {"host": f"n{n:02}.example.com", "port": 80} for n in range(12)}
    records = [f"n{n:02}.example.com. 60 A 192.0.2.{n}" for n in range(12)]
    async with serving(knows(*records), stored) as it:
        response = await it.ask("srv.d.test.", "SRV", tcp=True)
        assert len(lines(response.answer)) == 12
        assert sorted(lines(response.additional)) == records[:8]


async def test_a_stale_view_says_so_beside_outside_names() -> None:
    async with serving(knows(RECORD), OUT) as it:
        it.world.view.stale = True
        it.world.view.new_epoch()
        response = await it.ask("out.d.test.", edns=True)
        assert extended_errors(response) == [3]
        assert {rrset.ttl for rrset in response.answer} <= {30}


# ---------------------------------------------------------------- many at a time


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


def frame(query: dns.message.Message) -> bytes:
    packet = query.to_wire()
    return len(packet).to_bytes(2, "big") + packet


async def answer(reader: asyncio.StreamReader) -> dns.message.Message:
    length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 20), "big")
    return dns.message.from_wire(await asyncio.wait_for(reader.readexactly(length), 20))


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

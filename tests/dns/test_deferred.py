"""dns.deferred: what clients get of forwarding, from a whole server on real sockets, UDP and TCP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from ipaddress import ip_network

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest

from discovery.dns import forward, upstream
from discovery.dns.forward import Routes
from discovery.dns.source import Path
from discovery.dns.upstream import Server
from tests.support.dns import lines
from tests.support.forwarding import LOOPBACK, answer, be_patient, extended_errors, frame, serving
from tests.support.upstream import Asked, Upstream, fails, knows, reply, silent
from tests.support.upstream import upstream as running_upstream

RECORD = "www.example.com. 60 A 192.0.2.1"
SOA = "example.com. 3600 SOA ns. host. 1 2 3 4 60"
WEB = {"1.web": {"host": "10.0.0.1"}}
LOOP = dns.edns.GenericOption(dns.edns.OptionType.make(upstream.LOOP_OPTION), b"discovery")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


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

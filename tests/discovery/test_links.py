"""The links between nodes, over real HTTP: each node's API on a socket, asked by another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from discovery.links import TELL_EVERY, Link, Links, complaint_of
from discovery.nodes import NodeRecord
from discovery.tls import node_context, only_clients_of, server_context
from discovery.view import View
from tests.support.api import NOW, running_api
from tests.support.certificates import AUTHORITY, certificate
from tests.support.clock import FakeClock


def node(name: str, *http: str) -> NodeRecord:
    return NodeRecord(name, ("192.0.2.1",), http, "0.1.0", "2026-01-01T00:00:00.000Z")


def make_links(nodes: Sequence[NodeRecord], clock: FakeClock, *, ahead: float = 0.0) -> Links:
    """`ahead`: seconds by which the others' clocks, which stand at NOW, are ahead of ours."""
    view = View("/skydns", apexes=[], grace_of=lambda path: 0.0)
    view.revision = 5
    return Links(lambda: nodes, view, clock=clock, wall=lambda: NOW - ahead)


async def test_a_link_has_round_trip_clock_and_lag(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, aiohttp.ClientSession() as session:
        there = node("a", "http://127.0.0.1:1", f"http://{api.host}:{api.port}")  # the first does not answer
        links = make_links([there], FakeClock(), ahead=3.0)
        assert links.link(there) == Link()
        await links.probe(session)
        link = links.link(there)
        assert (link.round_trip, link.clock_offset) == (0.0, 3.0)
        assert (link.ready, link.stale, link.revision, link.lag) == (True, False, 1, 4)
        assert complaint_of(link) == "its clock is 3.0 s ahead of ours: set the clocks (timedatectl)"


async def test_a_node_that_is_not_ready_is_there_all_the_same(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api, aiohttp.ClientSession() as session:
        there = node("a", f"http://{api.host}:{api.port}")
        links = make_links([there], FakeClock())
        await links.probe(session)
        link = links.link(there)
        assert (link.round_trip, link.ready, link.revision, link.error) == (0.0, False, None, "")
        assert complaint_of(link) == "it is not ready"


async def test_an_ailing_node_is_told_now_and_then_and_when_it_is_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    async with running_api(tmp_path) as api, aiohttp.ClientSession() as session:
        nodes = [node("a", "http://127.0.0.1:1")]
        links = make_links(nodes, clock)
        with caplog.at_level(logging.INFO, "discovery.links"):
            for _ in range(6):  # the first, and one more when TELL_EVERY is over
                await links.probe(session)
                clock.advance(TELL_EVERY / 5)
            assert [line.levelname for line in caplog.records] == ["WARNING", "WARNING"]
            assert caplog.records[0].getMessage().startswith("node a (http://127.0.0.1:1): out of reach: ")
            caplog.clear()
            nodes[0] = node("a", f"http://{api.host}:{api.port}")  # started anew: another node
            await links.probe(session)
            assert caplog.messages == ["node a is gone"]
            wrong, right = make_links(nodes, clock, ahead=-9.0), NOW
            await wrong.probe(session)
            assert "9.0 s behind ours" in caplog.records[-1].getMessage()
            wrong._wall = lambda: right
            await wrong.probe(session)
            assert caplog.records[-1].getMessage() == "node a is well again"


async def test_nodes_show_each_other_their_certificates(tmp_path: Path) -> None:
    files, ca = certificate(tmp_path), str(tmp_path / "ca.pem")
    AUTHORITY.cert_pem.write_to_path(ca)
    server = server_context(str(files.cert), str(files.key), "http.tls")
    only_clients_of(server, ca, "http.tls.client_ca")
    async with running_api(tmp_path, tls=server) as api, aiohttp.ClientSession() as session:
        there = node("a", f"https://{api.host}:{api.port}")
        for context, reached in (
            (node_context(str(files.cert), str(files.key), ca, "http.tls"), True),
            (None, False),
        ):
            links = make_links([there], FakeClock())
            links._tls = lambda context=context: context  # type: ignore[misc]  # a default binds it
            await links.probe(session)
            assert (links.link(there).error == "") is reached


async def test_a_node_that_ails_now_and_then_is_told_no_more_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    async with running_api(tmp_path) as api, aiohttp.ClientSession() as session:
        links = make_links([node("a", f"http://{api.host}:{api.port}")], clock)
        with caplog.at_level(logging.WARNING, "discovery.links"):
            for turn in range(10):  # in 40 s
                links._wall = lambda turn=turn: NOW + 9.0 * (turn % 2)  # type: ignore[misc]  # a default binds it
                await links.probe(session)
                clock.advance(TELL_EVERY / 7.5)
        assert len(caplog.records) == 2


def test_what_ails_a_node_in_words() -> None:
    assert complaint_of(Link()) == ""
    assert complaint_of(Link(round_trip=0.1, clock_offset=0.9, ready=True)) == ""
    assert complaint_of(Link(round_trip=1.5, clock_offset=0.0, ready=True)) == "it takes 1.5 s to answer"
    assert complaint_of(Link(error="refused")) == "out of reach: refused"

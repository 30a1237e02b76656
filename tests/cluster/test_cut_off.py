"""A node that is cut off from its store, in a network of hosts: it alone is concerned, says so, and heals."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.cluster.site import DNS_PORT, MEMBERS, NODES, NodeProcess, Site
from tests.support.network import network
from tests.support.node import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SOON = 30.0  # seconds in which what takes a few on a quiet machine happens on any
SERVICE = {"host": "10.1.0.1", "port": 80, "lease_ttl": 60}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with network((*MEMBERS, *NODES)) as net:
        site = Site(tmp_path_factory.mktemp("site"), net)
        try:
            site.start(SOON)
            yield site
        finally:
            site.close()


def call(node: NodeProcess, method: str, path: str, body: object = None) -> tuple[int, Any]:  # Any: JSON
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(node.url + path, content, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def ask(node: NodeProcess, name: str) -> tuple[list[str], list[int]]:
    """(the addresses, the extended errors)."""
    query = dns.message.make_query(f"{name}.discovery.internal.", "A", use_edns=0)
    answer = dns.query.udp(query, node.address, port=DNS_PORT, timeout=5)
    assert answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
    addresses = sorted(item.to_text() for rrset in answer.answer for item in rrset)
    return addresses, [int(each.code) for each in answer.options if isinstance(each, dns.edns.EDEOption)]


@pytest.mark.parametrize("direction", ["both", "out", "in"])
def test_a_node_cut_off_from_the_store_is_stale_alone_says_so_and_heals(site: Site, direction: str) -> None:
    cut_off, peer, other = site.nodes.values()
    service = f"cut-{direction}"
    path = f"/v1/services/{service}/i1"
    assert call(cut_off, "PUT", path, SERVICE)[0] == 201
    wait_for(lambda: ask(peer, service) == (["10.1.0.1"], []), SOON, "it is on the others")
    lines = [(cut_off.name, member) for member in MEMBERS] if direction != "in" else []
    lines += [(member, cut_off.name) for member in MEMBERS] if direction != "out" else []
    for line in lines:
        site.network.cut(*line)
    try:
        wait_for(lambda: call(cut_off, "GET", "/readyz?writes")[0] == 503, SOON, "it says it takes no writes")
        wait_for(lambda: ask(cut_off, service) == (["10.1.0.1"], [3]), SOON, "its answers say they are stale")
        assert call(cut_off, "GET", "/readyz")[0] == 200
        assert call(cut_off, "PUT", path, {**SERVICE, "host": "10.1.0.2"})[0] == 503
        status, told = call(cut_off, "GET", "/v1/cluster")
        assert status == 200
        assert not told["store"]["reachable"]
        for node in (peer, other):  # nothing is wrong with them
            assert call(node, "GET", "/readyz?writes")[0] == 200
            assert call(node, "GET", "/v1/cluster")[1]["store"]["reachable"]
        assert call(peer, "PUT", path, {**SERVICE, "host": "10.1.0.3"})[0] == 200
        wait_for(lambda: ask(other, service) == (["10.1.0.3"], []), SOON, "the other one follows")
        assert ask(cut_off, service) == (["10.1.0.1"], [3])
    finally:
        for line in lines:
            site.network.mend(*line)
    wait_for(lambda: ask(cut_off, service) == (["10.1.0.3"], []), SOON, "it follows again")
    wait_for(lambda: call(cut_off, "GET", "/readyz?writes")[0] == 200, SOON, "it takes writes again")
    assert call(cut_off, "DELETE", path)[0] == 204


def test_a_member_that_is_cut_off_from_the_others_is_left(site: Site) -> None:
    """The nodes that it served reach it still; it answers, but sees no leader, and its watches say nothing."""
    outsider = MEMBERS[0]
    lines = [(outsider, member) for member in MEMBERS[1:]] + [(member, outsider) for member in MEMBERS[1:]]
    for line in lines:
        site.network.cut(*line)
    try:
        for number, node in enumerate(site.nodes.values()):
            path = f"/v1/services/left/i{number}"
            wait_for(
                lambda node=node, path=path: call(node, "PUT", path, SERVICE)[0] in (200, 201),  # type: ignore[misc]
                SOON,
                "a write is taken",
            )
        for number in range(len(site.nodes)):
            for node in site.nodes.values():
                name = f"i{number}.left"
                wait_for(
                    lambda node=node, name=name: ask(node, name) == (["10.1.0.1"], []),  # type: ignore[misc]
                    SOON,
                    "all follow",
                )
    finally:
        for line in lines:
            site.network.mend(*line)

"""Forwarding by a whole node: upstreams, zones of their own, stub zones put and deleted while it runs, loops."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.support.dns_server import Answer, DnsServer
from tests.support.node import RunningNode, running_node, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def knows(address: str, ttl: int = 60) -> Answer:
    """An upstream that has one address for every name."""

    def answer(query: dns.message.Message, transport: str) -> list[bytes]:
        response = dns.message.make_response(query, recursion_available=True)
        name = query.question[0].name
        if query.question[0].rdtype == 1:
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", address))
        return [response.to_wire()]

    return answer


def put_key(node: RunningNode, key: str, value: object) -> None:
    text = urllib.parse.quote(json.dumps(value))
    assert node.call("PUT", f"/v2/keys/skydns/{key}?value={text}")[0] in (200, 201)


def extended_errors(response: dns.message.Message) -> list[int]:
    return [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)]


def test_an_upstream_and_a_zone_of_its_own(tmp_path: Path) -> None:
    with DnsServer(knows("192.0.2.1")) as general, DnsServer(knows("192.0.2.2")) as own:
        settings = [
            f"forward.upstreams=['{general.address}']",
            f"forward.zones={{corp.test.: ['{own.address}']}}",
        ]
        with running_node(tmp_path / "store", settings) as node:
            for tcp in (False, True):
                response = node.ask("www.Example.com.", "A", tcp=tcp)
                assert response.answer[0].to_text() == "www.Example.com. 60 IN A 192.0.2.1"
                assert response.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
            assert node.answers("www.corp.test.", "A") == ["192.0.2.2"]
            assert node.ask("com.", "A").rcode() == dns.rcode.REFUSED
            wait_for(lambda: node.ask("www.example.com.", "A").answer[0].ttl < 60, 30, "its TTL counts down")
            assert len(general.asked) == 1
            assert node.call("PUT", "/v1/services/out/i1", {"host": "www.example.com", "port": 80})[0] == 201
            assert node.answers("out.discovery.internal.", "A") == ["192.0.2.1"]
            assert node.ask("none.discovery.internal.", "A").flags & dns.flags.RA


def test_a_dead_upstream_is_servfail_in_the_time_a_client_waits(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        settings = [f"forward.upstreams=['127.0.0.1:{silent.getsockname()[1]}']"]
        with running_node(tmp_path / "store", settings) as node:
            begin = time.monotonic()
            response = node.ask("www.example.com.", "A")
            assert time.monotonic() - begin < 4.5
            assert (response.rcode(), extended_errors(response)) == (dns.rcode.SERVFAIL, [22])
    assert "did not answer" in (tmp_path / "store.log").read_text()


def test_a_dead_upstream_beside_a_living_one(tmp_path: Path) -> None:
    with DnsServer(knows("192.0.2.1")) as living, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = [f"forward.upstreams=['{dead}', '{living.address}']"]
        with running_node(tmp_path / "store", settings) as node:
            assert node.answers("n0.example.com.", "A") == ["192.0.2.1"]
            begin = time.monotonic()
            for number in range(1, 20):
                assert node.answers(f"n{number}.example.com.", "A") == ["192.0.2.1"]
            assert time.monotonic() - begin < 0.8  # the dead one is not waited for again


def test_stub_zones_are_put_and_deleted_while_it_runs(tmp_path: Path) -> None:
    key = "internal/discovery/dns/stub/com/example/ns1"
    with (
        DnsServer(knows("192.0.2.1")) as stub,
        running_node(tmp_path / "store", ["forward.stubs=true"]) as node,
    ):
        refused = node.ask("www.example.com.", "A")
        assert (refused.rcode(), bool(refused.flags & dns.flags.RA)) == (dns.rcode.REFUSED, True)
        put_key(node, key, {"host": "127.0.0.1", "port": stub.port})
        assert node.answers("www.example.com.", "A") == ["192.0.2.1"]
        assert node.call("DELETE", f"/v2/keys/skydns/{key}")[0] == 200
        assert node.ask("www.example.com.", "A").rcode() == dns.rcode.REFUSED


def test_nodes_that_forward_to_each_other_say_servfail(tmp_path: Path) -> None:
    with running_node(tmp_path / "first", ["forward.stubs=true"]) as first:
        settings = [f"forward.upstreams=['127.0.0.1:{first.dns_port}']"]
        with running_node(tmp_path / "second", settings) as second:
            stub = {"host": "127.0.0.1", "port": second.dns_port}
            put_key(first, "internal/discovery/dns/stub/com/example/ns1", stub)
            for node in (first, second):
                begin = time.monotonic()
                assert node.ask("www.example.com.", "A").rcode() == dns.rcode.SERVFAIL
                assert time.monotonic() - begin < 0.8  # cut, not timed out


def test_clients_that_are_not_allowed(tmp_path: Path) -> None:
    with DnsServer(knows("192.0.2.1")) as upstream:
        settings = [f"forward.upstreams=['{upstream.address}']", "forward.allow=['192.0.2.0/24']"]
        with running_node(tmp_path / "store", settings) as node:
            response = node.ask("www.example.com.", "A")
            assert (response.rcode(), extended_errors(response)) == (dns.rcode.REFUSED, [18])
            assert node.ask("discovery.internal.", "SOA").answer
        assert upstream.asked == []


def test_every_question_has_its_line_even_of_a_client_that_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    gone = threading.Event()

    def answer_when_gone(query: dns.message.Message, transport: str) -> Iterable[bytes]:
        assert gone.wait(10)
        return knows("192.0.2.1")(query, transport)

    with DnsServer(answer_when_gone) as upstream:
        settings = [f"forward.upstreams=['{upstream.address}']", "log.queries=true"]
        with running_node(tmp_path / "store", settings, log=log) as node:
            query = dns.message.make_query("gone.example.com.", "A").to_wire()
            with socket.create_connection(("127.0.0.1", node.dns_port)) as client:
                client.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )  # reset at close
                client.sendall(len(query).to_bytes(2, "big") + query)
                wait_for(lambda: len(upstream.asked) == 1, 30, "the question is forwarded")
            gone.set()
            node.ask("www.example.com.", "A")
            node.ask("discovery.internal.", "SOA", tcp=True)
            for line in (
                "client=127.0.0.1 transport=tcp qname=gone.example.com. qtype=A rcode=0",
                "client=127.0.0.1 transport=udp qname=www.example.com. qtype=A rcode=0",
                "client=127.0.0.1 transport=tcp qname=discovery.internal. qtype=SOA rcode=0",
            ):
                wait_for(lambda line=line: line in log.read_text(), 30, line)  # type: ignore[misc]  # a default binds it

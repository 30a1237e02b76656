"""SRV questions to our own DNS server, and to sockets that misbehave."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.message
import pytest

from discovery.client import Client, Endpoint, Unavailable
from discovery.client.questions import srv
from tests.support.certificates import certificate
from tests.support.live import HOST, LiveServer

STORED = {
    "a.web": {"host": "10.0.0.1", "port": 80, "priority": 2},
    "b.web": {"host": "2001:db8::1", "port": 81, "priority": 1},
    "c.web": {"host": "db.example.com", "port": 82, "priority": 3},
    **{f"i{n}.many": {"host": f"10.0.1.{n}", "port": 8080, "tags": ["blue"]} for n in range(100)},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(STORED, certificate(tmp_path_factory.mktemp("tls"))) as running:
        yield running


async def test_endpoints_come_with_their_addresses(server: LiveServer) -> None:
    found = sorted(await srv("web.d.test.", [(HOST, server.port)]), key=lambda each: each.priority)
    assert [(each.target, each.port, each.addresses, each.host) for each in found] == [
        ("b.web.d.test.", 81, ("2001:db8::1",), "2001:db8::1"),
        ("a.web.d.test.", 80, ("10.0.0.1",), "10.0.0.1"),
        ("db.example.com.", 82, (), "db.example.com."),
    ]
    assert await srv("nothing.d.test.", [(HOST, server.port)]) == []
    assert await srv("web.D.TEST.", [(HOST, server.port)]) != []


async def test_what_is_cut_comes_over_tcp(server: LiveServer) -> None:
    assert len(await srv("many.d.test.", [(HOST, server.port)])) == 100


async def test_the_client_asks_in_its_zone_and_orders(server: LiveServer) -> None:
    client = Client(dns=f"{HOST}:{server.port}", zone="d.test")
    assert [each.port for each in await client.resolve("web")] == [81, 80, 82]
    assert [each.port for each in await client.resolve("web.d.test.", over="dns")] == [81, 80, 82]
    assert len(await client.resolve("blue.tag.many")) == 100


async def test_the_next_server_is_asked(server: LiveServer) -> None:
    with udp() as closed:
        port = closed.getsockname()[1]
    found = await srv("web.d.test.", [(HOST, port), (HOST, server.port)])
    assert len(found) == 3
    with pytest.raises(Unavailable, match=rf"{HOST} port {server.port}: REFUSED"):
        await srv("example.com.", [(HOST, server.port)])
    with pytest.raises(Unavailable, match=f"{HOST} port {port}: Connection refused"):
        await srv("web.d.test.", [(HOST, port)])


async def test_silence_ends(server: LiveServer) -> None:
    with udp() as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unavailable, match=r"no answer within 0\.02 s"):
            await srv("web.d.test.", [(HOST, port)], 0.02)


async def test_a_cancelled_question_leaves_no_socket() -> None:
    with udp() as silent:
        task = asyncio.create_task(srv("web.d.test.", [(HOST, silent.getsockname()[1])]))
        await asyncio.get_running_loop().run_in_executor(None, silent.recv, 512)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    # an open transport would be a ResourceWarning, which fails the test


@pytest.mark.parametrize("forged", ["id", "question", "query"])
async def test_only_an_answer_to_the_question_counts(forged: str) -> None:
    with udp() as server:

        def answer() -> None:
            packet, asker = server.recvfrom(512)
            query = dns.message.from_wire(packet)
            good = dns.message.make_response(query)
            text = "id 0\nopcode QUERY\nflags QR\n;ANSWER\nweb.d.test. 5 IN SRV 0 0 80 a.test.\n"
            good.answer = dns.message.from_text(text).answer
            bad = dns.message.make_response(dns.message.make_query("other.test.", "SRV", id=query.id))
            wrong = {"id": packet[:1] + bytes([packet[1] ^ 1]), "question": b"", "query": packet}[forged]
            sent = bad.to_wire() if forged == "question" else wrong + good.to_wire()[len(wrong) :]
            server.sendto(sent if forged != "query" else packet, asker)
            server.sendto(good.to_wire(), asker)

        thread = threading.Thread(target=answer)
        thread.start()
        assert await srv("web.d.test.", [(HOST, server.getsockname()[1])]) == [Endpoint("a.test.", 80)]
        thread.join()


async def test_a_service_that_says_it_is_not_offered() -> None:
    """RFC 2782: the target is the root."""
    with udp() as server:

        def answer() -> None:
            packet, asker = server.recvfrom(512)
            response = dns.message.make_response(dns.message.from_wire(packet))
            text = "id 0\nopcode QUERY\nflags QR\n;ANSWER\nweb.d.test. 5 IN SRV 0 0 0 .\n"
            response.answer = dns.message.from_text(text).answer
            server.sendto(response.to_wire(), asker)

        thread = threading.Thread(target=answer)
        thread.start()
        assert await srv("web.d.test.", [(HOST, server.getsockname()[1])]) == []
        thread.join()


def test_a_host_is_the_name_where_no_address_came() -> None:
    assert Endpoint("a.test.", 80).host == "a.test."


@contextmanager
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.settimeout(10)
        yield sock

"""UDP on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import dns.message

from discovery.dns.batch import MAX_DATAGRAM, SLOTS
from discovery.dns.counters import SAMPLE
from discovery.dns.turns import SHARE, Turns
from discovery.dns.udp import UdpListener
from tests.support.clock import TickingClock
from tests.support.dns import World, query
from tests.support.loop import until, watching

WEB = {"1.web": {"host": "10.0.0.1"}}


@asynccontextmanager
async def listening(
    world: World, turns: Turns | None = None
) -> AsyncIterator[tuple[UdpListener, socket.socket]]:
    """A listener, and a client's socket connected to it."""
    loop = asyncio.get_running_loop()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setblocking(False)
    server.bind(("127.0.0.1", 0))
    listener = UdpListener(
        server, world.udp, world.deferred(world.udp), world.counters, turns or Turns(loop.time)
    )
    listener.start(loop)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    client.connect(listener.address)
    try:
        yield listener, client
    finally:
        client.close()
        if server.fileno() >= 0:
            listener.close(loop)


async def receive(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 65535), 5)


async def test_a_question_is_answered() -> None:
    world = World(WEB)
    async with listening(world) as (_, client):
        client.send(query("web", "A").to_wire())
        response = dns.message.from_wire(await receive(client))
    assert query("web", "A").is_response(response)
    assert response.answer[0].to_text() == "web.d.test. 5 IN A 10.0.0.1"
    assert world.counters.queries_udp == 1
    assert sum(world.counters.latency_udp.counts) == 1


async def test_a_burst_beyond_one_wake_up_is_answered_each_once() -> None:
    world = World(WEB)
    question = bytearray(query("web", "A").to_wire())
    async with listening(world) as (_, client):
        for ident in range(200):
            question[:2] = ident.to_bytes(2, "big")
            client.send(question)
        idents = {int.from_bytes((await receive(client))[:2], "big") for _ in range(200)}
    assert idents == set(range(200))
    assert world.counters.queries_udp == 200
    assert 1 <= sum(world.counters.latency_udp.counts) <= 200 // SAMPLE + 1  # of a batch one is taken at most


async def test_one_by_one_and_in_bursts_all_are_answered_each_once() -> None:
    world = World(WEB)
    question = bytearray(query("web", "A").to_wire())
    asked = 0
    async with listening(world) as (_, client):
        for burst in (1, 1, 2, 1, SLOTS, 1, SLOTS + 1, 3, 1, 1):
            idents = range(asked, asked + burst)
            for ident in idents:
                question[:2] = ident.to_bytes(2, "big")
                client.send(question)
            asked += burst
            assert {int.from_bytes((await receive(client))[:2], "big") for _ in idents} == set(idents)
    assert world.counters.queries_udp == asked


async def test_draining_tells_whether_there_may_be_more() -> None:
    world = World(WEB)
    async with listening(world) as (listener, client):
        for _ in range(SLOTS + 1):
            client.send(query("web", "A").to_wire())
        assert [listener.drain(), listener.drain(), listener.drain()] == [True, False, False]
    assert world.counters.queries_udp == SLOTS + 1


async def test_silence_for_what_must_not_be_answered_and_the_next_is() -> None:
    world = World(WEB)
    async with listening(world) as (_, client):
        for junk in (b"", b"x", bytes(11), b"\0\0\x80\0" + bytes(8), b"\0\0\xff\xff" + bytes(100)):
            client.send(junk)
        client.send(query("web", "A").to_wire())
        assert (await receive(client))[:2] == (4711).to_bytes(2, "big")
    assert (world.counters.dropped, world.counters.queries_udp) == (5, 6)


async def test_a_query_that_is_too_long_is_malformed() -> None:
    world = World(WEB)
    async with listening(world) as (_, client):
        client.send(query("web", "A").to_wire() + bytes(MAX_DATAGRAM))
        assert (await receive(client))[3] & 15 == 1


async def test_a_client_that_is_gone_costs_only_its_own_answer() -> None:
    """Its port answers with an ICMP error."""
    world = World(WEB)
    async with listening(world) as (listener, client):
        for _ in range(5):
            gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            gone.sendto(query("web", "A").to_wire(), listener.address)
            gone.close()
        client.send(query("web", "A").to_wire())
        assert (await receive(client))[:2] == (4711).to_bytes(2, "big")


async def test_closing_answers_what_has_arrived() -> None:
    world = World(WEB)
    async with listening(world) as (listener, client):
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener._sock.fileno())
        client.send(query("web", "A").to_wire())
        listener.close(loop)
        assert (await receive(client))[:2] == (4711).to_bytes(2, "big")


async def test_ipv6() -> None:
    world = World(WEB)
    loop = asyncio.get_running_loop()
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setblocking(False)
    server.bind(("::1", 0))
    listener = UdpListener(server, world.udp, world.deferred(world.udp), world.counters, Turns(loop.time))
    listener.start(loop)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(listener.address)
        client.send(query("web", "A").to_wire())
        assert (await receive(client))[:2] == (4711).to_bytes(2, "big")
    listener.close(loop)


async def test_questions_that_must_be_made_go_by_turns_and_delay_none_that_is_kept() -> None:
    """The clock ticks at each look, so that a turn is two or three answers."""
    world = World(WEB)
    turns = Turns(TickingClock(SHARE / 2))
    world.udp = world.responder(udp=True, turns=turns)
    for _ in range(3):
        world.udp.respond(query("web", "A").to_wire())
    async with listening(world, turns) as (_, client):
        misses: list[int] = []
        watch = watching(lambda: world.counters.misses, misses)
        for number in range(3 * SLOTS):
            client.send(query(f"x{number}.y", "A").to_wire())
        hot = bytearray(query("web", "A").to_wire())
        hot[:2] = b"\0\1"
        client.send(hot)
        before = 0
        while (await receive(client))[:2] != b"\0\1":
            before += 1
        assert before < 30
        for _ in range(3 * SLOTS - before):
            await receive(client)
        watch.cancel()
    steps = [after - then for then, after in pairwise(misses)]
    assert 1 <= max(steps) <= 3
    assert world.counters.dropped == 0


async def test_where_too_many_wait_for_a_turn_they_are_dropped_and_counted() -> None:
    world = World(WEB)
    turns = Turns(TickingClock(SHARE))
    world.udp = world.responder(udp=True, turns=turns)
    while turns.wait(lambda: False):
        pass
    async with listening(world, turns) as (_, client):
        turns.has_time()
        turns.made()
        for number in range(5):
            client.send(query(f"x{number}.y", "A").to_wire())
        await until(lambda: world.counters.dropped > 0)
        turns.close()

"""The server of one process: its own sockets, and those of neighbours that leave questions lying."""

from __future__ import annotations

import asyncio
import socket

import dns.message

from discovery import sockets
from discovery.dns.batch import SLOTS
from discovery.dns.forward import Routes
from discovery.dns.server import DnsServer
from tests.support.dns import World, query


async def test_questions_that_a_neighbour_leaves_lying_are_answered_from_its_address() -> None:
    world = World({"1.web": {"host": "10.0.0.1"}})
    server = DnsServer(world.view, world.settings, Routes(), world.counters, cache_bytes=1 << 20)
    (neighbour,), tcp = sockets.bind_dns("127.0.0.1:0")
    own, own_tcp = sockets.bind_dns("127.0.0.1:0")
    address = neighbour.getsockname()
    with tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(address)
        question = query("web", "A").to_wire()[2:]
        count = 2 * SLOTS + 1
        for ident in range(count):
            client.send(ident.to_bytes(2, "big") + question)
        await server.start(own, [own_tcp], neighbours=[neighbour])
        answers = [await asyncio.get_running_loop().sock_recv(client, 4096) for _ in range(count)]
        assert [dns.message.from_wire(answer).id for answer in answers] == list(range(count))
        client.send(bytes(2) + question)
        assert await asyncio.get_running_loop().sock_recv(client, 4096)
        await server.close()
    assert neighbour.fileno() == -1
    assert world.counters.queries_udp == count + 1

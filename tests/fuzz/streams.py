"""Packets over real sockets: what comes out of a listener for what goes in, however it is cut."""

from __future__ import annotations

import asyncio
import random
import socket

from discovery.dns.connections import Connections
from discovery.dns.tcp import TcpListener
from discovery.dns.turns import Turns
from discovery.dns.udp import UdpListener
from tests.support.dns import World, query

LIMIT = 20.0  # seconds for one round, on however busy a machine
LAST = 0xBEEF  # the id of a question that ends a round


async def udp_round(rng: random.Random, world: World, packets: list[bytes]) -> list[bytes]:
    """The answers to datagrams sent at once, in order of arrival."""
    loop = asyncio.get_running_loop()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setblocking(False)
    server.bind(("127.0.0.1", 0))
    listener = UdpListener(server, world.udp, world.deferred(world.udp), world.counters, Turns(loop.time))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(listener.address)
        last = query("the.very.last.one", "A").to_wire()
        for packet in (*packets, LAST.to_bytes(2, "big") + last[2:]):
            client.send(packet[:4096])
        listener.start(loop)
        answers = []
        try:
            async with asyncio.timeout(LIMIT):
                while True:
                    answers.append(await loop.sock_recv(client, 65535))
                    if answers[-1][:2] == LAST.to_bytes(2, "big") and answers[-1][12:].startswith(last[12:]):
                        return answers[:-1]
        finally:
            listener.close(loop)


async def stream_round(rng: random.Random, world: World, packets: list[bytes]) -> list[bytes]:
    """The answers on one connection to frames that were cut anywhere; the client half-closes at the end."""
    listener = TcpListener(
        socket.create_server(("127.0.0.1", 0)),
        world.tcp,
        world.deferred(world.tcp),
        world.counters,
        asyncio.get_running_loop().time,
        Connections(),
        Turns(asyncio.get_running_loop().time),
    )
    await listener.start()
    reader, writer = await asyncio.open_connection(*listener.address)
    try:
        async with asyncio.timeout(LIMIT):
            stream = b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets if packet)
            if rng.random() < 0.3:  # a frame that never gets whole
                stream += rng.randint(10, 65535).to_bytes(2, "big") + rng.randbytes(rng.randint(0, 9))
            send = asyncio.create_task(_send(rng, writer, stream))
            answers = []
            while True:
                try:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    answers.append(await reader.readexactly(length))
                except asyncio.IncompleteReadError as error:
                    await send
                    return [*answers, error.partial] if error.partial else answers
    finally:
        writer.transport.abort()
        await listener.close()


async def _send(rng: random.Random, writer: asyncio.StreamWriter, stream: bytes) -> None:
    at = 0
    while at < len(stream):
        size = rng.choice((1, 2, 3, 50, 500, 100_000))
        writer.write(stream[at : at + size])
        await writer.drain()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
        at += size
    writer.write_eof()

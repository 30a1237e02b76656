"""Answers come from the address that was asked, on sockets that are bound to none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from discovery.dns.turns import Turns
from discovery.dns.wildcard import IP_PKTINFO, IPV6_PKTINFO, WildcardListener, source
from tests.support.dns import World, query

WEB: dict[str, object] = {"1.web": {"host": "10.0.0.1"}}
QUESTION = query("web", "A").to_wire()


@asynccontextmanager
async def listening(world: World, family: int, *, both: bool = False) -> AsyncIterator[int]:
    """The port. `both`: an IPv6 socket that takes IPv4 too, as systemd opens them."""
    loop = asyncio.get_running_loop()
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.setblocking(False)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    server.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
    listener = WildcardListener(
        server, world.udp, world.deferred(world.udp), world.counters, Turns(loop.time)
    )
    listener.start(loop)
    try:
        yield server.getsockname()[1]
    finally:
        listener.close(loop)


async def asked(host: str, port: int, *, source_host: str) -> tuple[bytes, tuple[str, int]]:
    """The answer, and the address that it came from."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind((source_host, 0))
        client.sendto(QUESTION, (host, port))
        answer, address = await asyncio.wait_for(loop.sock_recvfrom(client, 65535), 5)
        return answer, address[:2]


@pytest.mark.parametrize("both", [False, True])
async def test_each_address_of_loopback_answers_for_itself(both: bool) -> None:
    """127.0.0.7 asked from 127.0.0.1 would be answered from 127.0.0.1 by a plain socket."""
    world = World(WEB)
    async with listening(world, socket.AF_INET6 if both else socket.AF_INET, both=both) as port:
        for host in ("127.0.0.1", "127.0.0.7", "127.9.8.7"):
            answer, address = await asked(host, port, source_host="127.0.0.1")
            assert address == (host, port)
            assert answer[:2] == QUESTION[:2]
    assert world.counters.queries_udp == 3
    assert sum(world.counters.latency_udp.counts) == 1


async def test_ipv6() -> None:
    async with listening(World(WEB), socket.AF_INET6) as port:
        _, address = await asked("::1", port, source_host="::1")
        assert address == ("::1", port)


async def test_silence_for_what_must_not_be_answered_and_for_clients_that_are_gone() -> None:
    world = World(WEB)
    async with listening(world, socket.AF_INET) as port:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            for packet in (b"", b"x", QUESTION[:2] + b"\x80" + QUESTION[3:], QUESTION, QUESTION):
                gone.sendto(packet, ("127.0.0.1", port))
        await asked("127.0.0.1", port, source_host="127.0.0.1")
    assert (world.counters.dropped, world.counters.queries_udp) == (3, 6)


def test_the_interface_is_left_to_routing_but_for_an_address_of_one_link() -> None:
    here = bytes((192, 0, 2, 1))
    told = (socket.IPPROTO_IP, IP_PKTINFO, b"\7\0\0\0" + here + bytes((192, 0, 2, 255)))
    assert source([told]) == [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + here + bytes(4))]
    for host, interface in (("2001:db8::1", 0), ("fe80::1", 7), ("ff02::1", 0)):
        address = socket.inet_pton(socket.AF_INET6, host)
        told = (socket.IPPROTO_IPV6, IPV6_PKTINFO, address + b"\7\0\0\0")
        said = [(socket.IPPROTO_IPV6, IPV6_PKTINFO, address + interface.to_bytes(4, "little"))]
        assert source([told]) == said
    assert source([]) == []

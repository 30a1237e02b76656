"""A whole server of ours on real sockets, and the upstream behind it that it forwards to."""

from __future__ import annotations

import asyncio
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

from discovery.dns import forward
from discovery.dns.forward import Routes
from discovery.dns.server import DnsServer
from tests.support.clock import FakeClock
from tests.support.dns import Stored, World
from tests.support.upstream import Script, Upstream, both_sockets, silent
from tests.support.upstream import upstream as running_upstream

LOOPBACK = (ip_network("127.0.0.0/8"),)


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
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


def frame(query: dns.message.Message) -> bytes:
    packet = query.to_wire()
    return len(packet).to_bytes(2, "big") + packet


async def answer(reader: asyncio.StreamReader) -> dns.message.Message:
    length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 20), "big")
    return dns.message.from_wire(await asyncio.wait_for(reader.readexactly(length), 20))

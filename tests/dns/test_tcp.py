"""DNS over TCP on real sockets: frames however split, many in flight, and clients that behave badly."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import cast

import dns.message
import pytest

from discovery.dns.connections import BACKLOG, IDLE, TOTAL, Connections
from discovery.dns.tcp import HIGH_WATER, Connection, TcpListener
from discovery.dns.tls import TlsListener
from discovery.dns.turns import SHARE, Turns
from tests.support.clock import FakeClock, TickingClock
from tests.support.dns import World, query
from tests.support.loop import until, watching

WEB: dict[str, object] = {"1.web": {"host": "10.0.0.1"}}
SOMAXCONN = int(Path("/proc/sys/net/core/somaxconn").read_text())
BIG: dict[str, object] = {f"{n}.big": {"host": f"10.0.{n >> 8}.{n & 255}"} for n in range(4000)}


def frame(name: str = "web", ident: int = 4711) -> bytes:
    packet = ident.to_bytes(2, "big") + query(name, "A").to_wire()[2:]
    return len(packet).to_bytes(2, "big") + packet


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> bytes:
        length = int.from_bytes(await asyncio.wait_for(self.reader.readexactly(2), 10), "big")
        return await asyncio.wait_for(self.reader.readexactly(length), 10)

    async def ident(self) -> int:
        return int.from_bytes((await self.answer())[:2], "big")

    async def at_end(self) -> bool:
        """Whether the server closes now, without a further byte."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except ConnectionResetError:
            return True


class Served:
    def __init__(self, listener: TcpListener | TlsListener, world: World, clock: FakeClock) -> None:
        self.listener = listener
        self.world = world
        self.clock = clock
        self._clients: list[Client] = []

    @property
    def held(self) -> list[Connection]:
        return [cast(Connection, each) for each in self.listener.connections]

    def sweep(self) -> None:
        self.listener.connections.sweep(self.clock())

    async def client(self, buffer: int = 0, source: str = "127.0.0.1") -> Client:
        """`buffer`: bytes of the receive buffers in the kernel and here, to stop the server soon."""
        if not buffer:
            opened = await asyncio.open_connection(*self.listener.address, local_addr=(source, 0))
            client = Client(*opened)
        else:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, self.listener.address)
            client = Client(*await asyncio.open_connection(sock=sock, limit=buffer))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        if isinstance(self.listener, TcpListener):
            await self.listener.close()
        elif self.listener._sock.fileno() >= 0:
            self.listener.close()
        for connection in self.held:
            connection.abort()
        await until(lambda: not len(self.listener.connections))


@asynccontextmanager
async def serving(
    stored: dict[str, object], connections: Connections | None = None, *, tick: float = 0.0
) -> AsyncIterator[Served]:
    """`tick`: seconds that the clock goes on at each look at whether there is time for one more answer."""
    world = World(stored)
    clock = FakeClock()
    turns = Turns(TickingClock(tick))
    world.tcp = world.responder(udp=False, turns=turns)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # inherited: what is unsent stays with us
    listener = TcpListener(
        sock,
        world.tcp,
        world.deferred(world.tcp),
        world.counters,
        clock,
        Connections() if connections is None else connections,
        turns,
    )
    await listener.start()
    served = Served(listener, world, clock)
    try:
        yield served
    finally:
        await served.close()


async def test_a_question_is_answered_and_the_connection_stays() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        for ident in (1, 2, 3):
            client.writer.write(frame(ident=ident))
            response = dns.message.from_wire(await client.answer())
            assert response.id == ident
            assert response.answer[0].to_text() == "web.d.test. 5 IN A 10.0.0.1"
        assert served.world.counters.queries_tcp == 3
        assert sum(served.world.counters.latency_tcp.counts) == 1


async def test_frames_split_byte_by_byte() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        raw = client.writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(ident=1) + frame(ident=2):
            client.writer.write(bytes((byte,)))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert [await client.ident() for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("cut", range(1, 36, 5))
async def test_a_frame_cut_anywhere_waits_for_the_rest(cut: int) -> None:
    async with serving(WEB) as served:
        client = await served.client()
        client.writer.write(frame(ident=1) + frame(ident=2)[:cut])
        assert await client.ident() == 1
        client.writer.write(frame(ident=2)[cut:])
        assert await client.ident() == 2


async def test_a_hundred_queries_in_one_write() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        client.writer.write(b"".join(frame(ident=ident) for ident in range(100)))
        assert [await client.ident() for _ in range(100)] == list(range(100))


async def test_a_half_closed_client_is_still_answered_then_closed() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        client.writer.write(frame(ident=1) + frame(ident=2) + frame()[:9])
        client.writer.write_eof()
        assert [await client.ident() for _ in range(2)] == [1, 2]
        assert await client.at_end()


async def test_a_half_closed_client_gets_all_its_large_answers() -> None:
    """More than fits into any buffer: the server pauses many times on the way."""
    async with serving(BIG) as served:
        client = await served.client(buffer=4096)
        client.writer.write(b"".join(frame("big", ident) for ident in range(30)))
        client.writer.write_eof()
        await until(lambda: any(each._paused for each in served.held))
        assert [await client.ident() for _ in range(30)] == list(range(30))
        assert await client.at_end()


async def test_length_zero_closes_after_the_answers_before_it() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        client.writer.write(frame(ident=1) + b"\0\0" + frame(ident=2))
        assert await client.ident() == 1
        assert await client.at_end()
        assert served.world.counters.queries_tcp == 1


async def test_silence_for_a_response_and_the_connection_stays() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        junk = b"\0\1\x80\0" + bytes(8)
        client.writer.write(len(junk).to_bytes(2, "big") + junk + b"\0\1x" + frame(ident=7))
        assert await client.ident() == 7


async def test_a_frame_of_64_kib_is_one_malformed_query() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        packet = (frame()[2:] + bytes(65535))[:65535]
        client.writer.write(b"\xff\xff" + packet + frame(ident=8))
        assert (await client.answer())[3] & 15 == 1
        assert await client.ident() == 8


async def test_the_system_holds_many_connections_until_they_are_accepted() -> None:
    """Of a listening socket TCP_INFO has the length of its queue where else it has tcpi_sacked."""
    async with serving(WEB) as served:
        assert isinstance(served.listener, TcpListener)
        told = served.listener._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        assert int.from_bytes(told[28:32], sys.byteorder) == min(BACKLOG, SOMAXCONN)


# ---------------------------------------------------------------- turns


async def test_one_connection_with_many_questions_that_must_be_made_delays_no_other() -> None:
    """The clock ticks at each look, so that a turn is two or three answers."""
    async with serving(WEB, tick=SHARE / 2) as served:
        other, greedy = await served.client(), await served.client()
        for ident in range(3):
            other.writer.write(frame(ident=ident))
            assert await other.ident() == ident
        misses: list[int] = []
        counters = served.world.counters
        watch = watching(lambda: counters.misses, misses)
        greedy.writer.write(b"".join(frame(f"x{ident}.y", ident) for ident in range(300)))
        await until(lambda: any(each._waiting for each in served.held))
        began = counters.misses
        other.writer.write(frame(ident=4711))
        assert await other.ident() == 4711
        assert counters.misses < began + 60, "the other's answer is kept, and comes in between"
        third = await served.client()
        third.writer.write(frame("z.y", 7))
        assert await third.ident() == 7
        assert counters.misses < 290, "the third's must be made, and has every other turn"
        assert [await greedy.ident() for _ in range(300)] == list(range(300))
        watch.cancel()
    assert 1 <= max(after - before for before, after in pairwise(misses)) <= 3


async def test_a_half_closed_client_whose_questions_go_by_turns_gets_all_its_answers() -> None:
    async with serving(WEB, tick=SHARE) as served:
        client = await served.client()
        client.writer.write(b"".join(frame(f"x{ident}.y", ident) for ident in range(50)))
        client.writer.write_eof()
        assert [await client.ident() for _ in range(50)] == list(range(50))
        assert await client.at_end()


async def test_a_client_that_goes_while_its_questions_wait_has_no_more_of_them_answered() -> None:
    async with serving(WEB, tick=SHARE) as served:
        client = await served.client()
        client.writer.write(b"".join(frame(f"x{ident}.y", ident) for ident in range(1000)))
        await until(lambda: any(each._waiting for each in served.held))
        (connection,) = served.held
        connection.abort()
        await until(lambda: not served.held and not connection._waiting)
        assert served.world.counters.misses < 900


# ---------------------------------------------------------------- idle and greedy clients


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    assert 10 <= IDLE <= 30
    async with serving(WEB) as served:
        idle, busy = await served.client(), await served.client()
        await until(lambda: len(served.listener.connections) == 2)
        served.clock.advance(IDLE - 1)
        busy.writer.write(frame())
        await busy.answer()
        served.clock.advance(2)
        served.sweep()
        assert await idle.at_end()
        busy.writer.write(frame(ident=5))
        assert await busy.ident() == 5


async def test_dribbling_bytes_do_not_keep_a_connection() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        client.writer.write(frame(ident=1) + frame()[:5])
        assert await client.ident() == 1
        (connection,) = served.held
        for byte in frame()[5:9]:
            served.clock.advance(IDLE / 4 + 0.1)
            held = len(connection._buffer)
            client.writer.write(bytes((byte,)))
            await until(lambda held=held: len(connection._buffer) > held)  # type: ignore[misc]  # a default binds it
        served.sweep()
        assert await client.at_end()


async def test_a_client_that_does_not_read_delays_nobody_and_holds_a_bounded_amount() -> None:
    async with serving(BIG | WEB) as served:
        greedy = await served.client(buffer=4096)
        greedy.writer.write(frame("big") * 3000)
        await until(lambda: any(each._paused for each in served.held))
        (connection,) = served.held
        other = await served.client()
        for ident in range(20):
            other.writer.write(frame(ident=ident))
            assert await other.ident() == ident
        assert connection._transport is not None
        held = connection._transport.get_write_buffer_size() + len(connection._buffer)
        assert held < 2 * HIGH_WATER + 2 * 65537
        served.clock.advance(IDLE + 1)
        served.sweep()
        await until(lambda: connection not in served.held)


async def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    async with serving(WEB, Connections(max_connections=2)) as served:
        first, second = await served.client(), await served.client()
        await until(lambda: len(served.listener.connections) == 2)
        assert await (await served.client()).at_end()
        assert served.world.counters.connections_refused == 1
        for client in (first, second):
            client.writer.write(frame(ident=3))
            assert await client.ident() == 3
        first.writer.close()
        await until(lambda: len(served.listener.connections) == 1)
        third = await served.client()
        third.writer.write(frame(ident=4))
        assert await third.ident() == 4


async def test_when_all_places_are_taken_the_idlest_makes_room() -> None:
    async with serving(WEB, Connections(max_connections=2)) as served:
        idle, busy = await served.client(), await served.client()
        await until(lambda: len(served.listener.connections) == 2)
        served.clock.advance(2)
        busy.writer.write(frame(ident=3))
        assert await busy.ident() == 3
        new = await served.client()
        new.writer.write(frame(ident=4))
        assert await new.ident() == 4
        assert await idle.at_end()
        busy.writer.write(frame(ident=5))
        assert await busy.ident() == 5


async def test_one_client_cannot_take_all_places() -> None:
    async with serving(WEB, Connections(max_per_client=1)) as served:
        first = await served.client()
        await until(lambda: len(served.listener.connections) == 1)
        assert await (await served.client()).at_end()
        other = await served.client(source="127.0.0.2")
        for client in (first, other):
            client.writer.write(frame(ident=3))
            assert await client.ident() == 3


async def test_a_very_old_connection_is_closed_at_its_next_pause() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        for _ in range(int(TOTAL / 10) + 1):
            served.clock.advance(10)
            client.writer.write(frame(ident=3))
            assert await client.ident() == 3
            served.sweep()
        served.clock.advance(2)
        served.sweep()
        assert await client.at_end()


async def test_closing_sends_what_is_answered() -> None:
    async with serving(WEB) as served:
        client = await served.client()
        client.writer.write(frame(ident=1))
        await until(lambda: served.world.counters.queries_tcp == 1)
        assert isinstance(served.listener, TcpListener)
        await served.listener.close()
        assert await client.ident() == 1
        assert await client.at_end()

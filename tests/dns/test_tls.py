"""DNS over TLS (RFC 7858) on real sockets with real certificates, and clients that behave badly at the handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.edns
import dns.message
import pytest

from discovery.dns import tls
from discovery.dns.connections import IDLE, Connections
from discovery.dns.tcp import HIGH_WATER
from discovery.dns.tls import TlsListener
from discovery.dns.turns import Turns
from discovery.tls import server_context
from tests.dns.test_tcp import BIG, WEB, Client, Served, frame
from tests.support.certificates import Files, certificate, client_context
from tests.support.clock import FakeClock
from tests.support.dns import World, query
from tests.support.loop import until


class TlsServed(Served):
    def __init__(self, listener: TlsListener, world: World, clock: FakeClock, files: Files) -> None:
        super().__init__(listener, world, clock)
        self.tls = listener
        self.files = files

    async def secure(self) -> Client:
        opened = await asyncio.open_connection(
            *self.listener.address, ssl=client_context(), server_hostname="localhost"
        )
        client = Client(*opened)
        self._clients.append(client)
        return client


@asynccontextmanager
async def serving(
    stored: dict[str, object], folder: Path, connections: Connections | None = None
) -> AsyncIterator[TlsServed]:
    world = World(stored)
    clock = FakeClock()
    files = certificate(folder)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = TlsListener(
        sock,
        world.tcp,
        world.deferred(world.tcp),
        world.counters,
        clock,
        Connections() if connections is None else connections,
        Turns(clock),
        server_context(str(files.cert), str(files.key), "dns.tls"),
    )
    listener.start()
    served = TlsServed(listener, world, clock, files)
    try:
        yield served
    finally:
        await served.close()


async def ended(client: Client) -> bool:
    """Whether the server closes, perhaps after an alert."""
    try:
        return len(await asyncio.wait_for(client.reader.read(), 10)) < 50
    except ConnectionResetError:
        return True


async def test_many_questions_on_one_connection(tmp_path: Path) -> None:
    async with serving(WEB, tmp_path) as served:
        client = await served.secure()
        client.writer.write(b"".join(frame(ident=ident) for ident in range(100)))
        for ident in range(100):
            response = dns.message.from_wire(await client.answer())
            assert response.id == ident
            assert response.answer[0].to_text() == "web.d.test. 5 IN A 10.0.0.1"
        counters = served.world.counters
        assert (counters.queries_tls, counters.queries_tcp) == (100, 0)
        assert sum(counters.latency_tls.counts) > sum(counters.latency_tcp.counts) == 0


async def test_a_question_sent_with_the_end_of_the_handshake_is_answered(tmp_path: Path) -> None:
    """Blocking, so that handshake and question leave without a turn of our loop between them."""
    async with serving(WEB, tmp_path) as served:

        def ask(ident: int) -> bytes:
            with (
                socket.create_connection(served.listener.address) as plain,
                client_context().wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.sendall(frame(ident=ident))
                return secure.recv(2 + 12)[2:4]

        asked = [asyncio.to_thread(ask, ident) for ident in range(10)]
        assert [int.from_bytes(answer, "big") for answer in await asyncio.gather(*asked)] == list(range(10))


async def test_large_answers_to_a_client_that_reads_late(tmp_path: Path) -> None:
    async with serving(BIG, tmp_path) as served:
        client = await served.secure()
        client.writer.write(b"".join(frame("big", ident) for ident in range(40)))
        assert [await client.ident() for _ in range(40)] == list(range(40))


async def test_a_client_that_does_not_read_delays_nobody_and_holds_a_bounded_amount(tmp_path: Path) -> None:
    async with serving(BIG | WEB, tmp_path) as served:
        greedy = await served.secure()
        greedy.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is one that reads and writes
        (connection,) = served.held
        sending = asyncio.create_task(_send_all(greedy, frame("big") * 3000))
        await until(lambda: connection._paused)
        other = await served.secure()
        for ident in range(20):
            other.writer.write(frame(ident=ident))
            assert await other.ident() == ident
        assert connection._transport is not None
        held = connection._transport.get_write_buffer_size() + len(connection._buffer)
        assert held < 2 * HIGH_WATER + 2 * 65537 + 256 * 1024  # what TLS has read ahead
        served.clock.advance(IDLE + 1)
        served.sweep()
        await until(lambda: connection not in served.held)
        sending.cancel()


async def _send_all(client: Client, content: bytes) -> None:
    try:
        client.writer.write(content)
        await client.writer.drain()
    except ConnectionError:
        return


async def test_padding_is_given_to_those_who_ask(tmp_path: Path) -> None:
    async with serving(WEB, tmp_path) as served:
        client = await served.secure()
        message = query("web", "A")
        message.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.PADDING, b"")])
        packet = message.to_wire()
        client.writer.write(len(packet).to_bytes(2, "big") + packet)
        assert len(await client.answer()) == 468


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(tmp_path: Path) -> None:
    async with serving(WEB, tmp_path) as served:

        def serial(client: Client) -> object:
            return client.writer.get_extra_info("peercert")["serialNumber"]

        first = await served.secure()
        served.files.renew()
        served.tls.context = server_context(str(served.files.cert), str(served.files.key), "dns.tls")
        second = await served.secure()
        assert serial(first) != serial(second)
        for client in (first, second):
            client.writer.write(frame(ident=3))
            assert await client.ident() == 3


async def test_what_is_no_tls_ends_the_connection_alone(tmp_path: Path) -> None:
    async with serving(WEB, tmp_path) as served:
        for junk in (frame(), b"GET / HTTP/1.1\r\n\r\n", bytes(500), b"\x16\x03\x01\xff\xff" + bytes(300)):
            plain = await served.client()
            plain.writer.write(junk)
            assert await ended(plain)
        await until(lambda: not len(served.listener.connections))
        client = await served.secure()
        client.writer.write(frame(ident=3))
        assert await client.ident() == 3


async def test_a_client_that_never_shakes_hands_counts_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(WEB, tmp_path, Connections(max_connections=2)) as served:
        silent = [await served.client() for _ in range(2)]
        await until(lambda: len(served.listener.connections) == 2)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served.secure()
        served.clock.advance(IDLE + 1)
        served.sweep()
        for client in silent:
            assert await client.at_end()
        monkeypatch.setattr(tls, "HANDSHAKE", 0.05)
        assert await (await served.client()).at_end()
        await until(lambda: not len(served.listener.connections))


async def test_a_client_that_goes_during_the_handshake_leaves_nothing(tmp_path: Path) -> None:
    async with serving(WEB, tmp_path) as served:
        for _ in range(5):
            gone = await served.client()
            gone.writer.write(b"\x16\x03\x01")
            gone.writer.transport.abort()
        await until(lambda: not len(served.listener.connections))


async def test_a_client_that_ends_its_session_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(WEB, tmp_path) as served:
        client = await served.secure()
        client.writer.write(frame(ident=3))
        assert await client.ident() == 3
        client.writer.close()
        await until(lambda: not len(served.listener.connections))
    assert caplog.text == ""


async def test_closing_ends_handshakes_too(tmp_path: Path) -> None:
    async with serving(WEB, tmp_path) as served:
        silent, secure = await served.client(), await served.secure()
        await until(lambda: len(served.listener.connections) == 2)
        served.tls.close()
        assert await silent.at_end()
        assert await secure.at_end()


async def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    async with serving(WEB, tmp_path) as served:
        context = client_context()
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1

        def shaken() -> str:
            with socket.create_connection(served.listener.address) as plain:
                secure = context.wrap_socket(
                    plain, server_hostname="localhost", do_handshake_on_connect=False
                )
                with secure:
                    try:
                        secure.do_handshake()
                    except (ssl.SSLError, ConnectionResetError) as error:
                        return type(error).__name__
                    return "done"

        assert await asyncio.to_thread(shaken) != "done"

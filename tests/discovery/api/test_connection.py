"""What is answered, and logged, when bytes are no HTTP or a connection breaks."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn, cast

import aiohttp
import msgspec
import pytest
from aiohttp import web

from discovery.api.admission import Admission
from discovery.api.connection import Connection, Runner
from discovery.metrics import Metrics
from discovery.settings import HttpConfig
from tests.support.api import CONFIG, Api, problem, running_api, until


async def test_headers_over_the_limit_are_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call("GET", "/healthz", headers={"X-Long": "x" * 9000})
        assert "8190 bytes" in problem(answer, 431, "header-too-large")
        answer = await api.call("GET", "/healthz?" + "x" * 9000)
        assert "8192 bytes" in problem(answer, 414, "uri-too-long")
        assert (await api.call("GET", "/metrics", headers={"X-Long": "x" * 8000})).status == 200


async def exchange(api: Api, sent: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Status line, headers and body of what comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection(api.host, api.port)
    writer.write(sent)
    async with asyncio.timeout(5):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.split(b"\r\n")
    headers = dict(line.decode().split(": ", 1) for line in lines)
    return status, headers, body


@pytest.mark.parametrize(
    "sent",
    [
        b"FOO.. / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
        b"PUT /v1/services/a/b HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    async with running_api(tmp_path) as api:
        status, headers, body = await exchange(api, sent)
    assert status.split()[1] == b"400"
    assert headers["Content-Type"] == "application/problem+json"
    document = json.loads(body)
    assert document["type"] == "/problems/bad-request"
    assert document["detail"].startswith("this is not HTTP/1.1 as it should be: ")
    assert "\n" not in document["detail"]
    assert caplog.records == []


async def closed_at_once(api: Api) -> bool:
    """Whether a new connection ends without a word; else it has answered, and is closed."""
    reader, writer = await asyncio.open_connection(api.host, api.port)
    try:
        async with asyncio.timeout(5):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return await reader.read() == b""
    except ConnectionError:
        return True
    finally:
        writer.close()


async def hold(api: Api) -> asyncio.StreamWriter:
    """A connection that is there for the node too."""
    reader, writer = await asyncio.open_connection(api.host, api.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    return writer


@pytest.mark.parametrize(
    ("http", "setting"),
    [
        (HttpConfig(max_connections=2), "http.max_connections"),
        (HttpConfig(max_connections_per_client=2), "http.max_connections_per_client"),
    ],
)
async def test_a_connection_beyond_a_limit_is_closed_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, http: HttpConfig, setting: str
) -> None:
    config = msgspec.structs.replace(CONFIG, http=http)
    async with running_api(tmp_path, config, is_exempt=lambda address: False) as api:
        held = [await hold(api), await hold(api)]
        for _ in range(3):
            assert await closed_at_once(api)
        assert api.metrics.http_connections_refused == 3
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1
        assert f"2 ({setting}); 1 since" in lines[0] or f"2 are open ({setting}); 1 since" in lines[0]
        held[0].close()
        await until(lambda: len(api.parts.admission) == 1)
        assert not await closed_at_once(api)
        api.parts.admission.limit(HttpConfig())
        held += [await hold(api), await hold(api)]
        assert "discovery_http_connections_refused_total 3.0" in (await api.call("GET", "/metrics")).text
        for writer in held:
            writer.close()


async def test_loopback_has_no_limit_of_a_client(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, http=HttpConfig(max_connections_per_client=1))
    async with running_api(tmp_path, config) as api:
        held = [await hold(api), await hold(api)]
        assert not await closed_at_once(api)
        for writer in held:
            writer.close()


@asynccontextmanager
async def unread(
    write_seconds: float, more: str = "keep-alive"
) -> AsyncIterator[tuple[Connection, socket.socket, Admission]]:
    """A connection with much more to send than the kernel holds for its client, which has read nothing."""
    asked: list[Connection] = []

    async def large(request: web.Request) -> web.Response:
        asked.append(cast(Connection, request.protocol))
        return web.Response(body=bytes(32 << 20))

    app = web.Application()
    app.router.add_get("/", large)
    admission = Admission(HttpConfig(), Metrics())
    runner = Runner(app, admission, shutdown_timeout=0.1, write_seconds=write_seconds)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with socket.create_connection(runner.addresses[0][:2]) as client:
            client.setblocking(False)
            client.send(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: {more}\r\n\r\n".encode())
            await until(lambda: bool(asked) and (asked[0].writing_paused or not asked[0].connected))
            yield asked[0], client, admission
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("more", ["keep-alive", "close"])
async def test_who_takes_nothing_of_an_answer_is_cut_off(more: str) -> None:
    async with unread(0.05, more) as (connection, _, admission):
        await until(lambda: len(admission) == 0)
        assert not connection.connected


@pytest.mark.parametrize("more", ["keep-alive", "close"])
async def test_the_rest_of_a_last_answer_does_not_wait_for_ever(more: str) -> None:
    """One that the transport's buffer holds, so that nothing but its client waits for it; then nobody asks again."""

    async def small(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        answered.append(cast(Connection, request.protocol))
        return web.Response(body=bytes(60_000))

    answered: list[Connection] = []
    app = web.Application()
    app.router.add_get("/", small)
    admission = Admission(HttpConfig(), Metrics())
    runner = Runner(app, admission, shutdown_timeout=0.1, write_seconds=0.05, keepalive_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(runner.addresses[0][:2])
            client.send(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: {more}\r\n\r\n".encode())
            await until(lambda: bool(answered) and len(admission) == 0, seconds=30)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("more", ["keep-alive", "close"])
async def test_who_takes_an_answer_slowly_is_not_cut_off(more: str) -> None:
    async with unread(3600, more) as (connection, client, admission):
        transport = connection.transport
        assert transport is not None
        for _ in range(3):
            before = transport.get_write_buffer_size()
            wanted = before - (1 << 20)
            while transport.get_write_buffer_size() > wanted:
                await asyncio.get_running_loop().sock_recv(client, 1 << 16)
            connection.look(transport)
            assert len(admission) == 1
            assert not transport.is_closing()

        def is_cut_off() -> bool:
            if len(admission):
                connection.look(transport)
            return len(admission) == 0

        await until(is_cut_off, seconds=5)  # for now it takes nothing


async def test_a_caller_that_left_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def leave(request: web.Request) -> NoReturn:
        raise ConnectionResetError("as a write to it says")

    app = web.Application()
    app.router.add_get("/", leave)
    runner = Runner(app, Admission(HttpConfig(), Metrics()), shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.get(f"http://{host}:{port}/")
    finally:
        await runner.cleanup()
    assert caplog.records == []


async def test_a_fault_outside_of_the_handlers_is_a_problem_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_api(tmp_path) as api:
        del api.metrics.http_requests  # what the outermost middleware counts in
        problem(await api.call("GET", "/healthz"), 500, "internal")
    assert "AttributeError" in caplog.text


async def test_a_request_that_ends_just_when_the_node_no_longer_waits_for_it_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    read: asyncio.Future[None] = loop.create_future()
    at_work = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        at_work.set()
        await read
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", slow)
    limit = 0.1
    runner = Runner(app, Admission(HttpConfig(), Metrics()), shutdown_timeout=limit)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await at_work.wait()
    assert runner._server is not None
    (connection,) = runner._server.connections
    assert isinstance(connection, Connection)

    def over() -> None:
        """So that the request ends in the very turn of the loop in which the wait for it does, and before it."""
        time.sleep(2 * limit)
        loop.call_soon(read.set_result, None)

    stopping = asyncio.create_task(runner.cleanup())
    await until(lambda: connection._at_work is not None)
    waiting = connection._at_work
    assert waiting is not None
    loop.call_soon(over)
    await stopping
    writer.close()
    assert waiting.cancelled()
    assert caplog.records == []

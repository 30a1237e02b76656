"""What is answered, and logged, when bytes are no HTTP or a connection breaks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NoReturn

import aiohttp
import pytest
from aiohttp import web

from discovery.api.connection import Runner
from tests.support.api import Api, problem, running_api


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


async def test_a_caller_that_left_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def leave(request: web.Request) -> NoReturn:
        raise ConnectionResetError("as a write to it says")

    app = web.Application()
    app.router.add_get("/", leave)
    runner = Runner(app, shutdown_timeout=1)
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

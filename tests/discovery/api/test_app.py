"""The application as a whole: what lies around the routes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from discovery.api import bodies
from tests.support.api import running_api


async def test_a_connection_that_never_finishes_its_headers_is_closed(tmp_path: Path) -> None:
    async with running_api(tmp_path, idle_seconds=0.1) as api:
        for begin in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection(api.host, api.port)
            writer.write(begin)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()


async def test_a_connection_is_closed_when_it_is_idle_after_an_answer(tmp_path: Path) -> None:
    async with running_api(tmp_path, idle_seconds=0.1) as api:
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_headers_over_the_limit_are_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.call("GET", "/healthz", headers={"X-Long": "x" * 9000})).status == 400
        assert (await api.call("GET", "/healthz?" + "x" * 9000)).status in (400, 414)


async def test_a_body_that_never_arrives_is_given_up(tmp_path: Path) -> None:
    async with running_api(tmp_path, idle_seconds=0.1) as api:
        limit, bodies.BODY_SECONDS = bodies.BODY_SECONDS, 0.05
        try:
            reader, writer = await asyncio.open_connection(api.host, api.port)
            writer.write(b"PUT /v1/services/a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            writer.close()
        finally:
            bodies.BODY_SECONDS = limit

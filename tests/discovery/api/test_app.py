"""The application as a whole: what lies around the routes."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from discovery.api import bodies
from tests.support.api import problem, running_api


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


async def test_a_compressed_body_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = "/v1/services/web.prod/i1"
    content = b'{"host": "10.0.0.1"}'
    async with running_api(tmp_path) as api:
        for encoding, sent in (("gzip", content), ("gzip", gzip.compress(content)), ("br", content)):
            headers = {"Content-Encoding": encoding}
            answer = await api.call("PUT", one, content=sent, headers=headers)
            assert encoding in problem(answer, 415, "unsupported-encoding", "Content-Encoding")
        for encoding in ("identity", "Identity", ""):
            answer = await api.call("PUT", one, content=content, headers={"Content-Encoding": encoding})
            assert answer.status in (200, 201)
    assert caplog.records == []


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

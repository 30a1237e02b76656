"""A watch over real connections that break, end, fall behind and forget; what its lines mean is test_watched's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from discovery.client import Client, NotAllowed
from tests.support.api import until
from tests.support.http_node import problem

Script = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def line(kind: str, revision: int, instance: str = "", **more: object) -> bytes:
    fields = {"service": "web", "instance": instance, "name": f"{instance}.web."} if instance else {}
    return json.dumps({"type": kind, "revision": revision, **fields, **more}).encode() + b"\n"


class Watching:
    """Each connection is one of the `scripts`, in turn; `asked` has the query of each. A script that is an answer is
    given at once."""

    def __init__(self, *scripts: Script | web.Response) -> None:
        self.scripts = list(scripts)
        self.asked: list[dict[str, str]] = []
        self.open = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        script = self.scripts.pop(0)
        if isinstance(script, web.Response):
            return script
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        self.open += 1
        try:
            await script(request, response)
        finally:
            self.open -= 1
        return response


def says(*lines: bytes) -> Script:
    """And ends."""

    async def script(_: web.Request, response: web.StreamResponse) -> None:
        for each in lines:
            await response.write(each)

    return script


def breaks_after(*lines: bytes) -> Script:
    async def script(request: web.Request, response: web.StreamResponse) -> None:
        await says(*lines)(request, response)
        assert request.transport is not None
        request.transport.abort()

    return script


def stays_after(*lines: bytes) -> Script:
    async def script(request: web.Request, response: web.StreamResponse) -> None:
        await says(*lines)(request, response)
        await asyncio.Event().wait()

    return script


@asynccontextmanager
async def serving(watching: Watching) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_get("/v1/watch", watching.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Client(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
            yield client
    finally:
        await runner.cleanup()


async def told(client: Client, count: int, since: int | None = None) -> list[str]:
    out: list[str] = []
    async with aclosing(client.watch("web", since=since)) as events:
        async for event in events:
            out.append(
                f"{event.type} {event.revision} {event.instance.instance if event.instance else ''}".strip()
            )
            if len(out) == count:
                break
    return out


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A break is followed by the next try at once."""
    monkeypatch.setattr("discovery.client.client.PAUSE", 0.002)


@pytest.mark.parametrize("end", [says, breaks_after])
async def test_it_goes_on_from_the_last_whole_revision(end: Callable[..., Script]) -> None:
    first = end(line("put", 3, "a"), line("synced", 5), line("put", 6, "b"), line("put", 7, "c", more=True))
    watching = Watching(first, stays_after(line("put", 7, "c", more=True), line("delete", 7, "a")))
    async with serving(watching) as client:
        assert await told(client, 5) == ["put 3 a", "synced 5", "put 6 b", "put 7 c", "delete 7 a"]
    assert watching.asked == [{"service": "web"}, {"service": "web", "since": "6"}]


async def test_lines_come_in_any_pieces() -> None:
    text = line("put", 3, "a") + b"\n" + line("put", 4, "b") + line("synced", 5)
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    async with serving(Watching(stays_after(*pieces))) as client:
        assert await told(client, 3) == ["put 3 a", "put 4 b", "synced 5"]


async def test_what_the_node_no_longer_knows_is_told_anew() -> None:
    watching = Watching(
        says(line("put", 3, "a"), line("put", 4, "b"), line("synced", 5)),
        problem(410, "revision 5 is compacted"),
        stays_after(line("put", 9, "b"), line("synced", 9)),
    )
    async with serving(watching) as client:
        assert await told(client, 6) == [
            "put 3 a",
            "put 4 b",
            "synced 5",
            "put 9 b",
            "delete 9 a",
            "synced 9",
        ]
    assert [each.get("since") for each in watching.asked] == [None, "5", None]


async def test_it_waits_for_a_node_and_comes_back_after_it_fell_behind() -> None:
    watching = Watching(
        problem(503, "not ready"),
        says(line("synced", 5), b'{"type":"lagged"}\n'),
        stays_after(line("put", 6, "a")),
    )
    async with serving(watching) as client:
        assert await told(client, 2) == ["synced 5", "put 6 a"]


async def test_silence_is_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discovery.client.client.SILENCE", 0.05)
    watching = Watching(stays_after(line("put", 6, "a")), stays_after(line("put", 7, "b")))
    async with serving(watching) as client:
        assert await told(client, 2, since=5) == ["put 6 a", "put 7 b"]
    assert [each["since"] for each in watching.asked] == ["5", "6"]


async def test_a_no_ends_it() -> None:
    async with serving(Watching(problem(403, "the token may not read web"))) as client:
        with pytest.raises(NotAllowed, match="may not read web"):
            await told(client, 1)


async def test_cancelled_it_leaves_no_connection() -> None:
    watching = Watching(stays_after(line("synced", 5)))
    async with serving(watching) as client:
        task = asyncio.create_task(told(client, 2))
        await until(lambda: watching.open == 1, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: watching.open == 0, 30)

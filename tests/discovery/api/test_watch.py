"""Watching over a real socket: what is there, what changes, going on, and being too slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from discovery.api import topics as topics_module
from discovery.api import watch as watch_module
from discovery.api.changes import CHANGES
from discovery.kv.contract import Compacted, Unavailable, WatchBatch
from discovery.kv.embedded import EmbeddedStore
from tests.support.api import Api, problem, running_api, until

DEADLINE = 30.0  # seconds for what must come


class Reader:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def line(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.response.content.readline()

    async def event(self) -> Any:
        while True:
            line = await self.line()
            assert line, "the stream ended"
            if line.strip():
                return json.loads(line)

    async def events(self, number: int) -> list[Any]:
        return [await self.event() for _ in range(number)]

    async def until_synced(self) -> list[Any]:
        told: list[Any] = []
        while not told or told[-1]["type"] != "synced":
            told.append(await self.event())
        return told


@asynccontextmanager
async def watching(api: Api, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    url = f"http://{api.host}:{api.port}/v1/watch{query}"
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    async with api.session.get(url, headers=sent) as response:
        assert response.status == 200, await response.text()
        yield Reader(response)


async def put(api: Api, name: str, **fields: object) -> int:
    answer = await api.call("PUT", f"/v1/services/{name}", {"host": "10.0.0.1", **fields})
    assert answer.status in (200, 201), answer
    return int(answer.headers["X-Revision"])


async def delete(api: Api, name: str) -> int:
    answer = await api.call("DELETE", f"/v1/services/{name}")
    assert answer.status == 204, answer
    return int(answer.headers["X-Revision"])


def brief(events: list[Any]) -> list[tuple[str, str, int]]:
    return [(each["type"], each.get("instance", ""), each["revision"]) for each in events]


async def test_what_is_there_then_synced_then_changes(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        first = await put(api, "web.prod/i1", port=80)
        await put(api, "mail.prod/i1")
        second = await put(api, "web.prod/i2")
        async with watching(api, "?service=web.prod") as reader:
            assert reader.response.headers["Content-Type"] == "application/x-ndjson"
            assert reader.response.headers["X-Revision"] == str(second)
            told = await reader.until_synced()
            assert brief(told) == [("put", "i1", first), ("put", "i2", second), ("synced", "", second)]
            listed = (await api.call("GET", "/v1/services/web.prod")).body["instances"]
            assert [{k: v for k, v in e.items() if k not in ("type", "more")} for e in told[:2]] == listed
            await put(api, "mail.prod/i2")
            third = await put(api, "web.prod/i3")
            gone = await delete(api, "web.prod/i1")
            assert brief(await reader.events(1)) == [("put", "i3", third)]
            assert await reader.event() == {
                "type": "delete",
                "revision": gone,
                "service": "web.prod",
                "instance": "i1",
                "name": "i1.web.prod.discovery.internal.",
                "reason": "deregistered",
            }


async def test_a_lease_that_ends_takes_all_in_one_revision(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 15})).body["id"]
        other = (await api.call("POST", "/v1/leases", {"ttl": 3000})).body["id"]
        for name in ("web.prod/i1", "web.prod/i2", "mail.prod/i1"):
            await put(api, name, lease=lease)
        for name in ("web.prod/i3", "web.prod/i4"):
            await put(api, name, lease=other)
        async with watching(api, "?service=web.prod") as reader, watching(api) as everything:
            await reader.until_synced()
            await everything.until_synced()
            await api.expire(60)
            one, two = await reader.events(2)
            assert (one["type"], one["more"], one["reason"]) == ("delete", True, "expired")
            assert (two["type"], "more" in two, two["revision"]) == ("delete", False, one["revision"])
            assert [each.get("more") for each in await everything.events(3)] == [True, True, None]
            assert (await api.call("DELETE", f"/v1/leases/{other}")).status == 204
            assert [each["reason"] for each in await reader.events(2)] == ["deregistered"] * 2


async def test_what_is_drained_says_so(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await put(api, "web.prod/i1")
        async with watching(api, "?service=web.prod") as reader:
            await reader.until_synced()
            assert (await api.call("POST", "/v1/services/web.prod/i1/drain")).status == 200
            assert (await reader.event())["reason"] == "drained"
            assert (await api.call("POST", "/v1/services/web.prod/i1/undrain")).status == 200
            assert (await reader.event())["type"] == "put"


async def test_server_sent_events(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await put(api, "web.prod/i1")
        async with watching(api, "?service=web.prod", Accept="text/event-stream") as reader:
            assert reader.response.headers["Content-Type"] == "text/event-stream"
            lines = [await reader.line() for _ in range(2)]
            assert lines[0].startswith(b'data: {"type":"put"')
            assert lines[1] == b"\n"
            lines = [await reader.line() for _ in range(3)]
            revision = int(lines[0].removeprefix(b"id: "))
            assert json.loads(lines[1].removeprefix(b"data: ")) == {"type": "synced", "revision": revision}
        missed = await put(api, "web.prod/i2")
        again = {"Accept": "text/event-stream", "Last_Event_ID": str(revision)}
        async with watching(api, "?service=web.prod&since=1", **again) as reader:
            assert await reader.line() == b"id: %d\n" % missed
            assert json.loads((await reader.line()).removeprefix(b"data: "))["instance"] == "i2"


@pytest.mark.parametrize("restarted", [False, True], ids=["same node", "a node that has just loaded"])
async def test_going_on_misses_nothing_and_repeats_nothing(tmp_path: Path, restarted: bool) -> None:
    revisions: list[int] = []
    async with running_api(tmp_path) as api:
        revisions += [await put(api, f"web.prod/i{number}") for number in range(5)]
        await put(api, "mail.prod/i1")
        revisions.append(await delete(api, "web.prod/i0"))
        if not restarted:
            await going_on(api, revisions)
    if restarted:
        async with running_api(tmp_path) as api:
            await going_on(api, revisions)


async def going_on(api: Api, revisions: list[int]) -> None:
    async with watching(api, f"?service=web.prod&since={revisions[1]}") as reader:
        told = brief(await reader.events(4))
        expected = [("put", f"i{number}", revisions[number]) for number in range(2, 5)]
        assert told == [*expected, ("delete", "i0", revisions[5])]
        revision = 0
        for number in range(20):
            revision = await put(api, "web.prod/x", port=number + 1)
            assert brief(await reader.events(1)) == [("put", "x", revision)]
    async with watching(api, f"?since={revision}") as reader:
        last = await put(api, "web.prod/y")
        assert brief(await reader.events(1)) == [("put", "y", last)]


@pytest.mark.slow
async def test_going_on_while_others_write(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        start = await put(api, "web.prod/first")
        wanted = [f"i{number}" for number in range(150)]

        async def write() -> None:
            for name in wanted:
                await put(api, f"web.prod/{name}")

        async def read() -> None:
            since, told = start, list[str]()
            while len(told) < len(wanted):
                async with watching(api, f"?service=web.prod&since={since}") as reader:
                    for _ in range(min(7, len(wanted) - len(told))):
                        event = await reader.event()
                        assert event["revision"] > since
                        since = event["revision"]
                        told.append(event["instance"])
            assert told == wanted

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            for _ in range(3):
                group.create_task(read())


async def test_a_subtree_and_everything(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await put(api, "eu.web.prod/i1")
        async with (
            watching(api, "?service=web.prod&subtree=true") as below,
            watching(api, "?service=web.prod") as direct,
            watching(api) as everything,
        ):
            assert [each["type"] for each in await below.until_synced()] == ["put", "synced"]
            assert [each["type"] for each in await direct.until_synced()] == ["synced"]
            await everything.until_synced()
            await put(api, "mail.prod/i1")
            await put(api, "us.web.prod/i2")
            await put(api, "web.prod/i3")
            assert [each["instance"] for each in await below.events(2)] == ["i2", "i3"]
            assert [each["instance"] for each in await direct.events(1)] == ["i3"]
            assert [each["instance"] for each in await everything.events(3)] == ["i1", "i2", "i3"]


async def test_revisions_that_are_compacted_or_of_another_store(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        old = last = await put(api, "web.prod/i1")
        for port in range(1, 5):
            last = await put(api, "web.prod/i1", port=port)
        assert (await api.call("POST", "/v1/store/compact")).status == 200
        problem(await api.call("GET", f"/v1/watch?since={old}"), 410, "compacted")
        for ahead in (1, 2, 1000):
            problem(await api.call("GET", f"/v1/watch?since={last + ahead}"), 410, "future-revision")
        problem(await api.call("GET", "/v1/watch?since=x"), 400, "invalid-field", "since")
        problem(await api.call("GET", "/v1/watch?sins=1"), 400, "invalid-field", "sins")
        problem(await api.call("GET", "/v1/watch?service=a..b"), 400, "invalid-field", "service")
        problem(await api.call("GET", "/v1/watch?subtree=1"), 400, "invalid-field", "subtree")
        assert (await api.call("HEAD", "/v1/watch")).status == 200


async def test_an_unreadable_record_is_gone(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await put(api, "web.prod/i1")
        async with watching(api, "?service=web.prod") as reader:
            await reader.until_synced()
            await api.store.put(b"/skydns/internal/discovery/prod/web/i1", b"not JSON")
            event = await reader.event()
            assert (event["type"], event["instance"], "reason" in event) == ("delete", "i1", False)


async def test_a_line_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics_module, "KEEP_ALIVE", 0.01)
    async with running_api(tmp_path) as api:
        async with watching(api) as reader:
            await reader.until_synced()
            assert [await reader.line() for _ in range(2)] == [b"\n", b"\n"]
        async with watching(api, Accept="text/event-stream") as reader:
            lines = [await reader.line() for _ in range(7)]
            assert lines[-4:] == [b":\n", b"\n"] * 2


@pytest.mark.slow  # fills what the system holds for a socket
async def test_a_reader_that_is_too_slow_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics_module, "RING_BYTES", 1000)
    async with running_api(tmp_path) as api:
        streams = api.app[CHANGES]
        async with watching(api, "?service=web.prod") as reader:
            await reader.until_synced()
            text = "x" * 50_000
            (topic,) = streams.topics()
            for number in range(400):  # far more than the system holds for a socket
                await put(api, f"web.prod/i{number % 7}", text=f"{number}{text}")
            told = []
            while line := await reader.line():
                told.append(json.loads(line)) if line.strip() else None
            assert told[-1] == {"type": "lagged"}
            assert 0 < len(told) < 400
            revisions = [each["revision"] for each in told[:-1]]
            assert revisions == list(range(revisions[0], revisions[0] + len(revisions)))
        await until(lambda: topic.closed)


@pytest.mark.slow
async def test_a_reader_that_does_not_read_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "WRITE_SECONDS", 0.05)
    async with running_api(tmp_path) as api, watching(api) as reader:
        await reader.until_synced()
        text, number = "x" * 50_000, 0
        while api.app[CHANGES].topics():
            await put(api, "web.prod/i1", text=f"{(number := number + 1)}{text}")


async def test_the_hub_forgets_streams_that_went(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        async with watching(api) as one, watching(api) as two:
            await one.until_synced()
            await two.until_synced()
            (topic,) = api.app[CHANGES].topics()
            assert topic.streams == 2
        number = 0
        while api.app[CHANGES].topics():  # a write finds out that nobody is there
            await put(api, "web.prod/i1", port=(number := number + 1))
        assert topic.closed


async def test_streams_end_when_the_node_stops(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, watching(api) as reader:
        await reader.until_synced()
        api.app[CHANGES].close()
        assert await reader.line() == b""


class _BreaksAtTheEnd(EmbeddedStore):
    """Whose watches, while `broken`, end with an error, as etcd's do when the connection goes."""

    broken = False

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        async with super().watch(key, end, from_revision=from_revision, history=history) as batches:
            yield batches
        if self.broken:
            raise Unavailable("the connection is gone")


async def test_a_stream_that_breaks_as_it_joins_is_forgotten(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=_BreaksAtTheEnd) as api:
        since = await put(api, "web.prod/i1")
        await put(api, "web.prod/i2")
        assert isinstance(api.store, _BreaksAtTheEnd)
        api.store.broken = True
        async with watching(api, f"?since={since}") as reader:
            assert (await reader.event())["instance"] == "i2"
            assert (await reader.event()) == {"type": "lagged"}
        api.store.broken = False
        assert not api.app[CHANGES].topics()


class _CompactedLate(EmbeddedStore):
    """Whose watches say that a revision is compacted only after a while, as etcd under load does."""

    late = False

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        async def nothing() -> AsyncIterator[WatchBatch]:
            await asyncio.sleep(0.02)
            if self.late:
                raise Compacted(from_revision + 1)
            yield WatchBatch(from_revision, ())

        if self.late:
            yield nothing()
        else:
            async with super().watch(key, end, from_revision=from_revision, history=history) as batches:
                yield batches


@pytest.mark.parametrize("patience", [DEADLINE, 0.0])
async def test_a_revision_that_the_store_tells_late_to_be_compacted_is_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(watch_module, "FIRST_WORD", patience)
    async with running_api(tmp_path, store_type=_CompactedLate) as api:
        since = await put(api, "web.prod/i1")
        await put(api, "web.prod/i2")
        assert isinstance(api.store, _CompactedLate)
        api.store.late = True
        if not patience:  # the answer has begun when it is known
            async with watching(api, f"?since={since}") as reader:
                await until_end(reader)
        problem(await api.call("GET", f"/v1/watch?since={since}"), 410, "compacted")


async def until_end(reader: Reader) -> None:
    told = []
    while line := await reader.line():
        told.append(line.strip())
    assert [json.loads(line) for line in told if line] == [{"type": "lagged"}]

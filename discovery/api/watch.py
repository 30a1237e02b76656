"""/v1/watch: a stream of changes, as lines of JSON or as server-sent events.

Owns the route and one stream's way: what is there, or what has been missed since a revision (the store's own watch
tells), and then its topic of the hub, with neither a gap nor an event twice. It never buffers: a reader who is behind
by more than the topic's ring is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import islice
from typing import cast

from aiohttp import web
from aiohttp.http import StreamWriter

from discovery import names
from discovery.api import bodies, events
from discovery.api.answers import reflect
from discovery.api.changes import CHANGES, EVERYTHING, Changes, Scope, covers
from discovery.api.events import Format, Told
from discovery.api.fields import named_service, of_record
from discovery.api.parts import PARTS, ApiParts
from discovery.api.topics import KEEP_ALIVE, Send, Topic
from discovery.errors import InvalidField, StoreError
from discovery.kv.contract import Compacted, WatchBatch, prefix_end
from discovery.raw_keys import WAIT_FOR_VIEW
from discovery.tree import Record

MAX_REVISION = (1 << 63) - 2
WRITE_SECONDS = 30.0
FIRST_WORD = 1.0  # seconds that etcd is given to say that a revision is compacted; it takes a tenth of one
PRESENT = 256  # instances in one write, after which others get their turn
CONTENT_TYPES = {"ndjson": "application/x-ndjson", "sse": "text/event-stream"}


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/watch", watch)]


async def watch(request: web.Request) -> web.StreamResponse:
    parts, changes = request.app[PARTS], request.app[CHANGES]
    parameters = dict(bodies.query(request, "service", "subtree", "since"))
    scope = _scope(parts, parameters)
    form: Format = "sse" if "text/event-stream" in request.headers.get("Accept", "") else "ndjson"
    if "Last-Event-ID" in request.headers:  # an EventSource comes again with the URL of the first time
        parameters["since"] = request.headers["Last-Event-ID"]
    since = bodies.number(parameters, "since", 0, MAX_REVISION)
    stream = Stream(request, changes, scope, form)
    if request.method == "HEAD":
        return stream.response
    with suppress(ConnectionError):  # the reader has gone
        await stream.run(since)
    return stream.response


def _scope(parts: ApiParts, parameters: dict[str, str]) -> Scope:
    subtree = bodies.flag(parameters, "subtree")
    text = parameters.get("service")
    if text is None:
        if subtree:
            raise InvalidField("subtree: it needs a service", field="subtree")
        return EVERYTHING
    return Scope(named_service(parts, text), subtree)


class Stream:
    """One reader's. `response` is prepared with the first word, so that what can be refused is refused."""

    def __init__(self, request: web.Request, changes: Changes, scope: Scope, form: Format) -> None:
        self._request = request
        self._parts = request.app[PARTS]
        self._changes = changes
        self._scope = scope
        self._form: Format = form
        self._topic: Topic | None = None  # that was entered
        headers = {
            "Content-Type": CONTENT_TYPES[form],
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # a proxy must not hold lines back
        }
        self.response = reflect(request, web.StreamResponse(headers=headers))

    async def run(self, since: int | None) -> None:
        """Tells all there is to tell, until the reader goes, is too slow, or the node stops.

        Raises Compacted and FutureRevision before anything was told, and ConnectionError.
        """
        try:
            if since is None:
                topic, position = self._enter()
                await self._present()
                await self._follow(topic, position)
            elif (joined := await self._catch_up(since)) is not None:
                await self._prepare()
                await self._follow(*joined)
        except StoreError as error:
            if isinstance(error, Compacted):
                self._changes.compacted = max(error.compact_revision, self._changes.compacted)
            if not self.response.prepared:
                raise
        finally:
            if self._topic is not None:
                self._changes.leave(self._scope, self._topic)
        if self.response.prepared:
            if not self._changes.closed:
                await self._write(events.lagged(self._form))
            await self.response.write_eof()

    def _enter(self) -> tuple[Topic, int]:
        self._topic = self._changes.enter(self._scope, self._form)
        return self._topic, self._topic.join()

    async def _prepare(self) -> None:
        if not self.response.prepared:
            await self.response.prepare(self._request)

    async def _write(self, piece: bytes) -> None:
        """Raises ConnectionError; so it does for a reader that has taken nothing for WRITE_SECONDS."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self.response.write(piece)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionAbortedError("nobody reads what was written") from None

    async def _follow(self, topic: Topic, position: int) -> None:
        reader = topic.reader(position, self._send())
        while (piece := await reader.next()) is not None:
            await self._write(piece)

    def _send(self) -> Send | None:
        """Past the response, whose way costs four times as much; None where the body is not sent in chunks."""
        if not cast(StreamWriter, self._request.writer).chunked:
            return None
        connection = self._request.protocol

        def send(chunk: bytes) -> bool:
            transport = connection.transport
            if transport is None or connection.writing_paused:
                return False
            transport.write(chunk)
            return True

        return send

    async def _present(self) -> None:
        """All that is there now, which later changes do not touch, and that this was all."""
        revision = self._parts.view.revision
        records = self._records()
        await self._prepare()
        each = iter(records)
        while some := list(islice(each, PRESENT)):
            # Whoever is cut off before the end has seen no whole revision to go on from.
            lines = [
                Told(record.revision, of_record(self._parts, record, record.fields)).line(
                    self._form, more=True
                )
                for record in some
                if record.fields is not None
            ]
            await self._write(b"".join(lines))
            await asyncio.sleep(0)
        await self._write(events.synced(self._form, revision))

    def _records(self) -> list[Record]:
        service, subtree = self._scope
        branch = self._parts.view.find(service or ())
        if branch is None:
            return []
        if service is None or subtree:
            return [record for record in branch.walk() if record.path]
        return [record for child in branch.ordered() for record in child.records]

    # ------------------------------------------------------------ what was missed

    async def _catch_up(self, since: int) -> tuple[Topic, int] | None:
        """Tells what the store knows of after `since`, until the hub can go on; None: nobody reads, or it stops."""
        if self._changes.holds_all_since(since):
            return self._enter()
        if since < self._changes.compacted:
            raise Compacted(self._changes.compacted)
        prefix = self._parts.config.store.prefix.encode() + b"/"
        # One revision early, see Store.watch, where that can't hide that the revision belongs to another store.
        first = since + 1 if since > self._parts.view.revision else max(1, since)
        watching = self._parts.store.watch(prefix, prefix_end(prefix), from_revision=first)
        async with watching as batches:
            await self._parts.feed.wait(since, WAIT_FOR_VIEW)
            if self._changes.holds_all_since(since):
                return self._enter()
            async for batch in _with_pauses(batches, FIRST_WORD, KEEP_ALIVE):
                await self._prepare()
                if self._changes.closed or self._request.transport is None:
                    return None
                if batch is None:
                    await self._write(events.keep_alive(self._form))
                elif batch.revision > since:
                    since = batch.revision
                    if told := b"".join(self._lines(batch)):
                        await self._write(told)
                await self._parts.feed.wait(since, KEEP_ALIVE)
                if self._changes.holds_all_since(since):
                    return self._enter()
        return None

    def _lines(self, batch: WatchBatch) -> Iterator[bytes]:
        told = []
        for event in batch.events:
            path = names.path_of(event.kv.key, self._parts.config.store.prefix)
            if path and covers(self._scope, path):
                told.append(self._changes.told(path, event, batch.revision, past=True))
        for each in told:
            yield each.line(self._form, more=each is not told[-1])


async def _with_pauses(
    batches: AsyncIterator[WatchBatch], first: float, seconds: float
) -> AsyncIterator[WatchBatch | None]:
    """The batches, and None whenever none came for `seconds`, at the beginning for `first`."""
    pause = first
    waiting: asyncio.Task[WatchBatch] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(batches))
            done, _ = await asyncio.wait((waiting,), timeout=pause)
            pause = seconds
            if not done:
                yield None
                continue
            try:
                batch = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield batch
    finally:
        if waiting is not None:
            waiting.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, StoreError):
                await waiting

"""One watch on an etcd cluster, from member to member.

Owns one gRPC stream at a time. It never waits for a slow reader nor buffers for it: who does not read, is not read
for, and etcd replays. How: what breaks goes on after the last event's revision on the next member, paced; a header's
revision tells where to go on only in etcd's periodic progress messages, elsewhere it runs ahead. Before each
beginning the cluster is asked for its revision: on one that was replaced, a watch would wait for ever. Whoever knows
that the stream can't be trusted (the store's look around) moves it: `look`, `interrupt`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType

import grpc.aio
from google.protobuf.message import Message

from discovery.errors import StoreError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Compacted, FutureRevision, Unavailable, WatchBatch
from discovery.kv.etcd_codec import Codec, start_of
from discovery.kv.etcd_endpoints import CALL_LIMIT, WATCH, Endpoint, Endpoints, Metadata, Refused, verdict_of
from discovery.kv.etcd_errors import Verdict, judge
from discovery.kv.etcd_history import History

log = logging.getLogger(__name__)

STEADY = 5.0  # seconds a stream lives to count as a good one
FIRST_PAUSE, MAX_PAUSE = 0.05, 2.0  # seconds between streams that break at once
STALL = 1.0  # seconds for which the store may be ahead of a silent stream
MAX_DOUBT = 300.0  # seconds between moves of a stream that was silent because there was nothing to tell

_Call = grpc.aio.StreamStreamCall[Message, wire.WatchResponse]


class EtcdWatch:
    """The context manager, and the iterator that entering it gives. `closed` is called once, at the end."""

    def __init__(
        self,
        endpoints: Endpoints,
        history: History,
        key: bytes,
        end: bytes,
        from_revision: int,
        name: str,
        clock: Callable[[], float],
        closed: Callable[[EtcdWatch], None],
    ) -> None:
        self._endpoints = endpoints
        self._history = history
        self._key, self._end = key, end
        self._next = from_revision
        self._name = name
        self._clock = clock
        self._closed = closed
        self._call: _Call | None = None
        self._metadata: Metadata = ()
        self._endpoint: Endpoint | None = None
        self._codec = Codec(0)
        self._parts: list[wire.Event] = []
        self._batches: deque[WatchBatch] = deque()
        self._interrupt: StoreError | Moved | Ended | None = None
        self._opened_at = 0.0
        self._goes_on = False
        self._pause = 0.0
        self._silent_since: float | None = None
        self._doubt = STALL
        self._doubt_again = 0.0

    async def __aenter__(self) -> AsyncIterator[WatchBatch]:
        try:
            await self._begin()
        except BaseException:
            self._finish()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()

    def __aiter__(self) -> AsyncIterator[WatchBatch]:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._batches:
            try:
                self._take(await self._read())
            except Refused as refused:
                await self._go_on(refused.verdict)
            except Moved as moved:
                log.debug("etcd: a watch moves to %s: %s", self._endpoints.current.url, moved)
                await self._begin()
            except Ended:
                raise StopAsyncIteration from None
        return self._batches.popleft()

    # ---------------------------------------------------------------- told from outside

    def interrupt(self, reason: StoreError | Moved | Ended) -> None:
        """Ends the stream now. The reader gets what has come, then what the reason says.

        One that is just beginning finds out by itself, but for the end of all.
        """
        if self._call is not None:
            self._interrupt = reason
            self._call.cancel()
        elif isinstance(reason, Ended):
            self._interrupt = reason

    def replaced(self) -> None:
        """The cluster is another one."""
        self.interrupt(FutureRevision("the store was replaced or restored: read the state anew"))

    def look(self, revision: int) -> None:
        """The cluster is at `revision`: moves a stream on another member than the one in use, or one that is silent
        though the store has gone on. That may have nothing to do with this watch, so it is done ever more rarely."""
        now = self._clock()
        if self._call is None or self._interrupt is not None:
            return
        if self._endpoint is not self._endpoints.current:
            self.interrupt(Moved("the member it was on does not answer"))
        elif revision < self._next:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > STALL and now >= self._doubt_again:
            self._doubt = min(2 * self._doubt, MAX_DOUBT)
            self._doubt_again = now + self._doubt
            self._silent_since = None
            self.interrupt(Moved(f"silent since revision {self._next - 1}, the store is at {revision}"))

    # ---------------------------------------------------------------- inside

    def _finish(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._closed(self)

    async def _go_on(self, verdict: Verdict) -> None:
        """After a stream that broke. Raises the contract's errors when none can take its place."""
        endpoint = self._endpoint
        assert endpoint is not None
        if self._clock() - self._opened_at > STEADY:
            self._pause = 0.0
        if verdict.login:
            await self._endpoints.login_anew(endpoint, self._metadata)
        elif verdict.elsewhere:
            self._endpoints.leave(endpoint, verdict.error)
        else:
            raise verdict.error
        await asyncio.sleep(random.uniform(self._pause / 2, self._pause))  # noqa: S311  # spreads the nodes
        self._pause = min(MAX_PAUSE, 2 * self._pause or FIRST_PAUSE)
        await self._begin()

    async def _begin(self) -> None:
        """A stream from `_next` on some member. Raises the contract's errors."""
        self._parts.clear()
        self._call = None
        for left in reversed(range(max(2, len(self._endpoints.urls)))):
            await self._history.confirm(self._name, self._next)
            self._name = self._history.name
            if isinstance(self._interrupt, Ended):
                raise Unavailable("the store is closed")
            endpoint = self._endpoints.current
            try:
                await self._endpoints.ready()
                await self._open(endpoint)
                if self._name != self._history.name:
                    raise FutureRevision("the store was replaced or restored meanwhile: read the state anew")
                return
            except Refused as refused:
                verdict = refused.verdict
            if verdict.login:
                await self._endpoints.login_anew(endpoint, self._metadata)
            elif verdict.elsewhere:
                self._endpoints.leave(endpoint, verdict.error)
            if not left or not (verdict.login or verdict.elsewhere):
                raise verdict.error

    async def _open(self, endpoint: Endpoint) -> None:
        """Raises Refused, Compacted."""
        self._codec = codec = await self._history.codec()
        # One early when it goes on: a delete at the very revision that is compacted now would be missing.
        start = codec.lowered(self._next - self._goes_on)
        self._metadata = self._endpoints.metadata(leader=True)
        call: _Call = endpoint.channel.stream_stream(
            WATCH.path,
            request_serializer=wire.WatchRequest.SerializeToString,
            response_deserializer=WATCH.answer.FromString,
        )(metadata=self._metadata)
        create = wire.WatchCreateRequest(
            key=start_of(self._key),
            range_end=self._end,
            start_revision=max(1, start),
            progress_notify=True,
            fragment=True,
        )
        self._endpoint, self._call, self._interrupt = endpoint, call, None
        try:
            async with asyncio.timeout(CALL_LIMIT):
                await call.write(wire.WatchRequest(create_request=create))
                response = await self._read()
        except TimeoutError:
            call.cancel()
            raise Refused(judge("DEADLINE_EXCEEDED", "", endpoint.url)) from None
        except grpc.aio.AioRpcError as error:
            raise Refused(verdict_of(error, endpoint)) from None
        except Moved as moved:
            raise Refused(Verdict(Unavailable(str(moved)), elsewhere=True)) from None
        except Ended:
            raise Unavailable("the store is closed") from None
        self._opened_at = self._clock()
        self._goes_on = True
        self._silent_since = None
        self._check(response)

    async def _read(self) -> wire.WatchResponse:
        """Raises Refused, Moved, Ended, or what the watch was interrupted with."""
        call, endpoint = self._call, self._endpoint
        if call is None or endpoint is None:
            raise Ended
        try:
            response = await call.read()
        except grpc.aio.AioRpcError as error:
            if self._interrupt is not None:
                raise self._interrupt from None
            raise Refused(verdict_of(error, endpoint)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._interrupt is None or (task is not None and task.cancelling()):
                raise
            raise self._interrupt from None
        if not isinstance(response, wire.WatchResponse):
            if self._interrupt is not None:
                raise self._interrupt
            code, said = await call.code(), await call.details()
            raise Refused(judge(code.name, said or "the member ended the watch", endpoint.url))
        return response

    def _take(self, response: wire.WatchResponse) -> None:
        self._check(response)
        if response.created:
            return
        self._parts += response.events
        if response.fragment:
            return
        if self._parts:
            batches = [each for each in self._codec.batches(self._parts) if each.revision >= self._next]
            self._parts.clear()
            self._doubt = STALL
        else:
            revision = self._codec.raised(response.header.revision)
            batches = [WatchBatch(revision, ())] if revision >= self._next else []
        if batches:
            self._batches += batches
            self._next = batches[-1].revision + 1
            self._silent_since = None

    def _check(self, response: wire.WatchResponse) -> None:
        """Raises Compacted, FutureRevision, Refused."""
        assert self._endpoint is not None
        self._history.see(response.header)
        if not response.canceled:
            return
        if response.compact_revision:
            raise Compacted(self._codec.raised(response.compact_revision))
        raise Refused(judge("UNAVAILABLE", response.cancel_reason, self._endpoint.url))


class Moved(Exception):
    """The watch goes on on another member; the text says why."""


class Ended(Exception):
    """The store is closed."""

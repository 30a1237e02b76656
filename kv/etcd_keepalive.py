"""Keep-alives of many leases on one stream.

Owns the stream and what was renewed when. It grants and revokes nothing. How: a pump writes what is asked, a reader
gives out the answers, a lease's in the order of its questions; a stream a call would halve the rate. Who asks joins
a question that is not written yet, never one that is: etcd may have renewed the lease long before, and the answer
come late. A lease renewed less than a tenth of its TTL ago is answered from memory, for etcd would write down no more.
A stream that breaks, or is silent for CALL_LIMIT while answers are due, is opened anew on the next member and asked
again, which does no harm; when none answers, all who wait are told Unavailable: nothing is acknowledged unheard.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import NamedTuple, NoReturn

import grpc.aio
from google.protobuf.message import Message

from discovery.errors import StoreError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Unavailable
from discovery.kv.etcd_endpoints import (
    CALL_LIMIT,
    KEEP_ALIVE,
    Endpoint,
    Endpoints,
    Metadata,
    Refused,
    verdict_of,
)
from discovery.kv.etcd_errors import judge

log = logging.getLogger(__name__)

MEMORY = 0.1  # of its TTL: for so long a renewed lease is answered from memory
FORGET_EVERY = 60.0  # seconds

_Call = grpc.aio.StreamStreamCall[Message, wire.LeaseKeepAliveResponse]


class _Question(NamedTuple):
    """About one lease. `answers`: of all who wait for it."""

    answers: list[asyncio.Future[int]]
    asked_at: float  # by the clock, when the first of them came


class KeepAlives:
    """`clock` counts seconds and never goes back. `see` is told every answer's header, and finds out which cluster
    that is: one that took over has none of the leases of before, and says so itself."""

    def __init__(
        self,
        endpoints: Endpoints,
        clock: Callable[[], float],
        see: Callable[[wire.ResponseHeader], Awaitable[object]],
    ) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._see = see
        self._renewed: dict[int, tuple[int, float]] = {}  # lease -> (TTL, when)
        self._forgot = clock()
        self._unwritten: dict[int, _Question] = {}  # by lease, in their order
        self._written: dict[int, deque[_Question]] = {}  # by lease; the oldest is answered first
        self._more = asyncio.Event()  # there are unwritten ones
        self._task: asyncio.Task[None] | None = None
        self._metadata: Metadata = ()  # of the present stream
        self._closed = False
        self._answered = 0  # answers since the start
        self._due = 0.0  # since when an answer is waited for, by the loop's time

    async def renew(self, lease_id: int) -> int:
        """The granted TTL in seconds; 0: the lease is gone. Raises Unavailable, AuthError."""
        kept = self._from_memory(lease_id)
        return kept if kept is not None else await self._ask(lease_id)

    async def renew_many(self, lease_ids: Sequence[int]) -> Sequence[int]:
        """Those that are gone. Raises Unavailable, AuthError, when any could not be asked."""
        asked: dict[int, asyncio.Future[int]] = {}
        for lease_id in lease_ids:
            if lease_id not in asked and self._from_memory(lease_id) is None:
                asked[lease_id] = self._ask(lease_id)
        if asked:
            await asyncio.wait(asked.values())
        return [lease_id for lease_id in lease_ids if lease_id in asked and not asked[lease_id].result()]

    def note(self, lease_id: int, ttl: int, since: float) -> None:
        """A lease was granted or renewed, at `since` at the earliest by the clock."""
        self._renewed[lease_id] = (ttl, since)

    def forget(self, lease_id: int) -> None:
        """The lease was revoked."""
        self._renewed.pop(lease_id, None)

    def forget_all(self) -> None:
        """The store is another one."""
        self._renewed.clear()

    async def close(self) -> None:
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._fail(Unavailable("the store is closed"))

    # ---------------------------------------------------------------- inside

    def _from_memory(self, lease_id: int) -> int | None:
        now = self._clock()
        if now - self._forgot > FORGET_EVERY:
            self._forgot = now
            self._renewed = {each: (ttl, at) for each, (ttl, at) in self._renewed.items() if at + ttl > now}
        ttl, when = self._renewed.get(lease_id, (0, 0.0))
        return ttl if ttl and now - when < ttl * MEMORY else None

    def _ask(self, lease_id: int) -> asyncio.Future[int]:
        loop = asyncio.get_running_loop()
        if not self._is_waited_for:
            self._due = loop.time()
        answer: asyncio.Future[int] = loop.create_future()
        self._unwritten.setdefault(lease_id, _Question([], self._clock())).answers.append(answer)
        if self._closed:
            self._fail(Unavailable("the store is closed"))
            return answer
        self._more.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="etcd-keep-alives")
        return answer

    @property
    def _is_waited_for(self) -> bool:
        return bool(self._written or self._unwritten)

    def _fail(self, error: StoreError) -> None:
        failed = [*chain.from_iterable(self._written.values()), *self._unwritten.values()]
        self._written, self._unwritten = {}, {}
        for answer in chain.from_iterable(question.answers for question in failed):
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # who asked may have gone

    def _ask_again(self) -> None:
        """What was written on a stream that broke goes to the next: one question a lease, for all who wait."""
        unwritten, self._unwritten = self._unwritten, {}
        for lease_id, questions in self._written.items():
            answers = list(chain.from_iterable(question.answers for question in questions))
            self._unwritten[lease_id] = _Question(answers, questions[0].asked_at)
        self._written = {}
        for lease_id, (answers, asked_at) in unwritten.items():
            self._unwritten.setdefault(lease_id, _Question([], asked_at)).answers.extend(answers)
        self._more.set()

    async def _run(self) -> None:
        """One stream after the other, while there is somebody to answer. Ends when no member answers: the next who
        asks begins anew."""
        try:
            while await self._go_round():
                pass
        except StoreError as error:
            self._fail(error)
        except Exception as error:
            log.exception("the keep-alives failed; they begin anew: please report this")
            self._fail(Unavailable(f"keeping leases alive failed: {error!r}"))

    async def _go_round(self) -> bool:
        """Streams to the members in turn until one has answered and then broken; False when nobody waits any more.

        Raises the contract's errors when none answers, or a member refuses for good.
        """
        for left in reversed(range(max(2, len(self._endpoints.urls)))):
            endpoint = self._endpoints.current
            answered = self._answered
            try:
                await self._endpoints.ready()
                await self._serve(endpoint)
            except Refused as refused:
                verdict = refused.verdict
            if verdict.login:
                await self._endpoints.login_anew(endpoint, self._metadata)
            elif verdict.elsewhere:
                self._endpoints.leave(endpoint, verdict.error)
            if not self._is_waited_for:
                return False
            if not verdict.login and not verdict.elsewhere:
                raise verdict.error
            self._ask_again()
            if self._answered > answered:
                return True
            if not left:
                raise verdict.error
        return True

    async def _serve(self, endpoint: Endpoint) -> NoReturn:
        """Asks and gives out answers on one stream. Raises Refused when it ends or falls silent."""
        self._metadata = self._endpoints.metadata(leader=True)
        call: _Call = endpoint.channel.stream_stream(
            KEEP_ALIVE.path,
            request_serializer=wire.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=KEEP_ALIVE.answer.FromString,
        )(metadata=self._metadata)
        loop = asyncio.get_running_loop()
        self._due = loop.time()
        silent = False

        async def listen() -> None:
            """Ends a stream on which answers are due for too long; a read of it can't have a limit of its own."""
            nonlocal silent
            while True:
                await asyncio.sleep(CALL_LIMIT / 3)
                if self._is_waited_for and loop.time() - self._due > CALL_LIMIT:
                    silent = True
                    call.cancel()
                    return

        tasks = [asyncio.create_task(self._pump(call)), asyncio.create_task(listen())]
        try:
            while True:
                response = await call.read()
                if not isinstance(response, wire.LeaseKeepAliveResponse):
                    code, said = await call.code(), await call.details()
                    raise Refused(judge(code.name, said or "the member ended the stream", endpoint.url))
                await self._see(response.header)
                self._answer(response.ID, response.TTL)
                self._due = loop.time()
        except grpc.aio.AioRpcError as error:
            raise Refused(verdict_of(error, endpoint)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not silent or (task is not None and task.cancelling()):
                raise
            raise Refused(judge("DEADLINE_EXCEEDED", "", endpoint.url)) from None
        finally:
            for task in tasks:
                task.cancel()
            call.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, call: _Call) -> None:
        while True:
            await self._more.wait()
            while self._unwritten:
                lease_id = next(iter(self._unwritten))
                self._written.setdefault(lease_id, deque()).append(self._unwritten.pop(lease_id))
                await call.write(wire.LeaseKeepAliveRequest(ID=lease_id))
            self._more.clear()

    def _answer(self, lease_id: int, ttl: int) -> None:
        self._answered += 1
        questions = self._written.get(lease_id)
        if questions is None:
            return  # nobody asked, at least not on this stream
        question = questions.popleft()
        if not questions:
            del self._written[lease_id]
        if ttl > 0:
            self.note(lease_id, ttl, question.asked_at)
        else:
            self.forget(lease_id)
        for answer in question.answers:
            if not answer.done():
                answer.set_result(max(0, ttl))

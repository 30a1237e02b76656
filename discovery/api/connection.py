"""Connections: which are held, when one is cut off, and what is answered to bytes that are no HTTP.

Owns the closing of those that `admission` has no room for, and of those whose client takes nothing of its answer; and
the answers that aiohttp's parser gives before there is a request: problem documents here too. It decides nothing about
requests that could be read. A client's mistakes never leave a traceback in the log. How hot calls go (`hot`): while
aiohttp's own loop waits for a request, a message that is one of them is answered here; the loop is kept waiting, and
finds what came behind it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from discovery.api.admission import EXEMPT, Admission
from discovery.api.browsers import HEADERS, SERVER
from discovery.api.hot import Hot, HotCalls, to_bytes
from discovery.api.problems import Problem, answer, internal

log = logging.getLogger(__name__)

# Bytes. Two numbers, for the parser's error tells only which limit it was; a request line of 8,000 must pass (RFC 9112
# section 3).
MAX_LINE = 8192
MAX_HEADER = 8190
WRITE_SECONDS = 30.0


class Runner(web.AppRunner):
    """aiohttp's, with connections of this module; `limits` are theirs and RequestHandler's."""

    def __init__(
        self,
        app: web.Application,
        admission: Admission,
        hot: HotCalls | None = None,
        *,
        shutdown_timeout: float,
        **limits: Any,
    ) -> None:  # Any: aiohttp's
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._admission = admission
        self._hot = hot
        self._limits = limits

    @property
    def server(self) -> web.Server | None:
        """What sites call for every new connection, and ask for nothing else."""
        server = super().server
        if server is None:
            return None
        loop = asyncio.get_running_loop()
        make = functools.partial(Connection, server, self._admission, self._hot)
        return cast(web.Server, functools.partial(make, loop=loop, **self._limits))


class Connection(RequestHandler):
    """aiohttp's, but for its limits, and for what it says when something went wrong outside of a request.

    `client` is whom its requests are counted for. `write_seconds`: in which some of an answer must be taken, once more
    of it waits than the transport's buffer should hold (64 KiB), or it was the last.
    """

    __slots__ = (
        "_admission",
        "_admitted",
        "_answering",
        "_at_work",
        "_hot",
        "_leaving",
        "_stalled",
        "_unsent",
        "_write_seconds",
        "client",
    )

    def __init__(
        self,
        server: web.Server,
        admission: Admission,
        hot: HotCalls | None,
        *,
        write_seconds: float = WRITE_SECONDS,
        **limits: Any,
    ) -> None:  # Any: aiohttp's
        super().__init__(server, **limits)
        self._admission = admission
        self._hot = hot
        self._answering: asyncio.Task[None] | None = None  # hot calls
        self._admitted = False
        self._write_seconds = write_seconds
        self._stalled: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Transport | None = None  # which is closed, but for what waits to be sent
        self._unsent = 0  # bytes, when that was last looked at
        self.client = EXEMPT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.client = self._admission.client(peer)
        self._admitted = self._admission.admit(self.client, peer, self._loop.time())
        if self._admitted:
            super().connection_made(transport)
        else:
            self.force_close()  # what has come already is not read
            cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._admitted:
            self._admitted = False
            self._admission.leave(self.client)
        self._end_watch()
        super().connection_lost(exc)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's
        """Waits for the request at work, and cuts it off in the end."""
        await super().shutdown(timeout)
        if self._answering is not None:
            self._answering.cancel()

    @property  # in the place of a slot of aiohttp's
    def _handler_waiter(self) -> asyncio.Future[None] | None:
        """What `shutdown` waits with for the request at work; None where it does not, or no longer.

        Aiohttp sets its result at the request's end, also where the wait has just been cancelled, which would raise.
        """
        waiting = self._at_work
        return None if waiting is None or waiting.done() else waiting

    @_handler_waiter.setter
    def _handler_waiter(self, waiting: asyncio.Future[None] | None) -> None:
        self._at_work = waiting

    async def start(self) -> None:
        """aiohttp's, which closes the connection at its end; what then waits to be sent must not wait for ever."""
        transport = self.transport
        try:
            await super().start()
        finally:  # it is cancelled where nobody asked again in time
            if transport is not None and self._admitted and transport.get_write_buffer_size():
                self._leaving = transport
                self._watch(transport)

    # ------------------------------------------------------------ hot calls

    def data_received(self, data: bytes) -> None:
        waiting = self._waiter
        if waiting is None or waiting.done() or self._hot is None:
            super().data_received(data)
            return
        self._waiter = None  # so that aiohttp's loop sleeps on
        super().data_received(data)
        call = self._next_hot()
        if call is None:
            self._go_on(waiting)
        else:
            self._request_in_progress = True
            self._answering = self._loop.create_task(self._answer_hot(call, waiting))

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp's, which it calls for each piece of a body that is read, whether or not reading was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _next_hot(self) -> Hot | None:
        """The hot call that the next message is, where there is one and it is to be answered."""
        if not self._messages or self._close or self._force_close or self._hot is None:
            return None
        message, body = self._messages[0]
        return self._hot.find(message, body) if isinstance(message, RawRequestMessage) else None

    async def _answer_hot(self, call: Hot | None, waiting: asyncio.Future[None]) -> None:
        """One after the other, as they came, up to what is none of them."""
        try:
            while call is not None:
                await self._answer(call)
                call = self._next_hot()
        except ConnectionError:
            self.force_close()
        except BaseException:
            self.force_close()
            raise
        finally:
            self._answering = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)  # the node stops, and waited for this
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None and not self._force_close:
                self._keepalive_handle = self._loop.call_at(
                    self._next_keepalive_close_time, self._process_keepalive
                )
            self._go_on(waiting)

    async def _answer(self, call: Hot) -> None:
        """Raises ConnectionError when nobody is there any more."""
        message, body = self._messages.popleft()
        assert self._parser is not None
        assert self._request_factory is not None
        self._parser.message_consumed()
        if self._manager is not None:
            self._manager.requests_count += 1
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        request = cast(
            web.Request,
            self._request_factory(
                cast(RawRequestMessage, message),
                body,
                self,
                StreamWriter(self, self._loop),
                cast("asyncio.Task[None]", self._answering),
            ),
        )
        request._match_info = call.match
        try:
            response = await call.handler(request)
        except Exception as error:
            response = self.handle_error(request, 500, error)
        packed = to_bytes(response)
        if packed is None:
            await response.prepare(request)
            await response.write_eof()
            self._close = self._close or not response.keep_alive
        elif self.transport is None:
            raise ConnectionResetError("nobody is there to be answered")
        else:
            self.transport.write(packed)
            if self._paused:
                await self._drain_helper()

    def _go_on(self, waiting: asyncio.Future[None]) -> None:
        """aiohttp's loop is where it was: it waits for the next message, has one, or comes to its end."""
        if waiting.done():
            return
        if self._close or self._force_close:
            waiting.cancel()
            if self.transport is not None:
                self.transport.close()
            return
        self._waiter = waiting
        if self._messages:
            waiting.set_result(None)

    # ------------------------------------------------------------ who takes nothing

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._watch(self.transport)

    def resume_writing(self) -> None:
        self._end_watch()
        super().resume_writing()
        if self._leaving is not None:
            self._watch(self._leaving)

    def _watch(self, transport: asyncio.Transport) -> None:
        self._end_watch()
        self._unsent = transport.get_write_buffer_size()
        self._stalled = self._loop.call_later(self._write_seconds, self.look, transport)

    def _end_watch(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def look(self, transport: asyncio.Transport) -> None:
        """Cuts off a client that has taken nothing since the last look; a slow one may take its time."""
        if transport.get_write_buffer_size() < self._unsent:
            self._watch(transport)
        else:
            log.debug("%s takes nothing of its answer: cut off", transport.get_extra_info("peername"))
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what the parser refused, or what the application raised. It ends the connection."""
        if isinstance(exc, ConnectionError):
            raise ConnectionError("nobody is there to be answered") from exc
        if isinstance(exc, HttpProcessingError):
            log.debug("%s sent what is no HTTP: %r", request.remote, exc)
            problem = _malformed(exc)
        else:
            self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
            problem = internal()
        if request.writer.output_size:
            raise ConnectionError("an answer was begun, so another can't be given")
        response = answer(problem)
        response.headers.update(HEADERS, Server=SERVER)
        response.force_close()
        return response


def _malformed(error: HttpProcessingError) -> Problem:
    if isinstance(error, LineTooLong):
        if str(error.args[1]) == str(MAX_LINE):
            detail = f"the request line is longer than {MAX_LINE} bytes: shorten the URL"
            return Problem("/problems/uri-too-long", "URI too long", 414, detail)
        detail = f"a header is longer than {MAX_HEADER} bytes: shorten it"
        return Problem("/problems/header-too-large", "Header too large", 431, detail)
    reason = error.message.partition("\n")[0].rstrip(":. ")
    return Problem(
        "/problems/bad-request", "Bad request", 400, f"this is not HTTP/1.1 as it should be: {reason}"
    )

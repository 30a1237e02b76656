"""Connections: which are held, when one is cut off, and what is answered to bytes that are no HTTP.

Owns the closing of those that `admission` has no room for, and of those whose client takes nothing of its answer; and
the answers that aiohttp's parser gives before there is a request: problem documents here too. It decides nothing about
requests that could be read. A client's mistakes never leave a traceback in the log.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from discovery.api.admission import EXEMPT, Admission
from discovery.api.browsers import HEADERS, SERVER
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
        self, app: web.Application, admission: Admission, *, shutdown_timeout: float, **limits: Any
    ) -> None:  # Any: aiohttp's
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._admission = admission
        self._limits = limits

    @property
    def server(self) -> web.Server | None:
        """What sites call for every new connection, and ask for nothing else."""
        server = super().server
        if server is None:
            return None
        loop = asyncio.get_running_loop()
        return cast(
            web.Server, functools.partial(Connection, server, self._admission, loop=loop, **self._limits)
        )


class Connection(RequestHandler):
    """aiohttp's, but for its limits, and for what it says when something went wrong outside of a request.

    `client` is whom its requests are counted for. `write_seconds`: in which some of an answer must be taken, once more
    of it waits than the transport's buffer should hold (64 KiB), or it was the last.
    """

    __slots__ = ("_admission", "_admitted", "_leaving", "_stalled", "_unsent", "_write_seconds", "client")

    def __init__(
        self,
        server: web.Server,
        admission: Admission,
        *,
        write_seconds: float = WRITE_SECONDS,
        **limits: Any,
    ) -> None:  # Any: aiohttp's
        super().__init__(server, **limits)
        self._admission = admission
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

    async def start(self) -> None:
        """aiohttp's, which closes the connection at its end; what then waits to be sent must not wait for ever."""
        transport = self.transport
        await super().start()
        if transport is not None and self._admitted and transport.get_write_buffer_size():
            self._leaving = transport
            self._watch(transport)

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

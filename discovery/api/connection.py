"""Connections: what is answered to bytes that are no HTTP, and what is written to the log about them.

Owns the answers that aiohttp's parser gives before there is a request: problem documents here too. It decides
nothing about requests that could be read. A client's mistakes never leave a traceback in the log.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from discovery.api.browsers import HEADERS, SERVER
from discovery.api.problems import Problem, answer, internal

log = logging.getLogger(__name__)

# Bytes. Two numbers, for the parser's error tells only which limit it was; a request line of 8,000 must pass (RFC 9112
# section 3).
MAX_LINE = 8192
MAX_HEADER = 8190


class Runner(web.AppRunner):
    """aiohttp's, with connections of this module; `limits` are RequestHandler's."""

    def __init__(
        self, app: web.Application, *, shutdown_timeout: float, **limits: Any
    ) -> None:  # Any: aiohttp's
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._limits = limits

    @property
    def server(self) -> web.Server | None:
        """What sites call for every new connection, and ask for nothing else."""
        server = super().server
        if server is None:
            return None
        loop = asyncio.get_running_loop()
        return cast(web.Server, functools.partial(Connection, server, loop=loop, **self._limits))


class Connection(RequestHandler):
    """aiohttp's, but for what it says when something went wrong outside of a request."""

    __slots__ = ()

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

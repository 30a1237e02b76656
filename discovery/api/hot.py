"""The calls that come by the thousand, answered without aiohttp's way from a message to its handler and back.

Owns which calls those are, which message is plainly one of them, and how their answers become bytes. It decides
nothing: the same middlewares and handlers are called as for any other way, in the same order, with aiohttp's own
request; a message that is in any way unusual is left to the application. How: aiohttp's router, its tasks and its
writing cost twice what a heartbeat does. Here a route is found by one regular expression, the middlewares are put
around each handler once, and head and body leave in one piece. Pure but for the date.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache, partial
from typing import NamedTuple, cast

from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from discovery.api.browsers import HEADERS, SERVER
from discovery.api.problems import Handler

CALLS = frozenset(
    {
        ("PUT", "/v1/services/{service}/{instance}"),
        ("POST", "/v1/services/{service}/{instance}/heartbeat"),
        ("POST", "/v1/leases/{lease}/heartbeat"),
        ("POST", "/v1/heartbeats"),
        ("POST", "/v1/batch"),
    }
)
_VARIABLE = re.compile(r"\{([a-z]+)\}")
_PLAIN = r"(?P<\1>[A-Za-z0-9_@][A-Za-z0-9_.@-]*)"  # no escapes, no query, and no dots that steer a path


class Hot(NamedTuple):
    """One such call: its handler with all that lies around it, and what the router would have found."""

    handler: Handler
    match: UrlMappingMatchInfo


class HotCalls:
    """Those of `app`, each with the app's middlewares around it, the first outermost."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._calls: dict[str, list[tuple[re.Pattern[str], Handler, web.AbstractRoute]]] = {}
        for route in app.router.routes():
            resource = route.resource
            if resource is not None and (route.method, resource.canonical) in CALLS:
                handler: Handler = route.handler
                for around in reversed(app.middlewares):
                    handler = partial(
                        cast(Callable[..., Awaitable[web.StreamResponse]], around), handler=handler
                    )
                path = re.compile(_VARIABLE.sub(_PLAIN, resource.canonical))
                self._calls.setdefault(route.method, []).append((path, handler, route))

    def find(self, message: RawRequestMessage, body: StreamReader) -> Hot | None:
        """The call that a message is; None: it is none, or is not plainly one. The body must have come whole."""
        if message.should_close or message.upgrade or message.version != HttpVersion11 or not body.is_eof():
            return None
        headers = message.headers
        if "Expect" in headers or "Content-Encoding" in headers or body.exception() is not None:
            return None
        for path, handler, route in self._calls.get(message.method, ()):
            named = path.fullmatch(message.path)
            if named is not None:
                match = UrlMappingMatchInfo(named.groupdict(), route)
                match.add_app(self._app)
                return Hot(handler, match)
        return None


def to_bytes(response: web.StreamResponse) -> bytes | None:
    """An answer, head and body, with the headers that every one has; None for one that is more than that."""
    if response.keep_alive is False or response.cookies:
        return None
    if type(response) is not web.Response or not isinstance(response.body, bytes):
        return None
    head = f"HTTP/1.1 {response.status} {response.reason}\r\n"
    for name, text in response.headers.items():
        head += f"{name}: {text}\r\n"
    head += f"Content-Length: {len(response.body)}\r\n{_always(int(time.time()))}\r\n"
    return head.encode() + response.body


@lru_cache(maxsize=1)
def _always(now: int) -> str:
    """What every answer says at that second. No handler of these calls has a word of its own for any of it."""
    headers = {"Date": formatdate(now, usegmt=True), **HEADERS, "Server": SERVER}
    return "".join(f"{name}: {text}\r\n" for name, text in headers.items())

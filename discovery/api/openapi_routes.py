"""/openapi.json and /docs: the API's own description, for programs and for people.

Owns these two routes. Both are made at the first question and then kept, for they are the same as long as the process
lives. They need no token: a browser sends none with a page, and they say nothing of what is registered.
"""

from __future__ import annotations

from functools import cache

import msgspec
from aiohttp import web

from discovery import __version__
from discovery.api import bodies
from discovery.api.docs_page import POLICY, page
from discovery.api.openapi import document


def routes() -> list[web.RouteDef]:
    return [web.get("/openapi.json", openapi), web.get("/docs", docs)]


@cache
def _document() -> bytes:
    return msgspec.json.encode(document(__version__))


@cache
def _page() -> bytes:
    return page(document(__version__)).encode()


async def openapi(request: web.Request) -> web.Response:
    bodies.query(request)
    return web.Response(body=_document(), content_type="application/json")


async def docs(request: web.Request) -> web.Response:
    """With a policy of its own, for the one style that stands in it."""
    bodies.query(request)
    headers = {"Content-Security-Policy": POLICY}
    return web.Response(body=_page(), content_type="text/html", charset="utf-8", headers=headers)

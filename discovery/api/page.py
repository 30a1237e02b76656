"""The web page: its files, from memory, at `/` and below `/page/`.

Owns these two routes, the files' types, and the policy that the browser holds the page to: nothing from elsewhere, no
script and no style but the node's own files. No token is needed, for there is no secret in them; what the page shows,
it asks of the API as anybody does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from aiohttp import web

from discovery.api import bodies
from discovery.errors import NotFound

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
TYPES: Mapping[str, str] = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",  # RFC 9239
    "svg": "image/svg+xml",
}
INDEX = "index.html"
FRESH = "no-cache"  # kept, but asked for again each time: after an upgrade no old part stays with a new one


class Asset(NamedTuple):
    body: bytes
    type: str
    etag: str


@cache
def assets() -> Mapping[str, Asset]:
    """By file name; read at the first question."""
    found = {}
    for file in files("discovery").joinpath("web").iterdir():
        kind = file.name.rpartition(".")[2]
        if kind in TYPES:
            body = file.read_bytes()
            found[file.name] = Asset(body, TYPES[kind], hashlib.sha256(body).hexdigest()[:32])
    return found


def names() -> list[str]:
    """Of the files that the page asks for."""
    return sorted({*assets()} - {INDEX})


def routes() -> list[web.RouteDef]:
    return [web.get("/", index), web.get("/page/{file}", asset)]


async def index(request: web.Request) -> web.Response:
    bodies.query(request)
    return _answer(request, assets()[INDEX])


async def asset(request: web.Request) -> web.Response:
    bodies.query(request)
    name = request.match_info["file"]
    found = assets().get(name)
    if found is None or name == INDEX:
        raise NotFound(f"the page has no file {name!r}: load the page anew, it may be another version's")
    return _answer(request, found)


def _answer(request: web.Request, found: Asset) -> web.Response:
    headers = {"ETag": f'"{found.etag}"', "Cache-Control": FRESH, "Content-Security-Policy": POLICY}
    known = request.if_none_match
    if known is not None and any(each.value in (found.etag, "*") for each in known):
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.body, content_type=found.type, charset="utf-8", headers=headers)

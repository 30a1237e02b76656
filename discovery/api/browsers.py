"""What keeps a web page in somebody's browser from using the API behind his back.

Owns the headers that every answer carries, and two refusals. A call that changes something and that a browser sends for
a page of another origin is refused (`Origin`, `Sec-Fetch-Site`): programs send neither header, so a body needs no
content type of its own, and `curl -d` goes on working. While no token is asked for and only loopback is listened on,
names that anybody may own are refused as `Host`: one that is pointed at 127.0.0.1 would make a page's origin this node
(DNS rebinding). No header of CORS is ever sent, so no other page may read an answer.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from aiohttp import web

from discovery.api.parts import ApiParts
from discovery.errors import Forbidden, Misdirected

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
SERVER = "discovery"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})  # Fetch metadata: this very origin, and what a person typed


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`. A handler's own value stays."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SERVER  # aiohttp has said its own and Python's version by now


def check_browser(request: web.Request, parts: ApiParts) -> None:
    """Raises Forbidden, Misdirected."""
    if request.method not in _READS:
        _check_origin(request)
    if not parts.config.http.open and not parts.tokens.any:
        _check_host(request)


def _check_origin(request: web.Request) -> None:
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    if (site is not None and site not in _OWN_SITE) or (
        origin is not None and origin.partition("://")[2].lower() != request.host.lower()
    ):
        raise Forbidden(
            f"a web page of {origin or 'another origin'} may not change anything here: call from a program, or from "
            "a page that this node serves"
        )


def _check_host(request: web.Request) -> None:
    if _may_be_anybodys(request.host):
        raise Misdirected(
            f"{_bare(request.host)} may be anybody's name for this machine: while no token is asked for, call the "
            "node as localhost or by its address, or make a token (discovery token make), or set http.open: true",
            field="Host",
        )


@lru_cache(maxsize=256)
def _may_be_anybodys(host: str) -> bool:
    host = _bare(host)
    if "." not in host or host.endswith(".localhost"):
        return False  # a name of one label is nobody's on the internet
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _bare(host: str) -> str:
    """Without port and brackets, in lower case and without a final dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")

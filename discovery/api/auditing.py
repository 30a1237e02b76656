"""Which calls the audit log tells of: each that changes something, and each that is refused.

Owns that choice. A heartbeat changes nothing that is stored, so only a refused one is told.
"""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from discovery.api.access import caller
from discovery.api.parts import PARTS, rfc3339
from discovery.api.problems import Handler
from discovery.audit import MAX_PATH, Entry
from discovery.errors import DiscoveryError
from discovery.tokens import NO_ONE

REFUSALS = frozenset({401, 403, 421, 429})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEARTBEATS = ("/heartbeat", "/v1/heartbeats")


@web.middleware
async def audit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outside of what makes answers of errors, so that it sees every answer."""
    response = await handler(request)
    parts = request.app[PARTS]
    if parts.audit.wanted and _is_told(request, response.status):
        try:
            who = caller(request)
        except DiscoveryError:
            who = NO_ONE
        resource = request.match_info.route.resource
        parts.audit.write(
            Entry(
                time=rfc3339(parts.now()),
                who=who.name,
                token=who.id,
                sender=request.remote or "",
                method=request.method,
                route=resource.canonical if resource is not None else "",
                path=request.path[:MAX_PATH],
                status=response.status,
                result=_result(response.status),
            )
        )
    return response


def _is_told(request: web.Request, status: int) -> bool:
    if status in REFUSALS:
        return True
    return request.method not in _READS and not request.path.endswith(_HEARTBEATS)


def _result(status: int) -> Literal["done", "refused", "failed"]:
    if status < 400:
        return "done"
    return "refused" if status in REFUSALS else "failed"

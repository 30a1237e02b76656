"""Which calls the audit log tells of: each that changes something, and each that is refused.

Owns that choice. A heartbeat changes nothing that is stored, so only a refused one is told.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Literal

from aiohttp import web

from discovery.api.access import caller
from discovery.api.parts import PARTS, rfc3339
from discovery.api.problems import Handler
from discovery.audit import MAX_PATH, Entry
from discovery.errors import DiscoveryError
from discovery.tokens import MARK, NO_ONE, Grant

REFUSALS = frozenset({401, 403, 421, 429})
_SECRET = re.compile(rf"{MARK}[^/]*")  # given for an id by mistake
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEARTBEATS = ("/heartbeat", "/v1/heartbeats")
_untold: ContextVar[list[Grant]] = ContextVar("untold")  # who makes the call, until that has been told


@web.middleware
async def audit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outside of what makes answers of errors, so that it sees every answer."""
    parts = request.app[PARTS]
    if not parts.audit.wanted:
        return await handler(request)
    caller = [_who(request)]  # before, for the call may revoke its own token
    _untold.set(caller)
    response = await handler(request)
    if caller and _is_told(request, response.status):
        _tell(request, caller.pop(), response.status)
    return response


def tell_done(request: web.Request) -> None:
    """For a call whose change is made, and whose answer is yet to wait: it is told now, and not again."""
    if caller := _untold.get(None):
        _tell(request, caller.pop(), 200)


def _tell(request: web.Request, who: Grant, status: int) -> None:
    parts = request.app[PARTS]
    resource = request.match_info.route.resource
    parts.audit.write(
        Entry(
            time=rfc3339(parts.now()),
            who=who.name,
            token=who.id,
            sender=request.remote or "",
            method=request.method,
            route=resource.canonical if resource is not None else "",
            path=_SECRET.sub(f"{MARK}…", request.path)[:MAX_PATH],
            status=status,
            result=_result(status),
        )
    )


def _who(request: web.Request) -> Grant:
    try:
        return caller(request)
    except DiscoveryError:
        return NO_ONE


def _is_told(request: web.Request, status: int) -> bool:
    if status in REFUSALS:
        return True
    return request.method not in _READS and not request.path.endswith(_HEARTBEATS)


def _result(status: int) -> Literal["done", "refused", "failed"]:
    if status < 400:
        return "done"
    return "refused" if status in REFUSALS else "failed"

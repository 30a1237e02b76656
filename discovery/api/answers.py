"""What every answer from the view or the store carries: revisions, staleness, entity tags.

Owns the headers of the API's conventions, both ways. It never decides what an answer says.
"""

from __future__ import annotations

import math
import re
from typing import TypeVar

import msgspec
from aiohttp import web

from discovery.api.parts import PARTS
from discovery.errors import InvalidField
from discovery.registry import Precondition, Revisions

R = TypeVar("R", bound=web.StreamResponse)

_ENCODER = msgspec.json.Encoder()
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|\Z)')
_OURS = re.compile(r"[1-9][0-9]{0,18}\Z")


def reply(
    request: web.Request,
    body: object = None,
    *,
    status: int = 200,
    revision: int | None = None,
    etag: int | None = None,
) -> web.Response:
    """An answer that reflects the store at `revision` (None: the view's); a body of None: none.

    When the view has not reached that revision in time, X-View-Revision says how far it is.
    """
    if body is None:
        response = web.Response(status=status)
    else:
        response = web.Response(status=status, body=_ENCODER.encode(body), headers=_JSON)
    return reflect(request, response, revision=revision, etag=etag)


def reflect(request: web.Request, response: R, *, revision: int | None = None, etag: int | None = None) -> R:
    """Gives an answer of any kind the headers that `reply` gives."""
    parts = request.app[PARTS]
    seen = parts.view.revision
    response.headers["X-Revision"] = str(seen if revision is None else revision)
    if revision is not None and seen < revision:
        response.headers["X-View-Revision"] = str(seen)
    if etag is not None:
        response.headers["ETag"] = f'"{etag}"'
    if parts.feed.lost:
        response.headers["X-Stale-Seconds"] = str(math.ceil(parts.feed.stale_seconds))
    return response


def precondition(request: web.Request) -> Precondition:
    """If-Match and If-None-Match (RFC 9110 section 13.1). Raises InvalidField when they can't be read."""
    return Precondition(
        if_match=_revisions(request, "If-Match", weak=False),
        if_none_match=_revisions(request, "If-None-Match", weak=True),
    )


def _revisions(request: web.Request, header: str, *, weak: bool) -> Revisions | None:
    """The revisions that are named. A tag that is none of ours is left out, for it never matches."""
    lines = request.headers.getall(header, None)
    if lines is None:
        return None
    text = ",".join(lines).strip()
    if text == "*":
        return "*"
    revisions = set()
    position = 0
    while position < len(text):
        tag = _TAG.match(text, position)
        if tag is None:
            raise InvalidField(
                f'{header}: {text!r} is neither * nor entity tags in double quotes, such as "42"',
                field=header,
            )
        position = tag.end()
        if _OURS.match(tag[2]) and (weak or not tag[1]):
            revisions.add(int(tag[2]))
    return frozenset(revisions)

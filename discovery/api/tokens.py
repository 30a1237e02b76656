"""/v1/tokens: make, list and revoke tokens.

Owns these routes. A token is told once, in the answer to the call that makes it, and never again.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from discovery import names, tokens
from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts, rfc3339
from discovery.errors import InvalidField
from discovery.tokens import MARK, Grant, RoleName, Stored

MAX_SECONDS = 10 * 366 * 86400


class TokenBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`name` says who uses it, `names` what a token of the role register may write: `web.prod` is all at or below
    that name, a label `*` is any one, `@` the whole zone. `expires_in` in seconds; 0: never."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    role: RoleName
    names: Annotated[list[str], Meta(max_length=tokens.MAX_NAMES)] = []
    expires_in: Annotated[int, Meta(ge=0, le=MAX_SECONDS)] = 0


class TokenState(msgspec.Struct, kw_only=True):
    """`id` is what a token is revoked by. `source`: where it is kept; those of the configuration are revoked there."""

    id: str
    name: str
    role: str
    names: list[str]
    source: Literal["store", "configuration"]
    created_at: str | None = None
    expires_at: str | None = None


class MadeToken(msgspec.Struct, kw_only=True):
    """`token` is told only here: the node keeps no more than its hash."""

    id: str
    name: str
    role: RoleName
    names: list[str]
    expires_at: str | None
    token: str


class TokenList(msgspec.Struct):
    tokens: list[TokenState]


def routes() -> list[web.RouteDef]:
    return [
        web.get("/v1/tokens", list_tokens),
        web.post("/v1/tokens", make),
        web.delete("/v1/tokens/{token}", revoke),
    ]


async def make(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    body = await bodies.read(request, TokenBody)
    if not body.name.isprintable():
        raise InvalidField(f"name: {body.name!r} has characters that can't be printed", field="name")
    allowed = tokens.patterns(body.role, body.names, next(iter(parts.zones)))
    now = parts.now()
    texts = tuple(map(names.to_text, allowed))
    expires_at = now + body.expires_in if body.expires_in else 0
    stored = Stored(
        name=body.name, role=body.role, names=texts, hash="", created_at=now, expires_at=expires_at
    )
    made, token = await parts.tokens.make(stored)
    answer = MadeToken(
        id=made,
        name=body.name,
        role=body.role,
        names=list(texts),
        expires_at=_time(expires_at),
        token=token,
    )
    response = reply(request, answer, status=201)
    response.headers["Cache-Control"] = "no-store"
    return response


async def list_tokens(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    stored = [
        TokenState(
            id=each.id,
            name=each.stored.name,
            role=each.stored.role,
            names=list(each.stored.names),
            source="store",
            created_at=_time(each.stored.created_at),
            expires_at=_time(each.stored.expires_at),
        )
        for each in await parts.tokens.listed()
    ]
    return reply(request, TokenList([*_configured(parts), *stored]))


def _configured(parts: ApiParts) -> list[TokenState]:
    held = parts.tokens.configured
    found: list[Grant] = [*held.tokens.values(), *held.certificates.values()]
    return [
        TokenState(
            id=grant.id,
            name=grant.name,
            role=grant.role.name.lower(),
            names=[names.to_text(pattern) for pattern in grant.names],
            source="configuration",
        )
        for grant in sorted(found, key=lambda grant: grant.id)
    ]


async def revoke(request: web.Request) -> web.Response:
    """Refused for the last token of role operate, while others are there."""
    bodies.query(request)
    id_ = request.match_info["token"]
    if id_.startswith(MARK):
        raise InvalidField(
            "a token is revoked by its id, and this is its secret: `discovery token list` has the ids",
            field="token",
        )
    await request.app[PARTS].tokens.revoke(id_)
    return reply(request, status=204)


def _time(seconds: float) -> str | None:
    return rfc3339(seconds) if seconds else None

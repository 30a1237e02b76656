"""/v1/cluster: who runs the service discovery, and how each of them is.

Owns this route: this node by its own word, and the members of the store's cluster, each asked now. What can't be
asked is said as an error beside what is known; the route itself answers as long as the node lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from aiohttp import web

from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts
from discovery.errors import StoreError
from discovery.kv.contract import Member


class NodeState(msgspec.Struct):
    """`addresses`: where others reach it, as DNS says. What follows `this` is known of this node alone, null of others:
    `revision` is the view's; `lag` how many revisions of the store it has not seen (null, too, while the store is out
    of reach); `stale_seconds` for how long the store has been so.
    """

    name: str
    addresses: Sequence[str]
    http: Sequence[str]
    version: str
    started_at: str
    this: bool = False
    ready: bool | None = None
    stale: bool | None = None
    revision: int | None = None
    lag: int | None = None
    stale_seconds: float | None = None


class MemberState(msgspec.Struct):
    """`round_trip_ms` null and `error`: it did not answer. `size`, `size_in_use` in bytes."""

    id: str
    name: str
    url: str
    role: Literal["leader", "follower", "learner", ""]
    version: str
    healthy: bool
    revision: int
    size: int
    size_in_use: int
    round_trip_ms: float | None
    error: str


class StoreSide(msgspec.Struct):
    """`reachable`: it can be written to and followed from here. `errors` are sentences, empty when all is well."""

    engine: str
    reachable: bool
    errors: Sequence[str]
    members: Sequence[MemberState]


class Cluster(msgspec.Struct):
    revision: int
    nodes: Sequence[NodeState]
    store: StoreSide


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/cluster", get)]


async def get(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    errors: list[str] = []
    members: Sequence[Member] = ()
    lag: int | None = None
    reachable = not parts.feed.lost
    try:
        status = await parts.store.status()
        errors += status.errors
        lag = max(0, status.revision - parts.view.revision) if reachable else None
        members = await parts.store.members()
    except StoreError as error:
        errors.append(error.detail)
        reachable = False
    if parts.feed.lost:
        errors.append(f"out of reach for {parts.feed.stale_seconds:.1f} s: {parts.feed.trouble}")
    store = StoreSide(parts.config.store.engine, reachable, errors, [_member(each) for each in members])
    return reply(request, Cluster(parts.view.revision, _nodes(parts, lag), store))


def _nodes(parts: ApiParts, lag: int | None) -> list[NodeState]:
    """This node first, as it is; the others as they say."""
    this = NodeState(
        **msgspec.structs.asdict(parts.me()),
        this=True,
        ready=parts.view.ready and not parts.stopping,
        stale=parts.view.stale,
        revision=parts.view.revision,
        lag=lag,
        stale_seconds=round(parts.feed.stale_seconds, 3),
    )
    return [this, *(NodeState(**msgspec.structs.asdict(each)) for each in parts.others())]


def _member(member: Member) -> MemberState:
    return MemberState(
        id=member.id,
        name=member.name,
        url=member.url,
        role=member.role,
        version=member.version,
        healthy=not member.error,
        revision=member.revision,
        size=member.size,
        size_in_use=member.size_in_use,
        round_trip_ms=None if member.round_trip is None else round(member.round_trip * 1000, 2),
        error=member.error,
    )

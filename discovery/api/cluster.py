"""/v1/cluster: who runs the service discovery, and how each of them is.

Owns this route: this node by its own word, the others as this one finds them, and the members of the store's cluster,
each asked now. What can't be asked is said as an error beside what is known; the route itself answers as long as the
node lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
from aiohttp import web

from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts
from discovery.errors import StoreError
from discovery.kv.contract import Member, Status
from discovery.links import Link, complaint_of
from discovery.nodes import NodeRecord


class NodeState(msgspec.Struct):
    """`addresses`: where others reach it, as DNS says. `revision` is its view's, `lag` how many revisions that is
    behind the node that is asked; of that one (`this`), behind the furthest of the others. `stale_seconds` is known of
    `this` alone, the link of the others alone: `clock_offset_ms` is its clock ahead of this node's. Null: not known.
    `error`: what is wrong with it, "" when nothing is.
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
    round_trip_ms: float | None = None
    clock_offset_ms: float | None = None
    error: str = ""


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
    found: Sequence[Member] = ()
    reachable = not parts.feed.lost
    # Each on its own: without a quorum the members are still there to be asked, one by one.
    status, members = await asyncio.gather(
        parts.store.status(), parts.store.members(), return_exceptions=True
    )
    for answer in (status, members):
        if isinstance(answer, StoreError):
            reachable = False
            if answer.detail not in errors:
                errors.append(answer.detail)
        elif isinstance(answer, BaseException):
            raise answer
        elif isinstance(answer, Status):
            errors += answer.errors
        else:
            found = answer
    if parts.feed.lost:
        errors.append(f"out of reach for {parts.feed.stale_seconds:.1f} s: {parts.feed.trouble}")
    if trouble := parts.trouble():
        errors.append(trouble)
    store = StoreSide(parts.config.store.engine, reachable, errors, [_member(each) for each in found])
    return reply(request, Cluster(parts.view.revision, _nodes(parts), store))


def _nodes(parts: ApiParts) -> list[NodeState]:
    """This node first; the others as they say, and as they were found last."""
    others = [(node, parts.link(node)) for node in parts.others()]
    ahead = [-link.lag for _, link in others if link.lag is not None]
    this = NodeState(
        **msgspec.structs.asdict(parts.me()),
        this=True,
        ready=parts.view.ready and not parts.stopping,
        stale=parts.view.stale,
        revision=parts.view.revision,
        lag=max(0, *ahead, 0),
        stale_seconds=round(parts.feed.stale_seconds, 3),
        error=f"the store is out of reach: {parts.feed.trouble}" if parts.feed.lost else "",
    )
    return [this, *(_other(node, link) for node, link in others)]


def _other(node: NodeRecord, link: Link) -> NodeState:
    return NodeState(
        **msgspec.structs.asdict(node),
        ready=link.ready,
        stale=link.stale,
        revision=link.revision,
        lag=None if link.lag is None else max(0, link.lag),
        round_trip_ms=_ms(link.round_trip),
        clock_offset_ms=_ms(link.clock_offset),
        error=complaint_of(link),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


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
        round_trip_ms=_ms(member.round_trip),
        error=member.error,
    )

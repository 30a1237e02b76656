"""/v1/cluster/members and /v1/cluster/defrag: what an operator changes about the store's cluster.

Owns these routes. What is allowed is the cluster's to say; here its refusals become answers (`409`, `404`). A store
that is no cluster is told as such.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS
from discovery.errors import Conflict
from discovery.kv.contract import ClusterStore, Seat


class NewMember(msgspec.Struct, forbid_unknown_fields=True):
    """`peer`: the URL on which the other members will reach it."""

    peer: str


class SeatState(msgspec.Struct):
    """`name` is empty before the member has run. `learner`: it does not vote."""

    id: str
    name: str
    peer: str
    learner: bool


class Seats(msgspec.Struct):
    """`member` is the one that was added, removed or promoted; `others` those beside it."""

    member: SeatState
    others: Sequence[SeatState]


class Room(msgspec.Struct):
    """A sentence for each thing done, and for each that could not be, with the reason."""

    done: Sequence[str]
    undone: Sequence[str]


def routes() -> list[web.RouteDef]:
    return [
        web.post("/v1/cluster/members", add),
        web.delete("/v1/cluster/members/{member}", remove),
        web.post("/v1/cluster/members/{member}/promote", promote),
        web.post("/v1/cluster/defrag", defrag),
    ]


async def add(request: web.Request) -> web.Response:
    """A seat for a member that does not run yet; its node is then started with store.member.join."""
    bodies.query(request)
    body = await bodies.read(request, NewMember)
    return _seats(request, await _cluster(request).add_member(body.peer), status=201)


async def remove(request: web.Request) -> web.Response:
    bodies.query(request)
    return _seats(request, await _cluster(request).remove_member(request.match_info["member"]))


async def promote(request: web.Request) -> web.Response:
    bodies.query(request)
    await bodies.read(request, bodies.NoFields)
    return _seats(request, await _cluster(request).promote_member(request.match_info["member"]))


async def defrag(request: web.Request) -> web.Response:
    """Drops all history and gives free space back on every member, which takes up to minutes; mends a full quota."""
    bodies.query(request)
    await bodies.read(request, bodies.NoFields)
    return reply(request, Room(*await _cluster(request).give_room()))


def _cluster(request: web.Request) -> ClusterStore:
    parts = request.app[PARTS]
    if not isinstance(parts.store, ClusterStore):
        raise Conflict(
            f"this node's store is no cluster (store.engine is {parts.config.store.engine}): it has no members, and "
            "`discovery store compact` makes it smaller"
        )
    return parts.store


def _seats(request: web.Request, seats: Sequence[Seat], *, status: int = 200) -> web.Response:
    member, *others = (msgspec.convert(each, SeatState, from_attributes=True) for each in seats)
    return reply(request, Seats(member, others), status=status)

"""Seats in an etcd cluster for an operator: given, taken, promoted; and what etcd's refusals mean for who asked.

Owns the sentences. It judges nothing that etcd judges; only the shape of a peer URL and its scheme are looked at here,
since etcd takes any and the cluster then waits for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from discovery.errors import Conflict, DiscoveryError, InvalidField, StoreError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Seat
from discovery.kv.etcd_admin import add_learner, find_member, list_members, promote_member, remove_member
from discovery.kv.etcd_endpoints import Endpoints
from discovery.kv.etcd_urls import is_whole

_THERE = (
    "a member with that peer URL is there already: start its node with store.member.join, or remove it first"
)
_MEANINGS = (
    (
        "unhealthy cluster",
        "that would cost the quorum, since a member is away or came back within the last 5 s: start it or remove "
        "that one first, and try again when `discovery cluster status` shows all healthy",
    ),
    (
        "not enough started members",
        "that would cost the quorum, since too few of the others run: start them, or add another member first",
    ),
    ("peer urls already exists", _THERE),
    ("member id already exist", _THERE),  # within the same second
    (
        "too many learner members",
        "another member does not vote yet: wait until it does, or remove it first",
    ),
    (
        "in sync with leader",
        "it has not caught up with the leader: start its node, and it is promoted by itself when it has",
    ),
    ("can only promote a learner", "it votes already"),
    ("member not found", "it was removed a moment ago"),
)


def meaning(error: StoreError, what: str) -> DiscoveryError:
    """`what` was not done, such as `n4 is not removed`; a refusal that is not known comes back as it is."""
    said = error.detail.lower()
    for phrase, sense in _MEANINGS:
        if phrase in said:
            return Conflict(f"{what}: {sense}")
    return error


async def give_seat(endpoints: Endpoints, peer: str) -> Sequence[Seat]:
    """As `ClusterStore.add_member`."""
    peer = peer.rstrip("/")
    if not is_whole(peer):
        raise InvalidField(f"peer: expected a URL such as http://10.0.0.4:2380; got {peer!r}", field="peer")
    scheme = peer.partition("://")[0]
    for member in await list_members(endpoints):
        if member.peerURLs and not member.peerURLs[0].startswith(f"{scheme}://"):
            raise InvalidField(
                f"peer: the other members are at URLs such as {member.peerURLs[0]}, so {peer} can't be one of them",
                field="peer",
            )
    try:
        added, members = await add_learner(endpoints, peer)
    except StoreError as error:
        raise meaning(error, f"{peer} is not added") from None
    return _seats(members, added)


async def take_seat(endpoints: Endpoints, name_or_id: str) -> Sequence[Seat]:
    """As `ClusterStore.remove_member`."""
    members = await list_members(endpoints)
    member = find_member(members, name_or_id)
    try:
        await remove_member(endpoints, member)
    except StoreError as error:
        raise meaning(error, f"{name_or_id} is not removed") from None
    return _seats(members, member)


async def let_vote(endpoints: Endpoints, name_or_id: str) -> Sequence[Seat]:
    """As `ClusterStore.promote_member`."""
    member = find_member(await list_members(endpoints), name_or_id)
    try:
        await promote_member(endpoints, member)
    except StoreError as error:
        raise meaning(error, f"{name_or_id} is not promoted") from None
    members = await list_members(endpoints)
    return _seats(members, find_member(members, f"{member.ID:x}"))


def _seats(members: Sequence[wire.Member], first: wire.Member) -> Sequence[Seat]:
    others = (member for member in members if member.ID != first.ID)
    return [
        Seat(f"{each.ID:x}", each.name, each.peerURLs[0] if each.peerURLs else "", each.isLearner)
        for each in (first, *others)
    ]

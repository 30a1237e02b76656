"""What changes an etcd cluster itself: members in and out, and its disk.

Owns these calls, and the order in which a full disk is mended. It judges nothing: etcd refuses what would cost the
quorum (strict reconfiguration); `etcd_seats` says so in an operator's words. Every change is made once and never
repeated: who is not answered looks at the list.
"""

from __future__ import annotations

from collections.abc import Sequence

from discovery.errors import NotFound, StoreError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Compacted, Unavailable
from discovery.kv.etcd_endpoints import (
    ALARM,
    COMPACT,
    DEFRAGMENT,
    MEMBER_ADD,
    MEMBER_PROMOTE,
    MEMBER_REMOVE,
    MEMBERS,
    RANGE,
    A,
    Endpoints,
    Method,
    Q,
    Refused,
)
from discovery.kv.etcd_members import ask_members

LONG_LIMIT = (
    120.0  # seconds for a compaction, and for one member's defragmentation, which answers nothing meanwhile
)


async def add_learner(endpoints: Endpoints, peer: str) -> tuple[wire.Member, Sequence[wire.Member]]:
    """The new member, which does not vote yet, and all there are now. Raises what a call raises."""
    request = wire.MemberAddRequest(peerURLs=[peer], isLearner=True)
    added = await endpoints.call(MEMBER_ADD, request, repeatable=False)
    return added.member, list(added.members)


async def list_members(endpoints: Endpoints) -> Sequence[wire.Member]:
    """Raises what a call raises."""
    request = wire.MemberListRequest(linearizable=True)
    return list((await endpoints.call(MEMBERS, request, repeatable=True)).members)


def find_member(members: Sequence[wire.Member], name_or_id: str) -> wire.Member:
    """By name, or by id in hex. Raises NotFound."""
    for member in members:
        if name_or_id in (member.name, f"{member.ID:x}"):
            return member
    known = ", ".join(member.name or f"{member.ID:x}" for member in members)
    raise NotFound(f"the cluster has no member {name_or_id}: it has {known}")


async def remove_member(endpoints: Endpoints, member: wire.Member) -> None:
    """Raises what a call raises."""
    await endpoints.call(MEMBER_REMOVE, wire.MemberRemoveRequest(ID=member.ID), repeatable=False)


async def promote_member(endpoints: Endpoints, member: wire.Member) -> None:
    """Lets a learner vote. Raises InvalidRequest while it is not in sync, and what a call raises."""
    await endpoints.call(MEMBER_PROMOTE, wire.MemberPromoteRequest(ID=member.ID), repeatable=False)


async def give_room(endpoints: Endpoints) -> tuple[Sequence[str], Sequence[str]]:
    """Compacts all history, defragments every member in turn, the leader last, and takes the alarm back.

    A line for each thing done, and for each not done: a member that can't be reached is left out, and its alarm stays.
    Raises what a call raises.
    """
    done, undone = [], []
    revision = (await endpoints.call(RANGE, wire.RangeRequest(key=b"\0"), repeatable=True)).header.revision
    try:
        await _long(
            endpoints, endpoints.urls[0], COMPACT, wire.CompactionRequest(revision=revision, physical=True)
        )
        done.append("all history is dropped")
    except Compacted:
        done.append("there is no history to drop")
    members = await ask_members(endpoints)
    left_out = set()
    for member in sorted(members, key=lambda each: each.role == "leader"):
        name = member.name or member.id
        try:
            if member.round_trip is None:
                raise Unavailable(member.error)
            await _long(endpoints, member.url, DEFRAGMENT, wire.DefragmentRequest())
            done.append(f"{name}: defragmented")
        except StoreError as error:
            left_out.add(member.id)
            undone.append(f"{name}: not defragmented: {error.detail}")
    asked = wire.AlarmRequest(action=wire.AlarmRequest.GET)
    for alarm in (await endpoints.call(ALARM, asked, repeatable=True)).alarms:
        if alarm.alarm != wire.NOSPACE:
            continue
        name = next(
            (each.name for each in members if each.id == f"{alarm.memberID:x}"), f"{alarm.memberID:x}"
        )
        if f"{alarm.memberID:x}" in left_out:
            undone.append(
                f"{name}: its alarm stays, and no member takes writes: start it and ask again, or remove it"
            )
            continue
        request = wire.AlarmRequest(
            action=wire.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
        )
        await endpoints.call(ALARM, request, repeatable=True)
        done.append(f"{name}: its alarm is taken back")
    return done, undone


async def _long(endpoints: Endpoints, url: str, method: Method[Q, A], request: Q) -> None:
    try:
        await endpoints.once(endpoints.at(url), method, request, seconds=LONG_LIMIT)
    except Refused as refused:
        raise refused.verdict.error from None

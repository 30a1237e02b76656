"""What changes an etcd cluster itself: members in and out, and its disk.

Owns these calls, and the order in which a full disk is mended. It judges nothing: etcd refuses what would cost the
quorum (strict reconfiguration). Every change is made once and never repeated: who is not answered looks at the list.
"""

from __future__ import annotations

from collections.abc import Sequence

from discovery.errors import NotFound
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Compacted
from discovery.kv.etcd_endpoints import (
    ALARM,
    COMPACT,
    DEFRAGMENT,
    MEMBER_ADD,
    MEMBER_PROMOTE,
    MEMBER_REMOVE,
    MEMBERS,
    RANGE,
    Endpoints,
    Refused,
)

DEFRAGMENT_LIMIT = 120.0  # seconds for one member, which answers nothing else meanwhile


async def add_learner(endpoints: Endpoints, peer: str) -> tuple[wire.Member, Sequence[wire.Member]]:
    """The new member, which does not vote yet, and all there are now. Raises what a call raises."""
    request = wire.MemberAddRequest(peerURLs=[peer], isLearner=True)
    added = await endpoints.call(MEMBER_ADD, request, repeatable=False)
    return added.member, list(added.members)


async def list_members(endpoints: Endpoints) -> Sequence[wire.Member]:
    """Raises what a call raises."""
    request = wire.MemberListRequest(linearizable=True)
    return list((await endpoints.call(MEMBERS, request, repeatable=True)).members)


async def find_member(endpoints: Endpoints, name_or_id: str) -> wire.Member:
    """By name, or by id in hex. Raises NotFound, and what a call raises."""
    members = await list_members(endpoints)
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


async def give_room(endpoints: Endpoints) -> Sequence[str]:
    """Compacts all history, defragments every member in turn and takes the alarm back; a line for each thing done.

    A member that can't be reached is left out, and named. Raises what a call raises.
    """
    done = []
    revision = (await endpoints.call(RANGE, wire.RangeRequest(key=b"\0"), repeatable=True)).header.revision
    try:
        await endpoints.call(
            COMPACT, wire.CompactionRequest(revision=revision, physical=True), repeatable=False
        )
        done.append(f"history below revision {revision} is dropped")
    except Compacted:
        done.append("there is no history to drop")
    for url in list(endpoints.urls):
        try:
            await endpoints.once(
                endpoints.at(url), DEFRAGMENT, wire.DefragmentRequest(), seconds=DEFRAGMENT_LIMIT
            )
            done.append(f"{url}: defragmented")
        except Refused as refused:
            done.append(f"{url}: not defragmented: {refused.verdict.error.detail}")
    raised = (
        await endpoints.call(ALARM, wire.AlarmRequest(action=wire.AlarmRequest.GET), repeatable=True)
    ).alarms
    for alarm in raised:
        if alarm.alarm == wire.NOSPACE:
            request = wire.AlarmRequest(
                action=wire.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
            )
            await endpoints.call(ALARM, request, repeatable=True)
            done.append(f"member {alarm.memberID:x}: its alarm is taken back")
    return done

"""The members of an etcd cluster: who they are, and how each is by its own word.

Owns these questions. Each member is asked on its own channel, so that one that is gone delays or hides no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Member
from discovery.kv.etcd_endpoints import ALARM, MEMBERS, STATUS, Endpoints, Refused

_ALARMS = {
    wire.NOSPACE: "the quota is used up, writes are refused: `discovery cluster defrag` gives room",
    wire.CORRUPT: "its data is damaged: `discovery cluster remove` it, move its folder away, and let it join",
}


async def follow_members(endpoints: Endpoints) -> tuple[wire.MemberListResponse, bool]:
    """Takes the addresses of all voting members into use. The list, and whether all have one: who never ran has none.

    Raises what a call raises.
    """
    listed = await endpoints.call(MEMBERS, wire.MemberListRequest(), repeatable=True, leader=False)
    voting = [member.clientURLs for member in listed.members if not member.isLearner]
    endpoints.follow(url for urls in voting for url in urls)
    return listed, all(voting)


async def alarms(endpoints: Endpoints) -> Sequence[str]:
    """What the cluster raises alarm about, as sentences. Raises what a call raises."""
    request = wire.AlarmRequest(action=wire.AlarmRequest.GET)
    raised = (await endpoints.call(ALARM, request, repeatable=True)).alarms
    return [f"member {each.memberID:x}: {_ALARMS[each.alarm]}" for each in raised if each.alarm in _ALARMS]


async def ask_members(endpoints: Endpoints) -> Sequence[Member]:
    """Every member at every address that is known. Raises what a call raises when no member lists them."""
    listed, _ = await follow_members(endpoints)
    advertised = endpoints.usable(url for member in listed.members for url in member.clientURLs)
    urls = list(dict.fromkeys((*endpoints.urls, *advertised)))
    answers = await asyncio.gather(*(_ask(endpoints, url) for url in urls))
    statuses = dict(zip(urls, answers, strict=True))
    by_id = {
        status.header.member_id: (url, status, took)
        for url, (status, took, _) in statuses.items()
        if status is not None
    }
    members = []
    for member in listed.members:
        url, status, took = by_id.get(member.ID, ("", None, None))
        if status is None:
            url = member.clientURLs[0] if member.clientURLs else ""
            error = next(
                (each for at, (_, _, each) in statuses.items() if at in member.clientURLs and each), ""
            )
            members.append(_silent(member, url, error or "none of its addresses is known here"))
            continue
        role: Literal["leader", "follower", "learner"] = (
            "learner" if status.isLearner else "leader" if status.leader == member.ID else "follower"
        )
        members.append(
            Member(
                id=f"{member.ID:x}",
                name=member.name,
                url=url,
                role=role,
                version=status.version,
                revision=status.header.revision,
                size=status.dbSize,
                size_in_use=status.dbSizeInUse,
                round_trip=took,
                error="; ".join(status.errors) or ("" if status.leader else "it sees no leader"),
            )
        )
    return members


async def _ask(endpoints: Endpoints, url: str) -> tuple[wire.StatusResponse | None, float | None, str]:
    """(what it says, seconds it took, why it says nothing)."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    try:
        status = await endpoints.once(endpoints.at(url), STATUS, wire.StatusRequest())
    except Refused as refused:
        return None, None, refused.verdict.error.detail
    return status, loop.time() - begin, ""


def _silent(member: wire.Member, url: str, error: str) -> Member:
    return Member(
        id=f"{member.ID:x}",
        name=member.name,
        url=url,
        role="",
        version="",
        revision=0,
        size=0,
        size_in_use=0,
        round_trip=None,
        error=error,
    )

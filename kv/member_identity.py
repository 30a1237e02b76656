"""Who a managed member is: the one whose data it holds, a member of a cluster that begins, or one that joins.

Owns the order of these looks, and the seat that a joining member takes. A member that lost its data comes in anew under
another name and id: under its old id it would break what it once promised (etcd panics). What the others' words mean is
`member_verdicts`'.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from discovery.errors import ConfigError, StoreError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.etcd_admin import add_learner, list_members, remove_member
from discovery.kv.etcd_endpoints import MEMBERS, Access, Endpoints
from discovery.kv.member_files import MemberFiles
from discovery.kv.member_peers import ask_peers, tls_context
from discovery.kv.member_plan import Identity, MemberSettings, check_identity, new_identity, refuse
from discovery.kv.member_verdicts import check_begin, check_lost, judge_clock, judge_cluster

log = logging.getLogger(__name__)

JOIN_LIMIT = 30.0  # seconds that a join waits while the cluster takes no change of its members
ASK_EVERY = 1.0  # seconds

_NOT_NOW = ("unhealthy cluster", "too many learner members")  # pass by themselves


async def identity_of(files: MemberFiles, mine: MemberSettings) -> Identity:
    """The held one, or that of a member which begins now. Raises ConfigError."""
    folder = str(files.folder)
    held = files.identity()
    if held is not None and files.has_data():
        check_identity(held, mine, folder)
        peers = await ask_peers(held.others, tls_context(mine))
        for warning in (judge_clock(peers), judge_cluster(held, peers, folder)):
            if warning:
                log.warning("%s", warning)
        await _check_join(mine, held, folder)
        return held
    if files.has_data():
        raise ConfigError(
            f"store.path: {files.data} holds an etcd's data that was not begun here: move it away, or choose "
            "another folder",
            field="store.path",
        )
    if mine.join:
        identity = await _join(mine, held)
    else:
        others = set(mine.initial_cluster.values()) - {mine.peer}
        peers = await ask_peers(sorted(others), tls_context(mine))
        check_begin(mine, peers, folder)
        check_lost(held, mine, folder)
        warning = judge_clock(peers)
        if warning:
            log.warning("%s", warning)
        identity = new_identity(mine)
    await asyncio.to_thread(files.write_identity, identity)
    return identity


async def _check_join(mine: MemberSettings, held: Identity, folder: str) -> None:
    """That the setting still names a member of the cluster that the data belongs to. Raises ConfigError."""
    if not mine.join or not held.cluster_id:
        return
    endpoints = _cluster(mine)
    try:
        found = await endpoints.call(MEMBERS, wire.MemberListRequest(), repeatable=True, leader=False)
    except StoreError as error:
        log.info("%s, which this member once joined, says nothing: %s", mine.join, error)
        return
    finally:
        await endpoints.close()
    theirs = f"{found.header.cluster_id:x}"
    if theirs != held.cluster_id:
        refuse(
            "join",
            f"{mine.join} is in cluster {theirs}, the data in {folder} in {held.cluster_id}: "
            "correct the URL, or move the data away to join that one",
        )


async def _join(mine: MemberSettings, held: Identity | None) -> Identity:
    """Puts this member into the cluster as a learner, unless it stands there waiting. Raises ConfigError."""
    loop = asyncio.get_running_loop()
    end = loop.time() + JOIN_LIMIT
    endpoints = _cluster(mine)
    told = False
    try:
        while True:
            try:
                return await _take_seat(endpoints, mine, held)
            except StoreError as error:
                if loop.time() >= end or not any(each in error.detail for each in _NOT_NOW):
                    why = error.detail.replace("store.etcd.", "store.member.")
                    refuse("join", f"the cluster at {mine.join} can't be joined: {why}")
                if not told:
                    log.info("the cluster takes no new member yet: %s", error)
                    told = True
            await asyncio.sleep(ASK_EVERY)
    finally:
        await endpoints.close()


async def _take_seat(endpoints: Endpoints, mine: MemberSettings, held: Identity | None) -> Identity:
    members = await list_members(endpoints)
    urls = sorted({url for each in members for url in each.peerURLs} - {mine.peer})
    warning = judge_clock(await ask_peers(urls, tls_context(mine)))
    if warning:
        log.warning("%s", warning)
    ours = next((each for each in members if mine.peer in each.peerURLs), None)
    name = held.name if held is not None and ours is not None and not ours.name else ""
    if ours is not None and ours.name:  # it ran once; its address is free here, so it does not run now
        log.warning("member %s at %s has lost its data: it is removed and put in anew", ours.name, mine.peer)
        await remove_member(endpoints, ours)
        ours = None
    if ours is None:
        ours, members = await add_learner(endpoints, mine.peer)
    name = name or f"{mine.name}-{secrets.token_hex(2)}"
    # etcd wants as many as the cluster has, those too that never ran and have no name
    listed = {f"{each.ID:x}": each.peerURLs[0] for each in members if each.peerURLs and each.ID != ours.ID}
    listed[name] = mine.peer
    return Identity(name, mine.peer, listed, token="", state="existing", learner=ours.isLearner)


def _cluster(mine: MemberSettings) -> Endpoints:
    """Of the cluster that is joined."""
    return Endpoints(Access([mine.join], cert=mine.cert, key=mine.key, ca=mine.ca))

"""What the other members' words mean for one that wants to start: go on, be warned, or be refused.

Owns these judgements. Pure: what the peers said is an argument. The principle: a member that begins is refused at the
first contradiction, since nothing is lost yet; one that has data is refused only when it stands alone with what it
says, so that one wrong machine can't keep the right ones from starting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from discovery.errors import ConfigError
from discovery.kv.member_plan import Identity, MemberSettings, refuse

CLOCK_LIMIT = 10.0  # seconds that clocks of members may differ


class PeerMember(msgspec.Struct, frozen=True):
    """A member as a peer lists it. It has no client URLs as long as it was never started."""

    id: int
    peerURLs: tuple[str, ...] = ()  # etcd's names
    name: str = ""
    clientURLs: tuple[str, ...] = ()


class Peer(NamedTuple):
    """`cluster_id` in hex. `ahead`: seconds by which its clock is ahead of ours. `error`: why it said nothing;
    `strange`: something answers there, but not as a member speaks to us."""

    url: str
    cluster_id: str = ""
    members: Sequence[PeerMember] = ()
    ahead: float = 0.0
    error: str = ""
    strange: bool = False


def judge_clock(peers: Sequence[Peer]) -> str:
    """A warning, or "". Raises ConfigError when this machine's clock differs from that of most who answer."""
    heard = [peer for peer in peers if not peer.error]
    off = [peer for peer in heard if abs(peer.ahead) > CLOCK_LIMIT]
    if not off:
        return ""
    worst = max(off, key=lambda peer: abs(peer.ahead))
    way = "behind" if worst.ahead > 0 else "ahead of"
    line = f"this machine's clock is {abs(worst.ahead):.0f} s {way} that of the member at {worst.url}"
    if 2 * len(off) > len(heard):
        raise ConfigError(f"{line}: set the clocks (timedatectl set-ntp true) and start again")
    return f"{line}, whose clock is wrong by the others': set it"


def judge_cluster(held: Identity, peers: Sequence[Peer], folder: str) -> str:
    """Of a member with data: a warning, or "". Raises ConfigError when no peer that answers is in its cluster."""
    strange = next((peer for peer in peers if peer.strange), None)
    elsewhere = [peer for peer in peers if held.cluster_id and peer.cluster_id not in ("", held.cluster_id)]
    if not elsewhere:
        return "" if strange is None else _strange(strange)
    line = f"{elsewhere[0].url} is in cluster {elsewhere[0].cluster_id}, the data in {folder} in {held.cluster_id}"
    if not any(peer.cluster_id == held.cluster_id for peer in peers):
        refuse("initial_cluster", f"{line}: correct the URL, or move the data away and join")
    return f"{line}: that machine has to be put right"


def check_begin(settings: MemberSettings, peers: Sequence[Peer], folder: str) -> None:
    """Of a member without data that begins a cluster with `peers`. Raises ConfigError."""
    for peer in peers:
        if peer.strange:
            refuse("initial_cluster", _strange(peer))
        ours = next((each for each in peer.members if settings.peer in each.peerURLs), None)
        if ours is not None and ours.clientURLs:
            refuse(
                "initial_cluster",
                f"the cluster at {peer.url} knows this member, but {folder} has lost its data: "
                "set store.member.join to another member's client URL instead, and it is put in anew",
            )
        if peer.cluster_id and ours is None:
            refuse(
                "initial_cluster",
                f"{peer.url} is in a cluster that does not list {settings.peer}: set store.member.join to join it",
            )
        theirs = {each.name: url for each in peer.members for url in each.peerURLs}
        if peer.cluster_id and theirs != dict(settings.initial_cluster):
            listed = ", ".join(f"{name}={url}" for name, url in sorted(theirs.items()))
            refuse(
                "initial_cluster",
                f"{peer.url} begins a cluster of {listed}: the members' lists must be the same",
            )


def check_lost(held: Identity | None, settings: MemberSettings, folder: str) -> None:
    """Of a member without data that joins nobody: with the data of a former life it would be another, under the same
    id, and tear the cluster down (etcd panics). Raises ConfigError."""
    if held is None or not held.cluster_id:
        return
    alone = len(held.initial_cluster) == 1
    way = (
        f"restore a snapshot, or move {folder} away to begin with nothing"
        if alone
        else "set store.member.join to another member's client URL instead of initial_cluster, and it is put in anew"
    )
    refuse("initial_cluster", f"{folder} has lost the data of member {held.name}: {way}")


def waits_for(own: Peer, others: Sequence[Peer]) -> str:
    """Why a member has no leader, from what it and the others say."""
    reasons = []
    for peer in others:
        if peer.error:
            reasons.append(f"{peer.url} ({peer.error})")
        elif own.cluster_id and peer.cluster_id != own.cluster_id:
            reasons.append(f"{peer.url} (it is in another cluster: is initial_cluster the same there?)")
    return f"it waits for {', '.join(reasons)}" if reasons else "it has no leader yet"


def _strange(peer: Peer) -> str:
    return f"{peer.url} does not answer as a member's peer URL ({peer.error}): correct the URL, or its certificates"

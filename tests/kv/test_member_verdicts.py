"""What other members' words mean for one that wants to start."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from discovery.errors import ConfigError
from discovery.kv.member_plan import new_identity
from discovery.kv.member_verdicts import (
    CLOCK_LIMIT,
    Peer,
    PeerMember,
    check_begin,
    check_lost,
    judge_clock,
    judge_cluster,
    waits_for,
)
from tests.kv.test_member_plan import THREE, settings

OURS = settings(initial_cluster=THREE)
HELD = msgspec.structs.replace(new_identity(OURS), cluster_id="aa")


def listing(cluster: dict[str, str], *started: str) -> tuple[PeerMember, ...]:
    return tuple(
        PeerMember(number, (url,), name, (url.replace("2380", "2379"),) if name in started else ())
        for number, (name, url) in enumerate(cluster.items())
    )


def peer(
    name: str = "n2",
    cluster_id: str = "aa",
    *,
    ahead: float = 0.0,
    members: Sequence[PeerMember] = listing(THREE),
) -> Peer:
    return Peer(THREE[name], cluster_id, members, ahead)


AWAY = Peer(THREE["n3"], error="connection refused")


def test_clocks_that_agree_or_can_t_be_asked() -> None:
    assert judge_clock([]) == ""
    assert judge_clock([AWAY, peer(ahead=CLOCK_LIMIT), peer(ahead=-CLOCK_LIMIT)]) == ""


@pytest.mark.parametrize(("ahead", "way"), [(60.4, "60 s behind that"), (-3600.0, "3600 s ahead of that")])
def test_a_clock_that_most_others_contradict_is_refused(ahead: float, way: str) -> None:
    line = rf"^this machine's clock is {way} of the member at http://10\.0\.0\.2:2380: set the clocks"
    for peers in (
        [peer(ahead=ahead)],
        [peer(ahead=ahead), AWAY],
        [peer(ahead=ahead), peer("n3", ahead=ahead / 2)],
    ):
        with pytest.raises(ConfigError, match=line):
            judge_clock(peers)


def test_one_wrong_clock_of_two_is_told_and_keeps_nobody_from_starting() -> None:
    told = judge_clock([peer(ahead=60), peer("n3")])
    assert told == (
        "this machine's clock is 60 s behind that of the member at http://10.0.0.2:2380, "
        "whose clock is wrong by the others': set it"
    )


def test_data_of_another_cluster_than_all_others_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^store\.member\.initial_cluster: http://10\.0\.0\.2:2380 is in cluster bb, the data in /d in aa",
    ):
        judge_cluster(HELD, [peer(cluster_id="bb"), AWAY], "/d")


def test_one_other_machine_that_is_wrong_is_told() -> None:
    assert "that machine has to be put right" in judge_cluster(
        HELD, [peer(cluster_id="bb"), peer("n3")], "/d"
    )
    strange = Peer(THREE["n3"], error="it is no etcd", strange=True)
    assert judge_cluster(HELD, [peer(), strange], "/d").startswith("http://10.0.0.3:2380 does not answer as")
    assert judge_cluster(HELD, [peer(), AWAY], "/d") == ""
    unknown = msgspec.structs.replace(HELD, cluster_id="")
    assert judge_cluster(unknown, [peer(cluster_id="bb")], "/d") == ""


def test_a_member_begins_with_peers_that_are_away_or_begin_the_same() -> None:
    check_begin(OURS, [AWAY, peer()], "/d")
    # the first two of three run already, and this one has never
    check_begin(OURS, [peer(members=listing(THREE, "n2", "n3"))], "/d")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            peer(members=listing(THREE, "n1", "n2")),
            "knows this member, but /d has lost its data: set store.member.join",
        ),
        (
            peer(members=listing({"n2": THREE["n2"], "n3": THREE["n3"]})),
            "is in a cluster that does not list http://10.0.0.1:2380: set store.member.join to join it",
        ),
        (
            peer(members=listing({"n1": THREE["n1"], "n2": THREE["n2"]})),
            "begins a cluster of n1=http://10.0.0.1:2380, n2=http://10.0.0.2:2380: the members' lists must be the same",
        ),
        (
            peer(members=listing({"x": THREE["n1"], "n2": THREE["n2"], "n3": THREE["n3"]})),
            "the members' lists must be the same",
        ),
        (
            Peer(THREE["n2"], error="it answers with status 404", strange=True),
            "http://10.0.0.2:2380 does not answer as a member's peer URL (it answers with status 404)",
        ),
    ],
)
def test_a_member_that_begins_is_refused_at_the_first_contradiction(answer: Peer, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_begin(OURS, [AWAY, answer], "/d")
    assert refused.value.detail.startswith("store.member.initial_cluster: ")
    assert line in refused.value.detail


def test_lost_data_is_never_begun_anew_in_silence() -> None:
    check_lost(None, OURS, "/d")
    check_lost(msgspec.structs.replace(HELD, cluster_id=""), OURS, "/d")  # it never formed a cluster
    with pytest.raises(ConfigError, match=r"/d has lost the data of member n1: set store\.member\.join"):
        check_lost(HELD, OURS, "/d")
    alone = msgspec.structs.replace(new_identity(settings()), cluster_id="aa")
    with pytest.raises(
        ConfigError, match=r"/d has lost the data of member n1: restore a snapshot, or move /d away"
    ):
        check_lost(alone, settings(), "/d")


def test_whom_a_member_waits_for() -> None:
    own = peer("n1")
    assert waits_for(own, [peer(), AWAY]) == "it waits for http://10.0.0.3:2380 (connection refused)"
    assert waits_for(own, [peer(cluster_id="bb")]) == (
        "it waits for http://10.0.0.2:2380 (it is in another cluster: is initial_cluster the same there?)"
    )
    assert waits_for(own, [peer()]) == "it has no leader yet"
    assert waits_for(Peer("x", error="away"), [peer()]) == "it has no leader yet"

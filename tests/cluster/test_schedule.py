"""The schedule of faults: the same from the same seed, all kinds, and never two nodes at once."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.cluster.schedule import CALM, MEMBER_FAULTS, NODE_FAULTS, schedule

MEMBERS, NODES = ["m1", "m2", "m3"], ["n1", "n2", "n3"]


def test_the_same_seed_gives_the_same_schedule_and_another_another() -> None:
    assert schedule(7, 60, MEMBERS, NODES) == schedule(7, 60, MEMBERS, NODES)
    assert schedule(7, 60, MEMBERS, NODES) != schedule(8, 60, MEMBERS, NODES)


@pytest.mark.parametrize("seed", range(20))
def test_the_faults_of_one_side_follow_one_another_and_end_in_time(seed: int) -> None:
    faults = schedule(seed, 200, MEMBERS, NODES)
    assert faults == sorted(faults)
    for side, kinds in (("member", MEMBER_FAULTS), ("node", NODE_FAULTS)):
        row = [fault for fault in faults if fault.side == side]
        assert {fault.kind for fault in row} == {kind for kind, _ in kinds}
        assert all(fault.at + fault.lasts <= 200 for fault in row)
        gaps = [second.at - first.at - first.lasts for first, second in pairwise(row)]
        assert min(gaps) > 0.5
        assert max(gaps) > CALM


def test_a_minute_holds_nearly_every_kind() -> None:
    for seed in range(20):
        kinds = {(fault.side, fault.kind) for fault in schedule(seed, 60, MEMBERS, NODES)}
        assert len(kinds) >= 14, seed

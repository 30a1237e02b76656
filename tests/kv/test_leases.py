"""The lease wheel: never early, never forgotten, cheap to renew."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.kv.leases import LOOKS, TICK, LeaseWheel


def ended(wheel: LeaseWheel, now: float) -> list[int]:
    """Ends all that is over at `now`, as the store does."""
    ids: list[int] = []
    more = True
    while more:
        more = wheel.advance(now)
        for lease_id in wheel.due(1_000_000):
            wheel.revoke(lease_id)
            ids.append(lease_id)
    return ids


def test_a_lease_ends_at_its_ttl_and_within_a_tick() -> None:
    for begin in (0.0, 0.1, 0.25, 0.499, 1_000_000.3):
        wheel = LeaseWheel()
        wheel.grant(1, 10, begin)
        assert ended(wheel, begin + 9.999) == []
        assert ended(wheel, begin + 10 + TICK) == [1]
        assert len(wheel) == 0


def test_a_keepalive_gives_the_full_time_again() -> None:
    wheel = LeaseWheel()
    wheel.grant(1, 10, 0.0)
    for now in (9.0, 18.0, 27.0):
        assert ended(wheel, now) == []
        assert wheel.keepalive(1, now) == 10
        assert wheel.remaining(1, now) == (10, 10.0)
    assert ended(wheel, 36.9) == []
    assert ended(wheel, 37.5) == [1]
    assert wheel.keepalive(1, 37.5) == 0
    assert wheel.remaining(1, 37.5) is None


def test_a_due_lease_stays_due_until_it_is_revoked_and_can_t_be_renewed() -> None:
    wheel = LeaseWheel()
    wheel.grant(1, 10, 0.0)
    wheel.grant(2, 10, 0.0)
    wheel.advance(11.0)
    for _ in range(2):
        assert sorted(wheel.due(10)) == [1, 2]
        assert len(wheel.due(1)) == 1
        assert wheel.keepalive(1, 11.0) == 0
        assert wheel.remaining(1, 11.0) == (10, 0.0)
        assert len(wheel) == 2
        wheel.advance(12.0)
    wheel.revoke(1)
    assert wheel.due(10) == [2]
    assert len(wheel) == 1


def test_a_lease_granted_anew_is_not_ended_by_its_old_deadline() -> None:
    wheel = LeaseWheel()
    wheel.grant(1, 10, 0.0)
    wheel.revoke(1)
    wheel.grant(1, 100, 1.0)
    assert ended(wheel, 100.0) == []
    assert ended(wheel, 101.5) == [1]
    wheel.grant(2, 1, 102.0)
    wheel.advance(104.0)
    wheel.grant(2, 10, 104.0)  # while it was due
    assert wheel.due(10) == []
    assert wheel.keepalive(2, 104.0) == 10


def test_granting_and_revoking_for_ever_keeps_nothing() -> None:
    wheel = LeaseWheel()
    for turn in range(1_000):
        wheel.revoke(1)
        wheel.grant(1, 10, turn)
        wheel.advance(turn)
    assert sum(len(ids) for ids in wheel._filed.values()) <= 11
    assert len(wheel) == 1


def test_one_step_looks_at_a_bounded_number_of_leases() -> None:
    wheel = LeaseWheel()
    for lease_id in range(1, LOOKS * 3):
        wheel.grant(lease_id, 10, 0.0)
    steps = 1
    while wheel.advance(20.0):
        assert len(wheel.due(LOOKS * 3)) == LOOKS * steps
        steps += 1
    assert steps == 3
    assert len(ended(wheel, 20.0)) == LOOKS * 3 - 1


def test_a_long_pause_walks_over_no_empty_ticks() -> None:
    wheel = LeaseWheel()
    wheel.grant(1, 10, 0.0)
    assert ended(wheel, 1e12) == [1]


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["grant", "keepalive", "revoke", "pass"]), st.integers(1, 4), st.integers(1, 8)
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(steps)
def test_the_wheel_agrees_with_a_dict_of_deadlines(steps: list[Step]) -> None:
    wheel, model, now = LeaseWheel(), dict[int, tuple[int, float]](), 0.0
    for what, lease_id, amount in steps:
        if what == "grant" and lease_id not in model:
            wheel.grant(lease_id, amount, now)
            model[lease_id] = (amount, now + amount)
        elif what == "keepalive":
            ttl = model[lease_id][0] if lease_id in model else 0
            assert wheel.keepalive(lease_id, now) == ttl
            if ttl:
                model[lease_id] = (ttl, now + ttl)
        elif what == "revoke":
            wheel.revoke(lease_id)
            model.pop(lease_id, None)
        elif what == "pass":
            now += amount * 0.3
            gone = ended(wheel, now)
            for ended_id in gone:
                assert model.pop(ended_id)[1] <= now
            assert all(deadline > now - TICK for _, deadline in model.values())
        assert len(wheel) == len(model)


def test_a_renewal_files_nothing(rng: random.Random) -> None:
    """Counted, not timed: a keep-alive leaves the ticks alone."""
    wheel = LeaseWheel()
    for lease_id in range(1, 1_000):
        wheel.grant(lease_id, 30, 0.0)
    before = {tick: list(ids) for tick, ids in wheel._filed.items()}
    for _ in range(10_000):
        wheel.keepalive(rng.randint(1, 999), 5.0)
    assert wheel._filed == before

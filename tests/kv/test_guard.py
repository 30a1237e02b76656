"""Mass expiry and stalls: what is held, for how long, and what never is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.kv.contract import Put
from discovery.kv.embedded import EmbeddedStore, awake_or_not
from discovery.kv.guard import Guard, Pulse, mass_expiries
from discovery.kv.leases import TICK
from tests.support.clock import FakeClock

TTL = 10


def parent(key: bytes) -> bytes:
    return key[: key.rfind(b"/") + 1]


class Watched:
    """A guarded store, and time that passes for it tick by tick, as it does for a process that runs."""

    def __init__(self, path: Path, share: float) -> None:
        self.clock = FakeClock()
        self.suspended = 0.0
        self.store = EmbeddedStore(
            path, clock=self.clock, pulse_clock=self.pulse_clock, guard=Guard(share, parent)
        )

    def pulse_clock(self) -> float:
        return self.clock() + self.suspended

    async def register(self, service: str, count: int, ttl: int = TTL) -> list[int]:
        keys = [f"/s/{service}/i{number}".encode() for number in range(count)]
        made = await asyncio.gather(*(self.store.txn([], [Put(key, b"")], grant_ttl=ttl) for key in keys))
        return [each.lease.id for each in made if each.lease is not None]

    async def elapse(self, seconds: float, beating: list[int] | None = None) -> None:
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            await self.store.expire_due()
            if beating:
                assert await self.store.lease_keepalive_many(beating) == []

    async def living(self, service: str) -> list[str]:
        found = await self.store.range(f"/s/{service}/".encode(), f"/s/{service}0".encode())
        return [kv.key.decode().rpartition("/")[2] for kv in found.kvs]

    async def held(self) -> int:
        return (await self.store.status()).leases_held


@asynccontextmanager
async def watched(path: Path, share: float = 0.5) -> AsyncIterator[Watched]:
    place = Watched(path, share)
    await place.store.start()
    try:
        yield place
    finally:
        await place.store.close()


async def test_most_of_a_service_at_once_gets_one_ttl_more_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path) as place:
        beating = (await place.register("web", 7))[4:]
        await place.elapse(TTL + 1, beating)
        assert len(await place.living("web")) == 7
        assert await place.held() == 4
        assert "4 of 7 keys below /s/web/ run out at once: their 4 leases get one TTL more" in caplog.text
        await place.elapse(TTL - 2, beating)
        assert len(await place.living("web")) == 7
        await place.elapse(2, beating)
        assert await place.living("web") == ["i4", "i5", "i6"]
        assert await place.held() == 4


@pytest.mark.parametrize(("count", "silent"), [(7, 3), (4, 2), (2, 2), (1, 1), (6, 3)])
async def test_half_of_a_service_or_fewer_than_three_end_at_their_time(
    tmp_path: Path, count: int, silent: int
) -> None:
    async with watched(tmp_path) as place:
        leases = await place.register("web", count)
        await place.register("api", 1, ttl=100)
        await place.elapse(TTL + 1, leases[silent:])
        assert len(await place.living("web")) == count - silent
        assert await place.held() == 0


async def test_they_need_not_run_out_in_the_same_tick(tmp_path: Path) -> None:
    """Four instances that beat at different times of their interval, and then all fall silent."""
    async with watched(tmp_path) as place:
        for number, lease in enumerate(await place.register("web", 4)):
            await place.elapse(0.5 if number else 0)
            await place.store.lease_keepalive(lease)
        await place.elapse(TTL + 2)
        assert len(await place.living("web")) == 4
        assert await place.held() == 4
        await place.elapse(TTL)
        assert await place.living("web") == []


async def test_a_heartbeat_after_the_hold_earns_another(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        leases = await place.register("web", 3)
        await place.elapse(TTL + 1)
        assert await place.store.lease_keepalive_many(leases) == []
        await place.elapse(TTL + 1)
        assert (len(await place.living("web")), await place.held()) == (3, 6)
        await place.elapse(TTL + 1)
        assert (await place.living("web"), await place.held()) == ([], 6)


async def test_other_services_and_what_lies_deeper_do_not_count(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        await place.register("web", 2)
        await place.register("web/deep", 1)
        await place.register("api", 3)
        await place.store.put(b"/s/web/permanent", b"")
        await place.elapse(TTL + 1)
        assert await place.living("web") == ["permanent"]
        assert len(await place.living("api")) == 3
        assert await place.held() == 3


async def test_one_lease_of_many_instances_is_held_as_a_whole(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        lease = await place.store.lease_grant(TTL)
        for number in range(3):
            await place.store.put(b"/s/web/%d" % number, b"", lease=lease.id)
        await place.store.put(b"/s/other/1", b"", lease=lease.id)
        await place.elapse(TTL + 1)
        assert (await place.living("web"), await place.held()) == (["0", "1", "2"], 1)
        await place.elapse(TTL)
        assert await place.living("web") + await place.living("other") == []


async def test_what_is_given_up_on_purpose_is_never_held(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        leases = await place.register("web", 4)
        for lease in leases[:3]:
            await place.store.lease_revoke(lease)
        await place.store.delete(b"/s/web/i3")
        assert await place.living("web") == []
        assert await place.held() == 0


async def test_a_thousand_services_that_end_at_once_are_not_one(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        await asyncio.gather(*(place.register(f"web{number}", 1) for number in range(600)))
        await place.elapse(TTL + 1)
        status = await place.store.status()
        assert (status.leases, status.leases_held) == (0, 0)


async def test_a_stall_gives_every_lease_its_full_ttl_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path) as place:
        (lease,) = await place.register("web", 1)
        await place.elapse(TTL - 1)
        place.clock.advance(3 * TTL)  # and nothing ran
        await place.store.expire_due()
        assert await place.store.lease_ttl(lease) == (TTL, TTL)
        assert "nothing ran here for 30.0 s: every lease has its full TTL again" in caplog.text
        await place.elapse(TTL - 1)
        assert await place.living("web") == ["i0"]
        await place.elapse(1.5)
        assert await place.living("web") == []
        assert (await place.store.status()).stalls == 1


async def test_a_suspended_machine_is_a_stall_though_its_monotonic_clock_stood_still(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        (lease,) = await place.register("web", 1)
        await place.elapse(TTL - 1)
        place.suspended = 3_600.0
        await place.elapse(TICK)
        assert await place.store.lease_ttl(lease) == (TTL, TTL)
        assert (await place.store.status()).stalls == 1


def test_the_clock_of_the_pulse_is_never_behind_the_monotonic_one() -> None:
    before = time.monotonic()
    assert awake_or_not() >= before


async def test_a_tick_that_is_a_little_late_is_no_stall(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        await place.register("web", 1)
        for _ in range(8):
            place.clock.advance(TICK + 1.0)
            await place.store.expire_due()
        assert (await place.living("web"), (await place.store.status()).stalls) == ([], 0)


async def test_without_a_guard_nothing_is_held(tmp_path: Path) -> None:
    clock = FakeClock()
    store = EmbeddedStore(tmp_path, clock=clock)
    await store.start()
    for number in range(5):
        await store.txn([], [Put(b"/s/web/%d" % number, b"")], grant_ttl=TTL)
    clock.advance(TTL + 1)
    assert await store.expire_due() == 5
    await store.close()


# ---------------------------------------------------------------- the judgements alone


def test_a_pulse_tells_the_gap_once() -> None:
    pulse = Pulse(0.5)
    gaps = [pulse.stalled(now) for now in (0.0, 0.5, 2.0, 3.6, 4.0, 100.0, 100.5)]
    assert gaps == [0.0, 0.0, 0.0, pytest.approx(1.6), 0.0, 96.0, 0.0]


def test_more_than_the_share_and_at_least_three() -> None:
    groups = {
        b"a": [1, 2, 3],
        b"b": [1, 2, 3, 9, 9, 9],
        b"c": [1, 2],
        b"d": [1, 2, 3, 0, 0],
        b"e": [0, 0, 0],
        b"f": [],
    }
    found = list(mass_expiries(groups, lambda lease: lease < 9, 0.5))
    assert [(mass.group, mass.out, mass.keys) for mass in found] == [(b"a", 3, 3), (b"d", 3, 5)]
    assert not list(mass_expiries(groups, lambda lease: lease < 9, 1.0))

"""The moves out of DNS and back, below HTTP: what the store holds, and lost races."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from discovery import drained, draining
from discovery.errors import Conflict, NotFound
from discovery.kv.contract import Compare, LeaseNotFound, Op, TxnResult
from discovery.kv.embedded import EmbeddedStore
from discovery.service import Service
from tests.support.api import NOW, Parts, running_parts, until

PATH = (b"internal", b"discovery", b"web", b"i1")
KEY = b"/skydns/internal/discovery/web/i1"
AWAY = b"/discovery/drained" + KEY
WEB = Service(host="10.0.0.1", port=80)


class Racing(EmbeddedStore):
    """The real store; before each of the next `races` transactions another client does `act`."""

    races = 0
    act: Callable[[], Awaitable[object]]

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        if self.races:
            self.races -= 1
            await self.act()
        return await super().txn(when, then, otherwise, grant_ttl=grant_ttl)


def racing(parts: Parts, act: Callable[[], Awaitable[object]], races: int = 1) -> None:
    assert isinstance(parts.store, Racing)
    parts.store.act, parts.store.races = act, races


async def test_a_drain_moves_value_and_lease_in_one_revision(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        lease = (await parts.registry.register(PATH, WEB)).lease
        before = await parts.kv(KEY)
        assert before is not None
        found = await parts.registry.draining.drain(PATH)
        assert parts.view.record(PATH) is None  # at once: it has waited for the view
        away = await parts.kv(AWAY)
        assert away == found.kv
        assert away.lease == lease
        assert found.at == NOW
        assert found.original.value == before.value
        assert (await parts.kv(KEY), away.mod_revision) == (None, before.mod_revision + 1)
        back = await parts.registry.draining.undrain(PATH)
        again = await parts.kv(KEY)
        assert again is not None
        assert (again.value, again.lease) == (before.value, lease)
        assert back.record.revision == again.mod_revision == away.mod_revision + 1
        assert await parts.kv(AWAY) is None
        assert parts.view.record(PATH) is not None


async def test_the_leases_end_takes_it(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.registry.register(PATH, WEB, lease_ttl=10)
        await parts.registry.draining.drain(PATH)
        parts.clock.advance(8)
        assert await parts.registry.heartbeat(PATH) is not None
        await parts.expire(8)
        assert await parts.kv(AWAY) is not None
        await parts.expire(3)
        assert await parts.kv(AWAY) is None
        with pytest.raises(NotFound):
            await parts.registry.draining.undrain(PATH)


async def test_a_heartbeat_renews_the_lease_that_another_node_has_put_it_on(tmp_path: Path) -> None:
    """What is known here of a drained instance may be late, and the lease that it was on may live for others."""
    async with running_parts(tmp_path) as parts:
        before, after = await parts.registry.lease_grant(10), await parts.registry.lease_grant(10)
        await parts.registry.register(PATH, WEB, lease=before.id)
        late = await parts.registry.draining.drain(PATH)
        await parts.registry.register(PATH, WEB, lease=after.id)
        await until(lambda: parts.drained.revision > late.kv.mod_revision)
        parts.drained._held[PATH] = late
        beat = await parts.registry.heartbeat(PATH)
        assert beat is not None
        assert beat.id == after.id


async def test_a_put_that_would_change_nothing_in_a_late_copy_is_done(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.registry.register(PATH, WEB, lease_ttl=0)
        late = await parts.registry.draining.drain(PATH)
        there = await parts.registry.register(PATH, Service(host="10.0.0.9"), lease_ttl=0)
        await until(lambda: parts.drained.revision >= there.revision)
        parts.drained._held[PATH] = late  # as on a node that has not heard of the change yet
        done = await parts.registry.register(PATH, WEB, lease_ttl=0)
        assert done.revision > there.revision
        now = await parts.registry.draining.read(PATH)
        assert now is not None
        assert now.record.fields is not None
        assert now.record.fields.host == WEB.host


async def test_a_put_keeps_it_drained_whoever_drained_it(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.registry.register(PATH, WEB, lease_ttl=10)
        await parts.registry.draining.drain(PATH)
        parts.drained.remove(AWAY, 1 << 60)  # as on a node that has not heard of it yet
        done = await parts.registry.register(PATH, Service(host="10.0.0.2"), lease_ttl=20)
        assert (done.created, done.drained_at) == (False, NOW)
        assert await parts.kv(KEY) is None
        away = await parts.kv(AWAY)
        assert away is not None
        assert away.lease == done.lease
        assert await parts.leases() == 1  # the lease that it had before is revoked
        same = await parts.registry.register(PATH, Service(host="10.0.0.2"), lease_ttl=20)
        assert (same.revision, same.drained_at) == (done.revision, NOW)
        back = await parts.registry.draining.undrain(PATH)
        assert back.record.fields is not None
        assert back.record.fields.host == "10.0.0.2"


async def test_a_registration_that_a_whole_life_overtakes_stays_drained(tmp_path: Path) -> None:
    """Between its look and its write another registered and drained: what it would compare is as it was."""
    async with running_parts(tmp_path, store_type=Racing) as parts:

        async def another() -> None:
            await parts.store.put(AWAY, drained.write(NOW, b'{"host":"10.0.0.9"}'))

        racing(parts, another)
        done = await parts.registry.register(PATH, WEB, lease_ttl=10)
        assert done.drained_at == NOW
        assert await parts.kv(KEY) is None


async def test_a_delete_removes_it_and_its_own_lease(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.registry.register(PATH, WEB)
        await parts.registry.draining.drain(PATH)
        await parts.registry.deregister(PATH)
        assert (await parts.kv(AWAY), await parts.leases(), len(parts.drained)) == (None, 0, 0)


async def test_a_lost_race_begins_anew(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Racing) as parts:
        await parts.registry.register(PATH, WEB, lease_ttl=0)

        async def change() -> None:
            await parts.store.put(KEY, b'{"host":"10.0.0.2"}')

        racing(parts, change)
        found = await parts.registry.draining.drain(PATH)
        assert found.original.value == b'{"host":"10.0.0.2"}'

        async def change_away() -> None:
            await parts.store.put(AWAY, drained.write(7, b'{"host":"10.0.0.3"}'))

        racing(parts, change_away)
        back = await parts.registry.draining.undrain(PATH)
        assert back.record.fields is not None
        assert back.record.fields.host == "10.0.0.3"
        racing(parts, change, races=100)
        with pytest.raises(Conflict):
            await parts.registry.draining.drain(PATH)


async def test_what_others_wrote_meanwhile_is_what_undrain_leaves(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.registry.register(PATH, WEB)
        await parts.registry.draining.drain(PATH)
        await parts.store.put(KEY, b'{"host":"10.0.0.9"}')
        back = await parts.registry.draining.undrain(PATH)
        assert back.record.fields == Service(host="10.0.0.9")
        assert (await parts.kv(AWAY), await parts.leases()) == (None, 0)


async def test_all_of_a_lease_in_bounded_transactions(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Racing) as parts:
        lease = (await parts.registry.lease_grant(30)).id
        paths = [(*PATH[:-1], b"i%03d" % number) for number in range(draining.AT_ONCE + 2)]
        for path in paths:
            await parts.registry.register(path, WEB, lease=lease)
        await parts.registry.draining.drain(paths[5])
        revision = parts.view.revision

        async def change() -> None:
            await parts.registry.deregister(paths[7])

        racing(parts, change)  # so those of the first transaction go one by one
        found = await parts.registry.draining.drain_lease(lease)
        assert [each.record.path for each in found] == [path for path in paths if path != paths[7]]
        assert parts.view.root.count == 0
        assert len(parts.drained) == len(paths) - 1
        assert parts.view.revision > revision + 2
        again = await parts.registry.draining.drain_lease(lease)
        assert [each.kv for each in again] == [each.kv for each in found]
        back = await parts.registry.draining.undrain_lease(lease)
        assert [each.record.path for each in back] == [each.record.path for each in found]
        assert parts.view.root.count == len(paths) - 1
        found = await parts.registry.draining.drain_lease(lease)
        assert {each.kv.mod_revision for each in found[: draining.AT_ONCE]} == {found[0].kv.mod_revision}
        await parts.registry.lease_revoke(lease)
        assert len(parts.drained) == 0
        with pytest.raises(LeaseNotFound):
            await parts.registry.draining.drain_lease(lease)


async def test_a_key_with_capitals_comes_back_under_its_own(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        key = b"/skydns/internal/discovery/Web/I1"
        await parts.store.put(key, b'{"host":"10.0.0.1"}')
        await parts.caught_up()
        await parts.registry.draining.drain(PATH)
        assert await parts.kv(b"/discovery/drained" + key) is not None
        done = await parts.registry.register(PATH, WEB, lease_ttl=0)
        assert done.drained_at == NOW
        await parts.registry.draining.undrain(PATH)
        assert await parts.kv(key) is not None
        await parts.registry.draining.drain(PATH)
        await parts.registry.deregister(PATH)
        assert len(parts.drained) == 0

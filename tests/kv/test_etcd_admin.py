"""A cluster whose quota is used up takes writes again after one call."""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.kv.contract import NoSpace
from discovery.kv.etcd import EtcdStore
from tests.support.etcd import etcd_cluster
from tests.support.etcd_store import eventually, opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

QUOTA = 4 << 20  # bytes


async def fill(store: EtcdStore) -> None:
    for _ in range(100):
        await store.put(b"/big", b"x" * 100_000)


async def test_a_full_quota_is_mended_by_one_call(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path, 3, [f"--quota-backend-bytes={QUOTA}"]) as cluster:
        async with opened(cluster) as store:
            with pytest.raises(NoSpace, match="`discovery cluster defrag` gives room"):
                await fill(store)
            with pytest.raises(NoSpace):
                await store.put(b"/small", b"1")
            assert any("the quota is used up" in error for error in (await store.status()).errors)
            done, undone = await store.give_room()
            assert undone == []
            assert done[0] == "all history is dropped"
            assert sorted(done[1:4]) == ["m0: defragmented", "m1: defragmented", "m2: defragmented"]
            assert done[3].startswith(cluster.leader().name)  # the others lead no one meanwhile
            assert all(line.endswith(": its alarm is taken back") for line in done[4:])
            assert len(done) > 4
            await store.put(b"/small", b"1")
            status = await store.status()
            assert status.errors == []
            assert status.size < QUOTA / 2


async def test_a_member_that_is_away_is_named(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path, 3) as cluster:
        async with opened(cluster) as store:
            await eventually(lambda: store.put(b"/a", b"1"))
            assert not (await store.give_room())[1]
            away = next(member for member in cluster.members if member is not cluster.leader())
            away.kill()
            done, undone = await store.give_room()
            assert done[0] == "there is no history to drop"
            assert len(done) == 3
            assert len(undone) == 1
            assert undone[0].startswith(f"{away.name}: not defragmented: ")

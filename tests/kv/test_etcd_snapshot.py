"""Snapshots of an etcd cluster: files that `etcdctl` restores, whole or not there."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.kv.contract import InvalidRequest, Unavailable
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "one") as cluster:
        yield cluster


async def test_etcdctl_restores_it_with_keys_revisions_and_leases(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    async with opened(cluster) as store:
        lease = await store.lease_grant(600)
        await store.put(b"/a", b"1", lease=lease.id)
        revision = await store.put(b"/discovery/b", bytes(range(256)))
        before = await store.range(b"", b"\0")
        assert await store.snapshot(target) == revision
        assert target.stat().st_mode & 0o777 == 0o600
        await store.put(b"/a", b"2")
    await asyncio.to_thread(cluster.restore, target, tmp_path / "restored")
    async with opened(cluster) as store:
        found = await store.range(b"", b"\0")
        assert (found.kvs, found.revision) == (before.kvs, revision)
        assert list(await store.lease_keys(lease.id)) == [b"/a"]


async def test_a_file_that_exists_or_cannot_be_made_is_told(cluster: EtcdCluster, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.write_text("mine")
    async with opened(cluster) as store:
        with pytest.raises(InvalidRequest, match="exists already"):
            await store.snapshot(target)
        with pytest.raises(InvalidRequest, match="cannot be written"):
            await store.snapshot(tmp_path / "no" / "folder")
    assert target.read_text() == "mine"


async def test_a_member_that_goes_in_the_middle_leaves_no_file(cluster: EtcdCluster, tmp_path: Path) -> None:
    (member,) = cluster.members
    target = tmp_path / "copy"
    async with opened(cluster) as store:
        for number in range(40):
            await store.put(b"/big/%d" % number, bytes(1_000_000))
        taking = asyncio.create_task(store.snapshot(target))
        while not (target.exists() and target.stat().st_size):
            assert not taking.done()
            await asyncio.sleep(0)
        member.kill()
        with pytest.raises(Unavailable):
            await taking
    assert not target.exists()


def test_a_full_disk_is_told_and_leaves_no_file(cluster: EtcdCluster, tmp_path: Path) -> None:
    """In a process of its own, whose files may not be larger than a page."""
    cluster.put("/a", "x" * 100_000)
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from discovery.kv.etcd import EtcdStore; from discovery.kv.etcd_endpoints import Access\n"
        "async def main():\n"
        "    store = EtcdStore(Access([sys.argv[1]])); await store.start()\n"
        "    try: await store.snapshot(Path(sys.argv[2]))\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
        "    finally: await store.close()\n"
        "asyncio.run(main())"
    )
    target = tmp_path / "copy"
    done = subprocess.run(
        [sys.executable, "-c", script, cluster.endpoints[0], str(target)],
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.stdout.startswith("NoSpace"), done.stdout + done.stderr
    assert "make room" in done.stdout
    assert not target.exists()

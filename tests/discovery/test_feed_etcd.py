"""The feed over a real etcd: a store that was replaced or restored, compaction, pages, and starting without it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from discovery import names
from discovery.feed import Feed
from discovery.kv.contract import Event, Put
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import Access
from discovery.metrics import Metrics
from discovery.saved_view import SavedView
from discovery.view import View
from tests.support.api import until
from tests.support.etcd import EtcdCluster, etcd_cluster, free_ports
from tests.support.etcd_store import opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

APEX = names.from_text("test.")
BASE = "/discovery/revision-base"


class Watched(View):
    """`revisions` that it ever had."""

    def __init__(self) -> None:
        super().__init__("/skydns", apexes=[APEX], grace_of=lambda path: 0.0)
        self.revisions: list[int] = []

    def restore(self, *arguments: object) -> None:
        super().restore(*arguments)  # type: ignore[arg-type]  # only looked at on the way
        self.revisions.append(self.revision)

    def apply(self, events: Iterable[Event], revision: int, now: float) -> None:
        super().apply(events, revision, now)
        self.revisions.append(self.revision)


class Following:
    """A node's part that follows the store."""

    def __init__(self, store: EtcdStore, saved: SavedView | None, page: int) -> None:
        self.store = store
        self.view = Watched()
        self.metrics = Metrics()
        self.feed = Feed(
            store, self.view, self.metrics, prefix="/skydns", stale_after=0.5, saved=saved, page=page
        )

    @property
    def hosts(self) -> dict[str, str]:
        """Of all records, by the last part of their key."""
        return {
            record.key.rpartition(b"/")[2].decode(): record.fields.host if record.fields is not None else ""
            for record in self.view.root.walk()
        }

    @property
    def serial(self) -> int:
        return self.view.serial(APEX)


@asynccontextmanager
async def following(
    cluster: EtcdCluster, saved: Path | None = None, page: int = 50_000
) -> AsyncIterator[Following]:
    async with AsyncExitStack() as stack:
        kept = None
        if saved is not None:
            kept = SavedView(saved, "/skydns")
            await kept.open()
            stack.push_async_callback(kept.close)
        store = await stack.enter_async_context(opened(Access(cluster.endpoints)))
        node = Following(store, kept, page)
        await node.feed.start()
        stack.push_async_callback(node.feed.close)
        yield node
        assert node.view.revisions == sorted(node.view.revisions), "the view's revision went back"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "one") as cluster:
        yield cluster


def put(cluster: EtcdCluster, name: str, host: str = "10.0.0.1") -> None:
    cluster.put(f"/skydns/test/{name}", f'{{"host":"{host}"}}')


async def elsewhere(cluster: EtcdCluster, *commands: Sequence[str]) -> None:
    """Does that with etcdctl while nobody else sees the member, and brings it back."""
    (member,) = cluster.members
    member.stop()
    client = f"http://127.0.0.1:{free_ports(1)[0]}"
    member.start("--listen-client-urls", client, "--advertise-client-urls", client)
    await asyncio.to_thread(member.until_healthy)
    seen, member.client = member.client, client
    for command in commands:
        cluster.ctl(*command)
    member.stop()
    member.client = seen
    member.start()
    await asyncio.to_thread(member.until_healthy)


# ---------------------------------------------------------------- replaced and restored


async def test_another_cluster_in_its_place_is_loaded_as_a_diff_and_nothing_goes_back(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    for number in range(20):
        put(cluster, f"a{number}")
    async with following(cluster) as one, following(cluster) as two:
        held, serial = one.view.revision, one.serial
        kept = one.view.record((b"test", b"a1"))
        await asyncio.to_thread(cluster.replace, tmp_path / "another")
        put(cluster, "a1")
        put(cluster, "a2", "10.0.0.2")
        for node in (one, two):
            await until(lambda node=node: node.hosts == {"a1": "10.0.0.1", "a2": "10.0.0.2"}, 20)  # type: ignore[misc]
            assert node.view.revision > held
            assert node.serial > serial
        assert kept is not None
        again = one.view.record((b"test", b"a1"))
        assert again is not None
        assert again.fields == kept.fields
        revision = await one.store.put(b"/skydns/test/a3", b'{"host":"10.0.0.3"}')
        assert revision > held
        for node in (one, two):  # both count alike
            assert await node.feed.wait(revision, 10)
            assert node.view.revision == revision
            assert node.hosts["a3"] == "10.0.0.3"
        assert cluster.ctl("get", "/discovery/", "--prefix", "--keys-only").split() == [BASE]


async def test_a_copy_from_before_is_loaded_and_nothing_goes_back(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    """`etcdctl snapshot restore` keeps the cluster's id, and counts on from its own revision."""
    put(cluster, "kept")
    cluster.ctl("snapshot", "save", str(tmp_path / "copy"))
    for number in range(20):
        put(cluster, f"lost{number}")
    async with following(cluster) as one, following(cluster) as two:
        held, serial = one.view.revision, one.serial
        await asyncio.to_thread(cluster.restore, tmp_path / "copy", tmp_path / "restored")
        for node in (one, two):
            await until(lambda node=node: node.hosts == {"kept": "10.0.0.1"}, 20)  # type: ignore[misc]
            assert node.view.revision > held
            assert node.serial > serial
        put(cluster, "new")
        for node in (one, two):
            await until(lambda node=node: "new" in node.hosts)  # type: ignore[misc]
        assert one.view.revision == two.view.revision


async def test_a_copy_that_has_grown_beyond_what_is_held_is_loaded_anew(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    """Its revision tells nothing: only its raft term, which a restored copy begins anew."""
    (member,) = cluster.members
    put(cluster, "kept")
    cluster.ctl("snapshot", "save", str(tmp_path / "copy"))
    for _ in range(3):  # elections, as in any cluster's life; each is a term
        member.stop()
        member.start()
        member.until_healthy()
    put(cluster, "lost")
    async with following(cluster) as node:
        assert set(node.hosts) == {"kept", "lost"}
        held = node.view.revision
        member.kill()
        await until(lambda: node.feed.lost, 20)
        await asyncio.to_thread(cluster.restore, tmp_path / "copy", tmp_path / "restored", start=False)
        await elsewhere(cluster, *([["put", "/skydns/test/new", '{"host":"10.0.0.9"}']] * 10))
        await until(lambda: node.hosts == {"kept": "10.0.0.1", "new": "10.0.0.9"}, 20)
        assert node.view.revision > held
        assert cluster.ctl("get", BASE) == ""  # there was nothing to raise


async def test_a_second_restore_raises_what_was_raised_before(cluster: EtcdCluster, tmp_path: Path) -> None:
    put(cluster, "kept")
    cluster.ctl("snapshot", "save", str(tmp_path / "copy"))
    async with following(cluster) as node:
        for turn in range(3):
            for number in range(5):
                put(cluster, f"lost{number}")
            await until(lambda: "lost4" in node.hosts)
            held, serial = node.view.revision, node.serial
            await asyncio.to_thread(cluster.restore, tmp_path / "copy", tmp_path / f"restored{turn}")
            await until(lambda: set(node.hosts) == {"kept"}, 20)
            assert node.view.revision > held
            assert node.serial > serial


async def test_a_node_that_starts_over_a_restored_store_goes_on_above_its_last_view(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    put(cluster, "kept")
    cluster.ctl("snapshot", "save", str(tmp_path / "copy"))
    for number in range(20):
        put(cluster, f"lost{number}")
    async with following(cluster, tmp_path / "saved") as node:
        held = node.view.revision
    (member,) = cluster.members
    member.kill()
    async with following(cluster, tmp_path / "saved") as node:
        assert (node.view.revision, len(node.hosts)) == (held, 21)
        assert node.view.stale
        await asyncio.to_thread(cluster.restore, tmp_path / "copy", tmp_path / "restored")
        await until(lambda: node.hosts == {"kept": "10.0.0.1"}, 20)
        assert node.view.revision > held
        assert not node.view.stale


async def test_a_node_that_starts_after_the_store_was_restored_goes_on_above_its_last_view(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    put(cluster, "kept")
    cluster.ctl("snapshot", "save", str(tmp_path / "copy"))
    for number in range(20):
        put(cluster, f"lost{number}")
    async with following(cluster, tmp_path / "saved") as node:
        held, serial = node.view.revision, node.serial
    await asyncio.to_thread(cluster.restore, tmp_path / "copy", tmp_path / "restored")
    for _ in range(2):
        async with following(cluster, tmp_path / "saved") as node:
            assert node.hosts == {"kept": "10.0.0.1"}
            assert node.view.revision > held
            assert node.serial > serial


# ---------------------------------------------------------------- breaks


async def test_a_delete_at_the_compaction_revision_is_not_missed(cluster: EtcdCluster) -> None:
    put(cluster, "gone")
    async with following(cluster) as node:
        deleted = node.view.revision + 1
        await elsewhere(cluster, ["del", "/skydns/test/gone"], ["compact", str(deleted), "--physical"])
        await until(lambda: node.hosts == {}, 20)


async def test_a_lost_store_is_stale_and_comes_back(cluster: EtcdCluster) -> None:
    (member,) = cluster.members
    put(cluster, "a")
    async with following(cluster) as node:
        for end, again in ((member.kill, member.start), (member.pause, member.resume)):
            end()
            await until(lambda: node.feed.lost and node.view.stale, 20)
            assert node.hosts["a"] == "10.0.0.1"
            again()
            await until(lambda: not node.feed.lost and not node.view.stale, 20)
        put(cluster, "b")
        await until(lambda: "b" in node.hosts)


async def test_pages_and_what_is_written_between_them(cluster: EtcdCluster, rng: random.Random) -> None:
    """Each value is a count: no page, and no event of before it, may take one back."""
    keys = [b"/skydns/test/k%03d" % number for number in range(300)]
    async with opened(Access(cluster.endpoints)) as writer:
        for start in range(0, len(keys), 100):
            await writer.txn([], [Put(key, b'{"host":"10.0.0.0"}') for key in keys[start : start + 100]])

        async def write() -> None:
            for count in range(1, 600):
                host = f"10.0.{count >> 8}.{count & 255}"
                await writer.put(rng.choice(keys), f'{{"host":"{host}"}}'.encode())

        writing = asyncio.create_task(write())
        while not writing.done():
            async with following(cluster, page=7) as node:
                seen = node.hosts
                for _ in range(20):
                    await asyncio.sleep(0)
                    now = node.hosts
                    assert all(number(now[key]) >= number(host) for key, host in seen.items())
                    seen = now
        await writing
        async with following(cluster, page=7) as node:
            found = await writer.range(b"/skydns/", b"/skydns0")
            assert {kv.key.rpartition(b"/")[2].decode(): kv.value for kv in found.kvs} == {
                key: f'{{"host":"{host}"}}'.encode() for key, host in node.hosts.items()
            }


def number(host: str) -> int:
    _, _, high, low = map(int, host.split("."))
    return high << 8 | low


# ---------------------------------------------------------------- starting without it


async def test_without_the_store_the_last_view_answers_at_once(cluster: EtcdCluster, tmp_path: Path) -> None:
    put(cluster, "a")
    async with following(cluster, tmp_path / "saved") as node:
        assert node.hosts == {"a": "10.0.0.1"}
    (member,) = cluster.members
    for end, again in ((member.kill, member.start), (member.pause, member.resume)):
        end()
        begin = time.monotonic()
        async with following(cluster, tmp_path / "saved") as node:
            assert time.monotonic() - begin < 5
            assert (node.view.ready, node.view.stale, node.hosts) == (True, True, {"a": "10.0.0.1"})
            assert node.feed.lost
            assert node.feed.stale_seconds > 0
            assert node.feed.trouble
            again()
            await until(lambda: not node.view.stale, 20)
            assert not node.feed.lost


async def test_without_the_store_a_node_that_never_had_one_is_not_ready(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path / "late", 1)
    async with following(cluster, tmp_path / "saved") as node:
        assert (node.view.ready, node.feed.lost) == (False, True)
        try:
            await asyncio.to_thread(cluster.start)
            put(cluster, "a")
            await until(lambda: node.view.ready, 20)
            await until(lambda: node.hosts == {"a": "10.0.0.1"})
        finally:
            cluster.close()

"""The way back: from a snapshot, from a survivor's data, and that nothing is changed in place when it fails."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from discovery.errors import ConfigError, Conflict
from discovery.kv.contract import Corrupt, InvalidRequest
from discovery.kv.etcd import EtcdStore
from discovery.kv.member import EtcdMember
from discovery.kv.member_files import FOLDER, IDENTITY, MemberFiles
from discovery.kv.member_plan import Identity, MemberSettings
from discovery.kv.member_recovery import check_snapshot, find_restorer, recover_member, restore_member
from discovery.kv.snapshot import BUMP
from tests.support.api import until
from tests.support.etcd import EtcdCluster, etcd_cluster, free_ports
from tests.support.etcd_store import eventually, opened

LEASE = 0xABC
NOW = 1_800_000_000.0


def settings(name: str = "n1", **changes: object) -> MemberSettings:
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    held = MemberSettings(name, "etcd", client, peer, {}, "", "", "", "")
    return msgspec.structs.replace(held, **changes)


def quiet(step: str) -> None:
    """Nobody looks on."""


@asynccontextmanager
async def member_store(directory: Path, mine: MemberSettings) -> AsyncIterator[EtcdStore]:
    member = EtcdMember(directory, mine)
    await member.start()
    store = EtcdStore(member.access())
    await store.start()
    try:
        yield store
    finally:
        await store.close()
        await member.close()


async def fill(store: EtcdStore) -> int:
    await store.lease_grant(600, LEASE)
    await store.put(b"/skydns/leased", b"1", lease=LEASE)
    return await store.put(b"/skydns/lasting", b"2")


async def check_filled(store: EtcdStore, beyond: int) -> None:
    """All is there, the lease too, at a revision that no store of before can have reached."""
    found = await store.range(b"/skydns/", b"/skydns0")
    assert [(kv.key, kv.value, kv.lease) for kv in found.kvs] == [
        (b"/skydns/lasting", b"2", 0),
        (b"/skydns/leased", b"1", LEASE),
    ]
    assert found.revision >= beyond
    granted, left = await store.lease_ttl(LEASE)
    assert granted == 600
    assert 590 <= left <= 600
    await store.put(b"/skydns/new", b"3")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("source"), 1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def snapshot(source: EtcdCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("snapshot") / "backup.db"

    async def make() -> None:
        async with opened(source) as store:
            await fill(store)
            await store.snapshot(file)

    asyncio.run(make())
    return file


@pytest.mark.cluster
@pytest.mark.slow
async def test_a_snapshot_is_a_new_cluster_on_a_new_machine(snapshot: Path, tmp_path: Path) -> None:
    mine, told = settings(), list[str]()
    done = await restore_member(tmp_path, mine, snapshot, told.append, clock=lambda: NOW)
    assert done.aside is None
    assert done.revision == int(NOW * 1_000_000) + 1
    assert told == ["unpacking", "trying it"]
    files = MemberFiles(tmp_path)
    identity = files.identity()
    assert identity is not None
    assert (identity.name, identity.peer, identity.state) == ("n1", mine.peer, "existing")
    assert re.fullmatch(r"[0-9a-f]{12,16}", identity.cluster_id)
    assert sorted(each.name for each in files.folder.iterdir()) == ["data", "lock", "member.json"]
    files.close()
    async with member_store(tmp_path, mine) as store:
        await check_filled(store, done.revision)
        assert (await store.status()).errors == []
    with pytest.raises(Conflict, match="belongs to a member already: `discovery cluster recover --from"):
        await restore_member(tmp_path, mine, snapshot, quiet)


@pytest.mark.cluster
@pytest.mark.slow
async def test_the_same_snapshot_restored_twice_is_two_clusters_at_two_revisions(
    snapshot: Path, tmp_path: Path
) -> None:
    ids, revisions = set(), set()
    for number in range(2):
        done = await restore_member(tmp_path / str(number), settings(), snapshot, quiet)
        files = MemberFiles(tmp_path / str(number))
        identity = files.identity()
        assert identity is not None
        ids.add(identity.cluster_id)
        revisions.add(done.revision)
        files.close()
    assert (len(ids), len(revisions)) == (2, 2)


@pytest.mark.cluster
@pytest.mark.slow
async def test_a_clock_that_is_far_behind_takes_no_revision_back(snapshot: Path, tmp_path: Path) -> None:
    done = await restore_member(tmp_path, settings(), snapshot, quiet, clock=lambda: 0.0)
    assert done.revision > BUMP


@pytest.mark.cluster
@pytest.mark.slow
async def test_a_survivor_of_three_goes_on_with_all_it_had(tmp_path: Path) -> None:
    three = [settings(f"n{number}") for number in (1, 2, 3)]
    cluster = {each.name: each.peer for each in three}
    three = [msgspec.structs.replace(each, initial_cluster=cluster) for each in three]
    members = [EtcdMember(tmp_path / each.name, each) for each in three]
    await asyncio.gather(*(member.start() for member in members))
    store = EtcdStore(members[0].access())
    await store.start()
    try:
        await eventually(lambda: store.put(b"/first", b""))
        revision = await fill(store)
        with pytest.raises(ConfigError, match="in use by another process"):
            await recover_member(tmp_path / "n1", three[0], None, quiet)
        await members[2].close()
        with pytest.raises(Conflict, match=r"the member at http://.* runs: with a quorum"):
            await recover_member(tmp_path / "n3", three[2], None, quiet)
    finally:
        await store.close()
        for member in members:
            await member.close()
    told = list[str]()
    done = await recover_member(tmp_path / "n1", three[0], None, told.append, clock=lambda: NOW)
    assert told == ["copying the data", "reading its log", "unpacking", "trying it"]
    assert done.aside == tmp_path / "n1" / "etcd" / time.strftime("data-%Y%m%dT%H%M%SZ", time.gmtime(NOW))
    assert (done.aside / "member" / "wal").is_dir()
    async with member_store(tmp_path / "n1", three[0]) as store:  # with the settings of before
        await check_filled(store, max(revision, int(NOW * 1_000_000)))
        assert [member.name for member in await store.members()] == ["n1"]
        # One of the old cluster does not come back by mistake; it joins with an empty folder.
        old = EtcdMember(tmp_path / "n2", three[1])
        with pytest.raises(ConfigError, match=r"is in cluster .* move the data away and join"):
            await old.start()
        joining = msgspec.structs.replace(three[1], initial_cluster={}, join=three[0].client)
        async with member_store(tmp_path / "n2.new", joining) as other:
            await eventually(lambda: other.put(b"/from-n2", b""))
            assert len(await store.members()) == 2


@pytest.mark.cluster
@pytest.mark.slow
async def test_the_first_of_a_cluster_that_grew_is_not_recovered_beside_those_who_came_later(
    tmp_path: Path,
) -> None:
    mine, theirs = settings("n1"), settings("n2")
    first = EtcdMember(tmp_path / "n1", mine)
    await first.start()
    later = EtcdMember(tmp_path / "n2", msgspec.structs.replace(theirs, join=mine.client))
    try:
        await later.start()
        await until(lambda: is_known(tmp_path / "n1", theirs.peer), 60)
        await first.close()
        with pytest.raises(Conflict, match=rf"the member at {theirs.peer} runs: with a quorum"):
            await recover_member(tmp_path / "n1", mine, None, quiet)
    finally:
        await first.close()
        await later.close()
    await recover_member(tmp_path / "n1", mine, None, quiet)
    assert not is_known(tmp_path / "n1", theirs.peer)  # nobody is asked for it any more


def is_known(directory: Path, peer: str) -> bool:
    held = msgspec.json.decode((directory / FOLDER / IDENTITY).read_bytes(), type=Identity)
    return peer in held.others


@pytest.mark.cluster
@pytest.mark.slow
async def test_data_that_etcd_can_t_read_is_told_and_left_as_it_is(snapshot: Path, tmp_path: Path) -> None:
    mine = settings()
    await restore_member(tmp_path, mine, snapshot, quiet)
    database = tmp_path / "etcd" / "data" / "member" / "snap" / "db"
    damaged = b"\xa5" * database.stat().st_size
    database.write_bytes(damaged)
    with pytest.raises(Corrupt, match=r"etcd can't use the data in .*name a snapshot with --from") as error:
        await recover_member(tmp_path, mine, None, quiet)
    assert "\n" not in error.value.detail
    assert database.read_bytes() == damaged
    assert sorted(each.name for each in (tmp_path / "etcd").iterdir()) == ["data", "lock", "member.json"]
    database.unlink()
    with pytest.raises(Corrupt, match="db is missing: name a snapshot with --from"):
        await recover_member(tmp_path, mine, None, quiet)
    done = await recover_member(tmp_path, mine, snapshot, quiet)
    assert done.aside is not None
    async with member_store(tmp_path, mine) as store:
        await check_filled(store, done.revision)


@pytest.mark.cluster
@pytest.mark.slow
async def test_what_is_no_whole_snapshot_is_refused_and_leaves_nothing(
    snapshot: Path, tmp_path: Path
) -> None:
    whole = await asyncio.to_thread(snapshot.read_bytes)
    (tmp_path / "cut").write_bytes(whole[:-100])
    (tmp_path / "flipped").write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    (tmp_path / "noise").write_bytes(b"\xa5" * 5000)
    for name in ("cut", "flipped", "noise"):
        with pytest.raises(Corrupt, match=f"{name} is not a whole snapshot") as error:
            await restore_member(tmp_path / "store", settings(), tmp_path / name, quiet)
        assert "\n" not in error.value.detail
        held = {each.name for each in (tmp_path / "store" / "etcd").rglob("*")}
        assert held == {"data", "lock"}


@pytest.mark.cluster
async def test_where_there_is_nothing_to_recover_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no member's data: name a snapshot with --from"):
        await recover_member(tmp_path, settings(), None, quiet)
    with pytest.raises(ConfigError, match="join: a member that begins a cluster anew joins none"):
        await recover_member(tmp_path, settings(join="http://10.0.0.1:2379"), None, quiet)


def test_a_snapshot_of_an_embedded_store_is_told_where_it_belongs(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as made:
        made.execute("CREATE TABLE x (y)")
    made.close()
    with pytest.raises(InvalidRequest, match="embedded store"):
        check_snapshot(tmp_path / "store.db")
    with pytest.raises(InvalidRequest, match=r"can't be read .No such file"):
        check_snapshot(tmp_path / "nothing")


def test_each_version_has_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (tmp_path / "path").mkdir()
    binary = str(tmp_path / "etcd")
    with pytest.raises(ConfigError, match="there is no program etcdctl, which unpacks snapshots"):
        find_restorer(binary, (3, 4, 23))
    for folder, name in (("path", "etcdctl"), (".", "etcdctl")):
        tool = tmp_path / folder / name
        tool.write_text("")
        tool.chmod(0o755)
        assert Path(find_restorer(binary, (3, 4, 23))) == tool
        assert Path(find_restorer(binary, (3, 5, 9))) == tool
    with pytest.raises(ConfigError, match="there is no program etcdutl"):
        find_restorer(binary, (3, 6, 0))
    newer = tmp_path / "etcdutl"
    newer.write_text("")
    newer.chmod(0o755)
    assert Path(find_restorer(binary, (3, 6, 0))) == newer
    assert Path(find_restorer(binary, (3, 5, 9))) == newer

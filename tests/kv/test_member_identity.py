"""A member that joins a real cluster: its name, its vote, its data lost, and what it must not join."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from discovery.errors import ConfigError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.etcd_admin import list_members
from discovery.kv.etcd_endpoints import Access, Endpoints
from discovery.kv.member import EtcdMember
from discovery.kv.member_plan import Identity, MemberSettings
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.member import alone, members, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "cluster", 3) as running:
        yield running


async def listing(cluster: EtcdCluster) -> dict[str, wire.Member]:
    endpoints = Endpoints(Access(cluster.endpoints))
    try:
        return {each.name: each for each in await list_members(endpoints)}
    finally:
        await endpoints.close()


def held(folder: Path) -> Identity:
    return msgspec.json.decode((folder / "etcd" / "member.json").read_bytes(), type=Identity)


async def votes(folder: Path) -> None:
    await until(lambda: not held(folder).learner, "it votes")


def joining(cluster: EtcdCluster, name: str = "n4") -> MemberSettings:
    return alone(name, join=cluster.endpoints[0])


async def test_one_that_joins_learns_then_votes_and_joins_once(
    cluster: EtcdCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings, folder = joining(cluster), tmp_path / "n4"
    async with members(tmp_path, settings) as (member,):
        assert member.access().endpoints == [settings.client, settings.join]
        await votes(folder)
        name = held(folder).name
        assert re.fullmatch(r"n4-[0-9a-f]{4}", name)
        listed = await listing(cluster)
        assert set(listed) == {"m0", "m1", "m2", name}
        assert not listed[name].isLearner
        await until(lambda: bool(held(folder).cluster_id), "its cluster is noted")
    assert "this member votes now" in caplog.messages
    async with members(tmp_path, settings) as (member,):
        # where it joined once is no way to the cluster any more: another one may live there some day
        assert member.access().endpoints == [settings.client]
        assert held(folder).name == name
        assert set(await listing(cluster)) == {"m0", "m1", "m2", name}


async def test_one_that_lost_its_data_is_put_in_anew_under_another_name(
    cluster: EtcdCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, folder = joining(cluster), tmp_path / "n4"
    async with members(tmp_path, settings):
        await votes(folder)
        first = held(folder).name
    shutil.rmtree(folder / "etcd" / "data")
    before = (await listing(cluster))[first]
    async with members(tmp_path, settings):
        await votes(folder)
        second = held(folder).name
        listed = await listing(cluster)
    assert first != second
    assert set(listed) == {"m0", "m1", "m2", second}
    assert listed[second].ID != before.ID
    assert (
        f"member {first} at {settings.peer} has lost its data: it is removed and put in anew"
        in caplog.messages
    )


async def test_a_seat_that_an_operator_has_added_is_taken(cluster: EtcdCluster, tmp_path: Path) -> None:
    settings = joining(cluster)

    def is_added() -> bool:  # refused for 5 s after a member has come
        return "added" in cluster.ctl("member", "add", "later", "--peer-urls", settings.peer, check=False)

    await until(is_added, "there is a seat")
    seat = (await listing(cluster))[""]
    async with members(tmp_path, settings):
        listed = await listing(cluster)
        assert listed[held(tmp_path / "n4").name].ID == seat.ID
        assert not held(tmp_path / "n4").learner  # it votes from the beginning, as it was added


async def test_data_of_another_cluster_than_the_one_to_join_is_refused(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    settings, folder = joining(cluster), tmp_path / "n4"
    async with members(tmp_path, settings):
        await votes(folder)
        await until(lambda: bool(held(folder).cluster_id), "its cluster is noted")
    with etcd_cluster(tmp_path / "other") as other:
        elsewhere = msgspec.structs.replace(settings, join=other.endpoints[0])
        with pytest.raises(
            ConfigError, match=r"^store\.member\.join: .* is in cluster [0-9a-f]+, the data in .* in "
        ):
            await EtcdMember(folder, elsewhere).start()


async def test_nobody_at_the_url_to_join_is_one_line(tmp_path: Path) -> None:
    settings = alone("n4", join="http://127.0.0.1:1")
    with pytest.raises(
        ConfigError, match=r"^store\.member\.join: the cluster at http://127\.0\.0\.1:1 can't be joined"
    ):
        await EtcdMember(tmp_path / "n4", settings).start()


async def test_data_that_was_not_begun_here_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n1" / "etcd" / "data" / "member").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"^store\.path: .*data holds an etcd's data that was not begun here"
    ):
        await EtcdMember(tmp_path / "n1", alone()).start()

"""A managed member over a real etcd: it serves, waits, is started again, and is told that it was removed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from discovery.errors import ConfigError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Unavailable
from discovery.kv.etcd_admin import list_members, remove_member
from discovery.kv.etcd_endpoints import ALARM, PUT, RANGE, Endpoints
from discovery.kv.member import EtcdMember
from tests.support.member import LIMIT, alone, listed, members, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


async def insist(call: Callable[[Endpoints], Awaitable[object]], member: EtcdMember) -> None:
    """Until the cluster does it: it refuses much for 5 s after a member has come."""
    endpoints = Endpoints(member.access())
    try:
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    await call(endpoints)
                    return
                except Unavailable:
                    await asyncio.sleep(0.1)
    finally:
        await endpoints.close()


async def put(member: EtcdMember, key: bytes) -> None:
    await insist(lambda each: each.call(PUT, wire.PutRequest(key=key, value=b"1"), repeatable=True), member)


async def put_out(name: str, member: EtcdMember) -> None:
    """Removes that one."""

    async def remove(endpoints: Endpoints) -> None:
        found = await list_members(endpoints)
        await remove_member(endpoints, next(each for each in found if each.name == name))

    await insist(remove, member)


async def count(member: EtcdMember) -> int:
    endpoints = Endpoints(member.access())
    try:
        request = wire.RangeRequest(key=b"\0", range_end=b"\0")
        return len((await endpoints.call(RANGE, request, repeatable=True)).kvs)
    finally:
        await endpoints.close()


async def test_one_alone_serves_and_keeps_its_data_and_its_cluster(tmp_path: Path) -> None:
    settings = alone()
    async with members(tmp_path, settings) as (member,):
        await put(member, b"a")
        file = tmp_path / "n1" / "etcd" / "member.json"
        await until(lambda: b'"cluster_id":""' not in file.read_bytes(), "its cluster is noted")
        before, pid = file.read_bytes(), member.pid
    assert member.pid == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    async with members(tmp_path, settings) as (member,):
        assert await count(member) == 1
        assert member.trouble == ""
    assert file.read_bytes() == before


async def test_one_that_crashes_is_started_again_and_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with members(tmp_path, alone()) as (member,):
        await put(member, b"a")
        killed = member.pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: member.pid not in (0, killed), "it is started again")
        await put(member, b"b")
        assert await count(member) == 2
    assert [
        each for each in caplog.messages if each.startswith("etcd ended (-9) and is started again in 0.5 s")
    ]


async def test_one_of_three_waits_and_says_once_for_whom_until_the_second_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "discovery.kv.member")
    first, second, third = listed("n1", "n2", "n3")
    line = f"the member does not serve: it waits for {second.peer} (connection refused), {third.peer} (connection"
    async with members(tmp_path, first) as (waiting,):
        assert waiting.trouble.startswith(line)
        async with members(tmp_path, second):
            await until(lambda: not waiting.trouble, "two of three serve")
    told = [each for each in caplog.messages if each.startswith("the member")]
    assert told[0].startswith(line)
    assert told.count("the member serves again") == 1
    assert len([each for each in told if each.startswith(line)]) == 1  # within 30 s


async def test_one_whose_list_differs_from_a_running_one_s_is_refused(tmp_path: Path) -> None:
    first, second, _ = listed("n1", "n2", "n3")
    two = {first.name: first.peer, second.name: second.peer}
    async with members(tmp_path, first):
        other = msgspec.structs.replace(second, initial_cluster=two)
        with pytest.raises(
            ConfigError, match=r"begins a cluster of n1=.*: the members' lists must be the same"
        ):
            await EtcdMember(tmp_path / "n2", other).start()


async def test_one_that_the_cluster_removes_says_so_and_stays_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    all_settings = listed("n1", "n2", "n3")
    async with members(tmp_path, *all_settings) as (first, _, third):
        await put_out("n3", first)
        await until(lambda: "has removed this member" in third.trouble, "it knows")
        await until(lambda: third.pid == 0, "its etcd has ended")
        assert third._process is not None
        assert third._process.restarts == 0
        assert caplog.messages.count(third.trouble) == 1
        assert "move that folder away and set store.member.join" in third.trouble
        await third.close()
        with pytest.raises(ConfigError, match=r"^store\.path: the cluster has removed this member"):
            await EtcdMember(tmp_path / "n3", all_settings[2]).start()
        assert not first.trouble


async def test_one_that_was_removed_while_it_was_down_learns_it_at_its_start(tmp_path: Path) -> None:
    all_settings = listed("n1", "n2", "n3")
    async with members(tmp_path, *all_settings) as (first, _, third):
        await third.close()
        await put_out("n3", first)
        again = EtcdMember(tmp_path / "n3", all_settings[2])
        with suppress(ConfigError):  # it may serve for a moment, until the others refuse it
            await again.start()
            await until(lambda: bool(again.trouble), "it knows")
        await again.close()
        with pytest.raises(ConfigError, match=r"^store\.path: the cluster has removed this member"):
            await EtcdMember(tmp_path / "n3", all_settings[2]).start()


async def test_data_that_is_damaged_is_told_in_etcd_s_words(tmp_path: Path) -> None:
    settings = alone()
    async with members(tmp_path, settings) as (member,):
        await put(member, b"a")
    database = tmp_path / "n1" / "etcd" / "data" / "member" / "snap" / "db"
    database.write_bytes(b"\xff" * 65536)
    with pytest.raises(ConfigError, match=r"^etcd ended at once: .*(invalid database|panic|bolt)"):
        await EtcdMember(tmp_path / "n1", settings).start()


async def test_an_alarm_is_told_as_such(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with members(tmp_path, alone()) as (member,):
        endpoints = Endpoints(member.access())
        full = wire.AlarmRequest(action=wire.AlarmRequest.ACTIVATE, alarm=wire.NOSPACE)
        await endpoints.call(ALARM, full, repeatable=True)
        await until(lambda: bool(member.trouble), "it is seen")
        assert member.trouble.startswith("the member takes no writes: ")
        assert "NOSPACE" in member.trouble
        full.action = wire.AlarmRequest.DEACTIVATE
        await endpoints.call(ALARM, full, repeatable=True)
        await until(lambda: not member.trouble, "it is over")
        await endpoints.close()
    assert [each for each in caplog.messages if "NOSPACE" in each]


async def test_two_on_one_folder_is_refused(tmp_path: Path) -> None:
    async with members(tmp_path, alone()):
        with pytest.raises(ConfigError, match="in use by another process"):
            await EtcdMember(tmp_path / "n1", alone()).start()


@pytest.mark.parametrize("with_peers", [True, False], ids=["its peers say so", "its own file says so"])
async def test_one_of_a_list_that_lost_its_data_is_refused(tmp_path: Path, with_peers: bool) -> None:
    all_settings = listed("n1", "n2", "n3")
    async with members(tmp_path, *all_settings) as (_, _, third):
        file = tmp_path / "n3" / "etcd" / "member.json"
        await until(lambda: b'"cluster_id":""' not in file.read_bytes(), "its cluster is noted")
        await third.close()
        if with_peers:
            shutil.rmtree(tmp_path / "n3")
            with pytest.raises(
                ConfigError, match=r"knows this member, but .* has lost its data: set store\.member\."
            ):
                await EtcdMember(tmp_path / "n3", all_settings[2]).start()
    if not with_peers:
        shutil.rmtree(tmp_path / "n3" / "etcd" / "data")
        with pytest.raises(ConfigError, match=r"has lost the data of member n3: set store\.member\.join"):
            await EtcdMember(tmp_path / "n3", all_settings[2]).start()

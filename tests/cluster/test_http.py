"""The HTTP API of two nodes over one real etcd: batches, watches, large values, draining, tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from discovery.api.polls import POLLS
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import Access
from tests.discovery.api.test_watch import watching
from tests.support.api import CONFIG, Api, problem, running_api, until
from tests.support.etcd import EtcdCluster, etcd_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LONG = 60.0  # seconds that only bound a wait
ON_ETCD = msgspec.structs.replace(CONFIG, store=msgspec.structs.replace(CONFIG.store, engine="etcd"))


def store_of(cluster: EtcdCluster) -> type[EmbeddedStore]:
    def make(path: Path, *, clock: Callable[[], float]) -> EtcdStore:
        return EtcdStore(Access(cluster.endpoints))

    return cast(type[EmbeddedStore], make)


@asynccontextmanager
async def two_nodes(path: Path) -> AsyncIterator[tuple[Api, Api, EtcdCluster]]:
    with etcd_cluster(path / "etcd") as cluster:
        made = store_of(cluster)
        async with running_api(path, ON_ETCD, made) as here, running_api(path, ON_ETCD, made) as there:
            yield here, there, cluster


def put(instance: str, **fields: object) -> dict[str, Any]:
    return {"put": {"service": "web.prod", "instance": instance, "host": "10.0.0.1", **fields}}


async def send(api: Api, operations: list[dict[str, Any]]) -> list[int]:
    answer = await api.call("POST", "/v1/batch", {"operations": operations})
    assert answer.status == 200, answer
    return [each["status"] for each in answer.body["results"]]


async def listed(api: Api) -> dict[str, Any]:
    answer = await api.call("GET", "/v1/services/web.prod")
    return {each["instance"]: each for each in answer.body["instances"]}


async def test_a_batch_reaches_the_other_node_and_its_watches(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, there, _), watching(there, "?service=web.prod") as reader:
        await reader.until_synced()
        lease = (await here.call("POST", "/v1/leases", {"ttl": 60})).body["id"]
        names = [f"i{number}" for number in range(300)]
        assert await send(here, [put(name, lease=lease) for name in names]) == [201] * 300
        assert await send(here, [put(f"own{number}") for number in range(20)]) == [201] * 20
        told = [await reader.event() for _ in range(320)]
        assert {each["type"] for each in told} == {"put"}
        assert {each["instance"] for each in told} == {*names, *(f"own{number}" for number in range(20))}
        assert set(await listed(there)) == set(await listed(here)) == {each["instance"] for each in told}

        since = told[-1]["revision"]
        removal = [{"delete": {"service": "web.prod", "instance": name}} for name in names]
        assert await send(there, removal) == [204] * 300
        async with watching(here, f"?service=web.prod&since={since}") as again:
            gone = [await again.event() for _ in range(300)]
        assert {(each["type"], each["instance"]) for each in gone} == {("delete", name) for name in names}
        assert len(await listed(here)) == 20


async def test_large_values_go_in_as_many_transactions_as_etcd_takes(tmp_path: Path) -> None:
    """It takes 1.5 MiB in one."""
    async with two_nodes(tmp_path) as (here, there, _):
        text = "x" * 60_000
        large = [put(f"i{number}", text=text, lease_ttl=0) for number in range(60)]
        assert await send(here, large) == [201] * 60
        await until(lambda: there.view.root.count == 60, LONG)
        assert {each["text"] for each in (await listed(there)).values()} == {text}


async def test_a_watch_from_before_the_compaction_is_told_so(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, _, cluster):
        for port in (1, 2, 3):
            await here.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.1", "port": port})
        await here.store.compact(here.view.revision)
        gone = await here.call("GET", "/v1/watch?service=web.prod&since=1")
        problem(gone, 410, "compacted")
        assert cluster.endpoints


async def test_a_poll_of_the_other_node_hears_of_every_move(tmp_path: Path) -> None:
    """There the two halves of a move come over two watches, in either order."""
    async with two_nodes(tmp_path) as (here, there, _):
        one = "/v1/services/web.prod/i1"

        async def polled(index: int, wanted: list[bool]) -> int:
            """Polls until the list has this, whether drained or not; from where to go on."""
            while True:
                answer = (await there.call("GET", f"/v1/services/web.prod?index={index}&wait=300")).body
                index = answer["revision"]
                if [bool(each["drained_at"]) for each in answer["instances"]] == wanted:
                    return index

        await here.call("PUT", one, {"host": "10.0.0.1"})
        await until(lambda: there.view.root.count == 1, LONG)
        index = (await there.call("GET", "/v1/services/web.prod")).body["revision"]
        moves = [("drain", [True]), ("undrain", [False])] * 5 + [("drain", [True])]
        for verb, wanted in moves:
            polling = asyncio.create_task(polled(index, wanted))
            await until(lambda: len(there.app[POLLS].waited_for()) == 1, LONG)
            assert (await here.call("POST", f"{one}/{verb}")).status == 200
            index = await asyncio.wait_for(polling, LONG)
        polling = asyncio.create_task(polled(index, []))
        await here.call("DELETE", one)
        await asyncio.wait_for(polling, LONG)


async def test_a_token_that_one_node_revokes_ends_on_the_other(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, there, _):

        async def make(token: str | None, role: str) -> tuple[str, str]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            made = await here.call("POST", "/v1/tokens", {"name": role, "role": role}, headers=headers)
            assert made.status == 201, made
            return made.body["id"], made.body["token"]

        first, operator = await make(None, "operate")
        read, reader = await make(operator, "read")
        as_reader = {"Authorization": f"Bearer {reader}"}
        await until(lambda: there.parts.tokens.find(reader) is not None, LONG)
        assert (await there.call("GET", "/v1/services", headers=as_reader)).status == 200
        as_operator = {"Authorization": f"Bearer {operator}"}
        assert (await here.call("DELETE", f"/v1/tokens/{read}", headers=as_operator)).status == 204
        assert (await here.call("GET", "/v1/services", headers=as_reader)).status == 401
        await until(lambda: there.parts.tokens.find(reader) is None, LONG)
        assert (await there.call("GET", "/v1/services", headers=as_reader)).status == 401

        await make(operator, "read")
        second, _ = await make(operator, "operate")
        await until(lambda: len(there.parts.tokens._stored) == 3, LONG)
        both = await asyncio.gather(
            here.call("DELETE", f"/v1/tokens/{first}", headers=as_operator),
            there.call("DELETE", f"/v1/tokens/{second}", headers=as_operator),
        )
        assert sorted(each.status for each in both) in ([204, 401], [204, 409]), both

"""Keys and leases as text: out and in again, and what other programs print."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from discovery.errors import Conflict, DiscoveryError, InvalidField
from discovery.kv.contract import BASE_KEY, Lease, Put, TxnResult
from discovery.kv.embedded import EmbeddedStore
from discovery.transfer import PIECE, Moved, export_lines, import_items, read_lines


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(path, clock=lambda: 0.0)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def take_in(store: EmbeddedStore, lines: list[bytes], *, overwrite: bool = False) -> Moved:
    items = read_lines(lines, lease_ttl=300)
    return await import_items(store, items, overwrite=overwrite, progress=lambda done: None)


async def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as store:
        await store.lease_grant(15, 0xABC)
        await store.lease_grant(3600, 7)
        await store.lease_grant(30, 8)  # without keys
        await store.put(b"/skydns/a", b'{"host": "10.0.0.1"}', lease=0xABC)
        await store.put(b"/skydns/\xff\0", bytes(range(256)))
        await store.put(b"/discovery/node", b"")
        for first in range(0, 2 * PIECE + 3, 100):
            puts = [Put(b"/many/%d" % n, b"v%d" % n, 7) for n in range(first, first + 100)]
            await store.txn([], puts)
        lines = [line async for line in export_lines(store, store.lease_ids())]
        wanted = (await store.range(b"", b"\0")).kvs
    head = json.loads(lines[0])
    assert (head["format"], head["version"], head["leases"]) == ("discovery-store", 1, 3)
    assert b'{"key":"/skydns/a","lease":"0000000000000abc","value":"{\\"host\\": \\"10.0.0.1\\"}"}' in lines
    async with opened(tmp_path / "two") as store:
        assert await take_in(store, lines) == Moved(len(wanted), 3)
        found = (await store.range(b"", b"\0")).kvs
        assert [(kv.key, kv.value, kv.lease) for kv in found] == [
            (kv.key, kv.value, kv.lease) for kv in wanted
        ]
        assert [await store.lease_ttl(lease) for lease in (7, 8, 0xABC)] == [(3600, 3600), (30, 30), (15, 15)]
        again = [line async for line in export_lines(store, store.lease_ids())]
        assert sorted(again[1:]) == sorted(lines[1:])


async def test_what_is_there_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    head = b'{"format":"discovery-store","version":1,"revision":5,"leases":1}'
    lease, key = (
        b'{"lease":"0000000000000007","ttl":60}',
        b'{"key":"a","lease":"0000000000000007","value":"new"}',
    )
    async with opened(tmp_path) as store:
        await store.put(b"a", b"old")
        with pytest.raises(Conflict, match="the key a is there already"):
            await take_in(store, [head, lease, key])
        assert (await store.range(b"a")).kvs[0].value == b"old"
        with pytest.raises(Conflict, match="the lease 0000000000000007 is there already"):
            await take_in(store, [head, lease])
        await take_in(store, [head, lease, key], overwrite=True)
        assert (await store.range(b"a")).kvs[0].value == b"new"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


async def test_what_etcdctl_prints_is_read(tmp_path: Path) -> None:
    printed = json.dumps(
        {
            "header": {"cluster_id": 1, "revision": 9, "raft_term": 2},
            "kvs": [
                {
                    "key": b64(b"/skydns/local/a"),
                    "create_revision": 4,
                    "mod_revision": 4,
                    "version": 1,
                    "value": b64(b'{"host":"10.0.0.1"}'),
                    "lease": 7587862094462107658,
                },
                {"key": b64(b"/skydns/local/b"), "create_revision": 5, "mod_revision": 5, "version": 1},
            ],
            "count": 2,
        }
    ).encode()
    assert list(read_lines([printed + b"\n"], lease_ttl=90)) == [
        Lease(7587862094462107658, 90),
        Put(b"/skydns/local/a", b'{"host":"10.0.0.1"}', 7587862094462107658),
        Put(b"/skydns/local/b", b"", 0),
    ]
    async with opened(tmp_path) as store:
        assert await take_in(store, [printed]) == Moved(2, 1)
    assert list(read_lines([b'{"header":{"cluster_id":1,"revision":9}}\n'], lease_ttl=90)) == []


HEAD = b'{"format":"discovery-store","version":1,"revision":5,"leases":0}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1"),
        ([b"not json"], "line 1"),
        ([b"{}"], "line 1: this is neither"),
        ([b'{"format":"discovery-store","version":2,"revision":5,"leases":0}'], "line 1: .* version 2"),
        ([HEAD, b'{"key":"a","value":"1"}', b'{"kee":"a"}'], "line 3"),
        ([HEAD, b'{"value":"1"}'], "line 2: the key is empty"),
        ([HEAD, b'{"key64":"!!"}'], "line 2: key64 or value64"),
        ([HEAD, b'{"key":"a","lease":"xyz"}'], "line 2: 'xyz' is not a lease's id"),
        ([HEAD, b'{"lease":"-7","ttl":3}'], "line 2: '-7' is not a lease's id"),
        ([b'{"kvs":[{"key":"!"}]}'], "line 1"),
        ([b'{"kvs":[]}', b'{"kvs":[]}'], "line 2"),
    ],
)
def test_what_is_damaged_is_named_by_its_line(lines: list[bytes], said: str) -> None:
    with pytest.raises(InvalidField, match=said):
        list(read_lines(lines, lease_ttl=1))


async def test_a_key_on_a_lease_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(DiscoveryError, match="lease 7 does not exist"):
            await take_in(store, [HEAD, b'{"key":"a","lease":"0000000000000007"}'])


async def test_a_part_of_an_export_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as store:
        await store.lease_grant(15, 0xABC)
        for number in range(3):
            await store.put(b"/a/%d" % number, b"")
        lines = [line async for line in export_lines(store, store.lease_ids())]
    assert json.loads(lines[0])["keys"] == 3
    async with opened(tmp_path / "two") as store:
        for part in (lines[:-1], lines[:1], [lines[0], *lines[2:]]):
            with pytest.raises(InvalidField, match="the export is not whole"):
                await take_in(store, part, overwrite=True)
        assert await take_in(store, lines, overwrite=True) == Moved(3, 1)


async def test_a_lease_is_granted_with_its_first_key_and_a_cluster_s_base_stays_out(tmp_path: Path) -> None:
    order = []

    class Told(EmbeddedStore):
        async def lease_grant(self, ttl: int, lease_id: int = 0) -> Lease:
            order.append(f"lease {lease_id}")
            return await super().lease_grant(ttl, lease_id)

        async def txn(self, *arguments: Any, **named: Any) -> TxnResult:
            order.append("keys")
            return await super().txn(*arguments, **named)

    store = Told(tmp_path / "store", clock=lambda: 0.0)
    await store.start()
    items: list[Lease | Put] = [Lease(1, 5), Lease(2, 5), Lease(3, 5), Put(BASE_KEY, b"9")]
    items += [Put(b"/a%d" % n, b"", 2) for n in range(PIECE)] + [Put(b"/b", b"", 1)]
    moved = await import_items(store, items, overwrite=False, progress=lambda done: None)
    assert moved == Moved(PIECE + 1, 3)
    assert order == ["lease 2", "keys", "lease 1", "keys", "lease 3"]
    assert not (await store.range(BASE_KEY)).kvs
    await store.close()

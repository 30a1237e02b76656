"""/v1/store on a real socket: state, compaction, snapshots."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from discovery.kv import offline
from discovery.kv.contract import Compacted
from tests.support.api import problem, running_api


async def test_the_state_is_told(tmp_path: Path) -> None:
    async with running_api(tmp_path / "store") as api:
        await api.store.lease_grant(60)
        revision = await api.store.put(b"/skydns/a", b"{}")
        answer = await api.call("GET", "/v1/store")
        assert answer.status == 200
        assert (answer.body["revision"], answer.body["leases"], answer.body["errors"]) == (revision, 1, [])
        assert (answer.body["stalls"], answer.body["leases_held"]) == (0, 0)
        assert answer.body["size"] >= answer.body["size_in_use"] > 0
        assert answer.headers["X-Revision"] == str(revision)
        problem(await api.call("GET", "/v1/store?x=1"), 400, "invalid-field", "x")


async def test_history_is_compacted(tmp_path: Path) -> None:
    async with running_api(tmp_path / "store") as api:
        for _ in range(5):
            await api.store.put(b"/skydns/a", b"{}")
        answer = await api.call("POST", "/v1/store/compact", {"revision": 4})
        assert (answer.status, answer.body["compact_revision"], answer.body["revision"]) == (200, 4, 6)
        answer = await api.call("POST", "/v1/store/compact")
        assert answer.body["compact_revision"] == 6
        again = await api.call("POST", "/v1/store/compact")  # nothing is left to do, which is no fault
        assert (again.status, again.body["compact_revision"]) == (200, 6)
        problem(await api.call("POST", "/v1/store/compact", {"revision": 3}), 410, "compacted")
        problem(
            await api.call("POST", "/v1/store/compact", {"revision": -1}), 400, "invalid-field", "revision"
        )
        problem(await api.call("POST", "/v1/store/compact", {"revision": 99}), 410, "future-revision")
        problem(await api.call("POST", "/v1/store/compact", {"rev": 1}), 400, "invalid-field", "rev")
        with pytest.raises(Compacted):
            async with api.store.watch(b"a", from_revision=5):
                pass


async def test_a_snapshot_is_sent_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_api(tmp_path / "store") as api:
        for number in range(50):
            await api.store.put(b"/skydns/%d" % number, bytes(50_000))
        url = URL(f"http://{api.host}:{api.port}/v1/store/snapshot")
        async with api.session.post(url) as response:
            raw = await response.read()
            assert response.status == 200
            assert response.headers["X-Revision"] == "51"
            assert response.content_type == "application/octet-stream"
        (tmp_path / "copy").write_bytes(raw)
        found = offline.check(tmp_path / "copy")
        assert (found.keys, found.revision) == (50, 51)
        assert not [path for path in (tmp_path / "store").iterdir() if path.name.startswith("snapshot")]


@pytest.mark.slow  # a snapshot has to be large to be under way
async def test_one_snapshot_at_a_time_and_a_caller_that_leaves_does_not_block_the_next(
    tmp_path: Path,
) -> None:
    async with running_api(tmp_path / "store") as api:
        for number in range(40):
            await api.store.put(b"/skydns/%d" % number, bytes(500_000))
        url = URL(f"http://{api.host}:{api.port}/v1/store/snapshot")
        async with api.session.post(url) as slow:
            assert slow.status == 200
            problem(await api.call("POST", "/v1/store/snapshot"), 409, "conflict")
            slow.close()
        for _ in range(1_000):
            async with api.session.post(url) as response:
                if response.status == 200:
                    assert len(await response.read()) > 20_000_000
                    break
            await asyncio.sleep(0)
        else:
            raise AssertionError("the next snapshot was never taken")

"""The long poll of /v2/keys; etcd 2's own answers are the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from discovery.api import v2wait
from discovery.kv.contract import Compare, Op, TxnResult
from discovery.kv.embedded import EmbeddedStore
from tests.support.api import Answer, Api, running_api, until
from tests.support.etcd2 import failure

URL = "/v2/keys/skydns/web"


class Watched(EmbeddedStore):
    """The real store. Counts the watches open beside those of the node itself; `answers` holds back transactions."""

    watches = -3

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(path, clock=clock)
        self.answers = asyncio.Event()
        self.answers.set()

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        done = await super().txn(when, then, otherwise, grant_ttl=grant_ttl)
        await self.answers.wait()
        return done

    def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> Any:  # Any: as the store's
        @asynccontextmanager
        async def counted() -> AsyncIterator[Any]:
            async with super(Watched, self).watch(key, end, from_revision=from_revision) as batches:
                self.watches += 1
                try:
                    yield batches
                finally:
                    self.watches -= 1

        return counted()


async def waiting(api: Api, path: str) -> asyncio.Task[Answer]:
    """A wait that has begun."""
    store = api.store
    assert isinstance(store, Watched)
    before = store.watches
    task = asyncio.create_task(api.call("GET", path))
    await until(lambda: store.watches > before or task.done())
    return task


async def ended(task: asyncio.Task[Answer]) -> Answer:
    async with asyncio.timeout(5):
        return await task


def node(key: str, value: str, index: int, created: int | None = None) -> dict[str, Any]:
    made = index if created is None else created
    return {"key": f"/skydns/{key}", "value": value, "modifiedIndex": index, "createdIndex": made}


async def test_a_wait_ends_with_the_next_change_of_the_key(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        await api.form(f"{URL}/1", value="a")
        task = await waiting(api, f"{URL}/1?wait=true&quorum=false")
        for other in ("", "/1/below", "/11", "/2"):
            await api.form(f"{URL}{other}", value="x")
        assert not task.done()
        await api.form(f"{URL}/1", value="b")
        answer = await ended(task)
        assert (answer.status, answer.headers["X-Etcd-Index"]) == (200, "2")
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.body == {
            "action": "set",
            "node": node("web/1", "b", 7, 2),
            "prevNode": node("web/1", "a", 2),
        }


async def test_every_verb_is_told(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("create", lambda: api.form(f"{URL}/1", value="a", prevExist="false")),
            ("set", lambda: api.form(f"{URL}/1", value="b")),
            ("update", lambda: api.form(f"{URL}/1", value="c", prevExist="true")),
            ("compareAndSwap", lambda: api.form(f"{URL}/1", value="d", prevValue="c")),
            ("compareAndDelete", lambda: api.call("DELETE", f"{URL}/1?prevValue=d")),
            ("create", lambda: api.call("POST", f"{URL}?value=q")),
            ("set", lambda: api.form(f"{URL}/1", value="e", ttl="60")),
            ("delete", lambda: api.call("DELETE", f"{URL}/1")),
        ]
        told = []
        for action, call in calls:
            task = await waiting(api, f"{URL}?wait=true&recursive=true")
            answered = (await call()).body
            told.append((await ended(task)).body)
            assert told[-1]["action"] == answered["action"] == action
            assert told[-1]["node"] == answered["node"]
            if "prevNode" in answered:
                assert told[-1]["prevNode"]["value"] == answered["prevNode"]["value"]
        index = 1
        for expected in told:  # the same again, from history
            body = (await api.call("GET", f"{URL}?wait=true&recursive=true&waitIndex={index + 1}")).body
            assert (body["action"], body["node"]["key"]) == (expected["action"], expected["node"]["key"])
            index = body["node"]["modifiedIndex"]


async def test_wait_index_gives_the_first_change_from_there_on(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        for value in ("a", "b", "c"):
            await api.form(f"{URL}/1", value=value)
        for index, value in ((1, "a"), (2, "a"), (3, "b"), (4, "c")):
            answer = await api.call("GET", f"{URL}/1?wait=true&waitIndex={index}")
            assert answer.body["node"]["value"] == value
            assert answer.headers["X-Etcd-Index"] == "4"
        task = await waiting(api, f"{URL}/1?wait=true&waitIndex=7")
        for value in ("d", "e"):
            await api.form(f"{URL}/1", value=value)
        assert not task.done()
        await api.form(f"{URL}/1", value="f")
        assert (await ended(task)).body["node"] == node("web/1", "f", 7, 2)


async def test_what_was_there_before_is_told_where_it_is_known(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        for value in (b"a", b"b"):
            await api.store.put(b"/skydns/web/1", value)  # another writer
        past = (await api.call("GET", f"{URL}/1?wait=true&waitIndex=2")).body
        assert past == {"action": "set", "node": node("web/1", "a", 2)}
        task = await waiting(api, f"{URL}/1?wait=true")
        await api.store.put(b"/skydns/web/1", b"c")
        assert (await ended(task)).body["prevNode"] == node("web/1", "b", 3, 2)


async def test_recursive_is_the_key_and_all_below_it_by_whole_parts(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        for key in ("web", "web/a", "web/a/b"):
            task = await waiting(api, f"{URL}?wait=true&recursive=true")
            for other in ("web2", "web-3/x", "we", "web/_hidden", "web/a/_h/x"):
                await api.form(f"/v2/keys/skydns/{other}", value="x")
            assert not task.done()
            await api.form(f"/v2/keys/skydns/{key}", value="y")
            assert (await ended(task)).body["node"]["key"] == f"/skydns/{key}"
        task = await waiting(api, f"{URL}/_hidden?wait=true")
        await api.form(f"{URL}/_hidden", value="z")
        assert (await ended(task)).body["node"]["value"] == "z"
        task = await waiting(api, "/v2/keys/skydns?wait=true&recursive=true")
        await api.form("/v2/keys/skydns/anywhere", value="z")
        assert (await ended(task)).body["node"]["key"] == "/skydns/anywhere"


async def test_an_expiry_is_told(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        await api.form(f"{URL}/1", value="a", ttl="5")
        one = await waiting(api, f"{URL}/1?wait=true")
        tree = await waiting(api, f"{URL}?wait=true&recursive=true")
        await api.expire(6)
        assert (await ended(one)).body == {
            "action": "expire",
            "node": {"key": "/skydns/web/1", "modifiedIndex": 3, "createdIndex": 2},
            "prevNode": node("web/1", "a", 2),
        }
        assert (await ended(tree)).body["action"] == "expire"


async def test_a_put_with_a_ttl_is_told_with_its_time(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        task = await waiting(api, f"{URL}/1?wait=true")
        await api.form(f"{URL}/1", value="a", ttl="60")
        told = (await ended(task)).body["node"]
        assert (told["ttl"], told["expiration"]) == (60, "2023-11-14T22:14:20.250Z")


async def test_a_refresh_is_told_to_nobody(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        await api.form(f"{URL}/1", value="a", ttl="60")
        task = await waiting(api, f"{URL}/1?wait=true")
        await api.form(f"{URL}/1", refresh="true", ttl="60")
        await api.form(f"{URL}/1", refresh="true", ttl="90")
        await api.caught_up()
        assert not task.done()
        await api.form(f"{URL}/1", value="b", ttl="90")
        assert (await ended(task)).body["node"]["value"] == "b"


async def test_what_the_other_api_does_is_told_too(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        task = await waiting(api, "/v2/keys/skydns/internal?wait=true&recursive=true")
        await api.call("PUT", "/v1/services/web/1", {"host": "10.0.0.1", "lease_ttl": 0})
        body = (await ended(task)).body
        assert (body["action"], body["node"]["value"]) == ("set", '{"host":"10.0.0.1"}')
        task = await waiting(api, "/v2/keys/skydns/internal?wait=true&recursive=true")
        await api.call("DELETE", "/v1/services/web/1")
        body = (await ended(task)).body
        assert (body["action"], body["prevNode"]["value"]) == ("delete", '{"host":"10.0.0.1"}')


async def test_the_removal_of_a_tree_is_one_change_of_the_directory(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        for key in ("1", "2/x"):
            await api.form(f"{URL}/{key}", value="a")
        tasks = [
            await waiting(api, f"{path}?wait=true&recursive=true")
            for path in ("/v2/keys/skydns", URL, f"{URL}/2")
        ]
        tasks.append(await waiting(api, f"{URL}/1?wait=true"))
        await api.call("DELETE", f"{URL}?recursive=true")
        for task in tasks:
            body = (await ended(task)).body
            assert body["action"] == "delete"
            assert body["node"] == {"key": "/skydns/web", "dir": True, "modifiedIndex": 4, "createdIndex": 4}


async def test_several_changes_at_one_index_are_to_be_read_again(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        lease = (await api.store.lease_grant(30)).id
        for key in (b"/skydns/web/1", b"/skydns/web/2"):
            await api.store.put(key, b"{}", lease=lease)
        by_index = await waiting(api, f"{URL}?wait=true&recursive=true&waitIndex=4")
        one = await waiting(api, f"{URL}/1?wait=true&waitIndex=4")
        next_one = await waiting(api, f"{URL}?wait=true&recursive=true")
        await api.store.lease_revoke(lease)
        assert (await ended(by_index)).text == ""  # the headers were out: the client asks again
        again = await api.call("GET", f"{URL}?wait=true&recursive=true&waitIndex=4")
        message = "The event in requested index is outdated and cleared"
        assert "read them again" in failure(again, 400, 401, message)
        index = again.body["index"]
        for task in (one, next_one):
            body = (await ended(task)).body
            assert (body["action"], body["node"]["key"]) == ("expire", "/skydns/web/1")
            assert body["node"]["modifiedIndex"] == index
        after = await waiting(api, f"{URL}?wait=true&recursive=true&waitIndex={index + 1}")
        await api.form(f"{URL}/3", value="a")
        assert (await ended(after)).body["node"]["key"] == "/skydns/web/3"


async def test_the_headers_go_out_before_the_change(tmp_path: Path) -> None:
    """Clients tell a wait in which nothing happened from a server that is dead by them."""
    async with running_api(tmp_path) as api:
        await api.form(f"{URL}/1", value="a")
        url = f"http://{api.host}:{api.port}{URL}/2?wait=true"
        for more in ("", "&waitIndex=1", "&waitIndex=99"):
            async with asyncio.timeout(5), api.session.get(url + more) as response:
                assert (response.status, response.headers["X-Etcd-Index"]) == (200, "2")


async def test_compacted_history(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        for value in ("a", "b", "c"):
            await api.form(f"{URL}/1", value=value)
        await api.store.compact(4)
        answer = await api.call("GET", f"{URL}/1?wait=true&waitIndex=2")
        message = "The event in requested index is outdated and cleared"
        failure(answer, 400, 401, message, "the requested history has been cleared [4/2]")
        assert answer.body["index"] == 4
        index = int((await api.call("GET", f"{URL}/1")).headers["X-Etcd-Index"])
        task = await waiting(api, f"{URL}/1?wait=true&waitIndex={index + 1}")
        await api.form(f"{URL}/1", value="d")
        assert (await ended(task)).body["node"]["value"] == "d"


async def test_a_stream_is_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call("GET", f"{URL}?wait=true&stream=true")
        assert "waitIndex" in failure(answer, 400, 209, "Invalid field")


async def test_a_wait_ends_empty_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2wait, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(v2wait, "LOOK_EVERY", 0.02)
    async with running_api(tmp_path) as api:
        answer = await api.call("GET", f"{URL}?wait=true")
        assert (answer.status, answer.text, answer.headers["X-Etcd-Index"]) == (200, "", "1")


async def test_a_wait_ends_with_its_client_and_with_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v2wait, "LOOK_EVERY", 0.02)
    async with running_api(tmp_path, store_type=Watched) as api:
        store = api.store
        assert isinstance(store, Watched)
        _, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(f"GET {URL}?wait=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await until(lambda: store.watches == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: store.watches == 0)
        task = await waiting(api, f"{URL}?wait=true")
        api.parts.stopping = True
        assert (await ended(task)).text == ""
        await until(lambda: store.watches == 0)


async def test_a_change_just_after_the_client_has_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        store = api.store
        assert isinstance(store, Watched)
        _, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(f"GET {URL}?wait=true&recursive=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await until(lambda: store.watches == 1)
        writer.close()
        await writer.wait_closed()
        await api.form(f"{URL}/1", value="a")
        await until(lambda: store.watches == 0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_wait_that_the_store_ends(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Watched) as api:
        task = await waiting(api, f"{URL}?wait=true")
        await api.feed.close()
        await api.store.close()
        assert (await ended(task)).text == ""


async def test_a_watch_that_is_faster_than_the_stores_answer(tmp_path: Path) -> None:
    """Over etcd the two come over different connections."""
    async with running_api(tmp_path, store_type=Watched) as api:
        store = api.store
        assert isinstance(store, Watched)
        store.answers.clear()
        task = await waiting(api, f"{URL}/1?wait=true")
        writing = asyncio.create_task(api.form(f"{URL}/1", value="a", prevExist="false"))
        await until(lambda: api.view.revision == 2)
        assert not task.done()
        store.answers.set()
        await writing
        assert (await ended(task)).body["action"] == "create"

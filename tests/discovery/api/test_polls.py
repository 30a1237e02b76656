"""Long polls: they answer exactly when the list is another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from discovery import drained
from discovery.api import polls
from discovery.api.changes import Scope
from discovery.api.polls import POLLS, Polls
from discovery.kv.contract import Delete, Op, Put
from tests.discovery.api.test_watch import delete, put
from tests.support.api import Answer, Api, problem, running_api, until

KEY = b"/skydns/internal/discovery/prod/web/i1"


async def test_a_long_poll_answers_when_the_service_changes(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        old = await put(api, "web.prod/i1")
        index = await put(api, "web.prod/i2")
        at_once = await api.call("GET", f"/v1/services/web.prod?index={old}&wait=300")
        assert [each["instance"] for each in at_once.body["instances"]] == ["i1", "i2"]
        waiting = asyncio.create_task(api.call("GET", f"/v1/services/web.prod?index={index}&wait=300"))
        below = asyncio.create_task(api.call("GET", f"/v1/services/prod?index={index}&wait=300&subtree=true"))
        await until(lambda: len(api.app[POLLS].waited_for()) == 2)
        await put(api, "mail.prod/i1")
        assert (await below).status == 200
        assert not waiting.done()
        gone = await delete(api, "web.prod/i1")
        answer = await waiting
        assert [each["instance"] for each in answer.body["instances"]] == ["i2"]
        assert int(answer.headers["X-Revision"]) == answer.body["revision"] == gone
        assert not api.app[POLLS].waited_for()


async def test_a_long_poll_for_all_below_a_name_is_told_of_what_stands_there_itself(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        old = await put(api, "web.prod/i1")
        index = await put(api, "web.prod/i1", port=81)
        poll = "/v1/services/i1.web.prod?subtree=true&wait=300&index="
        async with asyncio.timeout(20):
            assert (await api.call("GET", f"{poll}{old}")).body["instances"][0]["port"] == 81
        waiting = asyncio.create_task(api.call("GET", f"{poll}{index}"))
        await until(lambda: len(api.app[POLLS].waited_for()) == 1)
        await put(api, "web.prod/i2")
        assert not waiting.done()
        async with asyncio.timeout(20):
            await put(api, "web.prod/i1", port=82)
            assert (await waiting).body["instances"][0]["port"] == 82
            await delete(api, "web.prod/i1")
            assert (await api.call("GET", f"{poll}{index}")).body["instances"] == []


async def test_of_one_revision_the_last_word_on_a_key_counts(tmp_path: Path) -> None:
    """What stands at a name itself is not noted where it is put, but where it goes."""
    async with running_api(tmp_path) as api:
        index = await put(api, "web.prod/i1")
        gone, below = Delete(KEY), Put(b"%s/x" % KEY, b'{"host": "10.0.0.2"}')
        await api.store.txn([], [gone, below])
        async with asyncio.timeout(20):
            poll = f"/v1/services/i1.web.prod?subtree=true&wait=300&index={index}"
            listed = (await api.call("GET", poll)).body["instances"]
        assert [each["instance"] for each in listed] == ["x"]


async def test_a_long_poll_ends(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        index = await put(api, "web.prod/i1")
        answer = await api.call("GET", f"/v1/services/web.prod?index={index}&wait=0")
        assert (answer.status, len(answer.body["instances"])) == (200, 1)
        for query, field in (("wait=3", "wait"), ("index=-1", "index"), ("index=1&wait=301", "wait")):
            problem(await api.call("GET", f"/v1/services/web.prod?{query}"), 400, "invalid-field", field)


async def test_a_node_that_has_just_loaded_does_not_let_a_poll_miss_a_change(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        index = await put(api, "web.prod/i1")
        await delete(api, "web.prod/i1")
    async with running_api(tmp_path) as api:
        answer = await api.call("GET", f"/v1/services/web.prod?index={index}&wait=300")
        assert answer.body["instances"] == []


# ---------------------------------------------------------------- what was drained stands in the list, too


async def polling(api: Api, index: int) -> asyncio.Task[Answer]:
    """One that waits by now."""
    task = asyncio.create_task(api.call("GET", f"/v1/services/web.prod?index={index}&wait=300"))
    await until(lambda: len(api.app[POLLS].waited_for()) == 1)
    return task


async def test_a_poll_hears_of_all_that_befalls_what_is_drained(tmp_path: Path) -> None:
    one = "/v1/services/web.prod/i1"
    async with running_api(tmp_path) as api:
        index = await put(api, "web.prod/i1")
        for method, path, body, wanted in (
            ("POST", f"{one}/drain", None, [("10.0.0.1", True)]),
            ("PUT", one, {"host": "10.0.0.9"}, [("10.0.0.9", True)]),
            ("POST", f"{one}/undrain", None, [("10.0.0.9", False)]),
            ("POST", f"{one}/drain", None, [("10.0.0.9", True)]),
            ("DELETE", one, None, []),
        ):
            task = await polling(api, index)
            assert (await api.call(method, path, body)).status in (200, 204)
            answer = await asyncio.wait_for(task, 30)
            found = [(each["host"], bool(each["drained_at"])) for each in answer.body["instances"]]
            assert found == wanted, (method, path)
            assert answer.body["revision"] > index
            index = answer.body["revision"]
            await api.caught_up()  # both watches have told all of it
            again = await api.call("GET", f"/v1/services/web.prod?index={index}&wait=0")
            index = again.body["revision"]


async def test_what_was_changed_since_is_answered_at_once(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await put(api, "web.prod/i1")
        await api.call("POST", "/v1/services/web.prod/i1/drain")
        index = (await api.call("GET", "/v1/services/web.prod")).body["revision"]
        await delete(api, "web.prod/i1")
        await until(lambda: api.drained.revision > index)
        answer = await api.call("GET", f"/v1/services/web.prod?index={index}&wait=300")
        assert answer.body["instances"] == []
        task = await polling(api, answer.body["revision"])
        assert not task.done()
        task.cancel()


async def test_a_lease_that_ends_takes_what_was_drained_out_of_the_list(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.1", "lease_ttl": 15})
        index = (await api.call("POST", "/v1/services/web.prod/i1/drain")).body["revision"]
        task = await polling(api, index)
        api.clock.advance(16)
        await api.store.expire_due()
        assert (await asyncio.wait_for(task, 30)).body["instances"] == []


async def test_a_move_of_another_node_is_heard_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two halves may come in either order, and the list is as it should be at last."""
    monkeypatch.setattr(polls, "ONCE_MORE", 0.0)
    async with running_api(tmp_path) as api:
        index = await put(api, "web.prod/i1")
        value = b'{"host":"10.0.0.1"}'
        away = drained.drained_key(KEY)
        out: list[Op] = [Delete(KEY), Put(away, drained.write(1.5, value))]
        back: list[Op] = [Delete(away), Put(KEY, value)]
        for ops, is_out in ((out, True), (back, False)):
            task = await polling(api, index)
            await api.store.txn([], ops)
            while True:
                answer = await asyncio.wait_for(task, 30)
                index = answer.body["revision"]
                if [bool(each["drained_at"]) for each in answer.body["instances"]] == [is_out]:
                    break
                task = await polling(api, index)
            await api.caught_up()
            index = (await api.call("GET", "/v1/services/web.prod")).body["revision"]


async def test_who_asked_between_two_words_of_one_change_is_woken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[Sequence[Scope]] = []
    monkeypatch.setattr(Polls, "_rouse_later", lambda _, scopes: later.append(scopes))
    path = (b"internal", b"discovery", b"prod", b"web", b"i1")
    async with running_api(tmp_path) as api:
        index = await put(api, "web.prod/i1")
        api.app[POLLS].drained_changed(path, index, news=True)  # the list at `index` had not heard of it
        task = await polling(api, index)
        assert not task.done()
        (scopes,) = later
        api.app[POLLS]._rouse(scopes)
        assert (await asyncio.wait_for(task, 30)).status == 200
        api.app[POLLS].drained_changed(path, index, news=False)  # it had
        assert len(later) == 1

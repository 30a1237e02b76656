"""/v1/batch over a real socket: order, outcomes, few revisions, leases, limits, tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discovery.api.batch import MAX_OF_ONE, MAX_OPERATIONS
from discovery.kv.contract import NoSpace, TxnResult, Unavailable
from discovery.kv.embedded import EmbeddedStore
from discovery.settings import HttpConfig
from tests.support.api import CONFIG, Answer, Api, problem, running_api


def put(instance: str, service: str = "web.prod", **fields: object) -> dict[str, Any]:
    return {"put": {"service": service, "instance": instance, "host": "10.0.0.1", **fields}}


def delete(instance: str, service: str = "web.prod") -> dict[str, Any]:
    return {"delete": {"service": service, "instance": instance}}


async def send(api: Api, *operations: object, token: str | None = None) -> Answer:
    headers = {"Authorization": f"Bearer {token}"} if token else None
    return await api.call("POST", "/v1/batch", {"operations": operations}, headers=headers)


async def statuses(api: Api, *operations: object) -> list[int]:
    answer = await send(api, *operations)
    assert answer.status == 200, answer
    return [each["status"] for each in answer.body["results"]]


async def lease(api: Api, ttl: int = 60) -> str:
    return str((await api.call("POST", "/v1/leases", {"ttl": ttl})).body["id"])


async def instances(api: Api, service: str = "web.prod") -> dict[str, Any]:
    listed = (await api.call("GET", f"/v1/services/{service}")).body["instances"]
    return {each["instance"]: each for each in listed}


async def test_what_is_too_much_for_one_instance_is_refused_and_stops_nothing(tmp_path: Path) -> None:
    """Each of them would take a turn of its own."""
    async with running_api(tmp_path) as api:
        many = [put("i1", lease_ttl=0, port=port) for port in range(MAX_OF_ONE + 2)]
        done = await statuses(api, *many, put("i2", lease_ttl=0))
        assert done == [201, *[200] * (MAX_OF_ONE - 1), 400, 400, 201]
        assert {name: each["port"] for name, each in (await instances(api)).items()} == {
            "i1": MAX_OF_ONE - 1,
            "i2": 0,
        }


async def test_results_stand_in_order_and_one_bad_operation_stops_nothing(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        one = await lease(api)
        await statuses(api, put("old", lease=one))
        answer = await send(
            api,
            put("i1", lease=one, port=80),
            put("i2", lease=one, port=70_000),
            put("old", lease=one, port=1),
            put("old2", lease="77"),
            delete("old3"),
            {"put": {"service": "web.prod"}},
            {},
            {"put": {}, "delete": {}},
            [],
            put("any"),
            put("i3", lease=one, prot=1),
            put("i4", lease_ttl=0),
            put("i5"),
            put("i6", lease=one, lease_ttl=5),
            put("i7", lease_ttl=100_000),
            put("i8", service="a..b"),
        )
        results = answer.body["results"]
        assert [each["status"] for each in results] == [
            *(201, 400, 200, 404, 404, 400, 400, 400, 400, 400, 400, 201, 201, 400, 400, 400)
        ]
        assert [each["problem"].get("field") for each in results if "problem" in each] == [
            *("port", "lease", None, "instance", None, None, None, "instance", "prot"),
            *("lease_ttl", "lease_ttl", "service"),
        ]
        assert all(each["problem"]["status"] == each["status"] for each in results if "problem" in each)
        held = await instances(api)
        assert set(held) == {"old", "i1", "i4", "i5"}
        assert (results[0]["lease"], results[0]["lease_ttl"], results[0]["heartbeat_every"]) == (one, 60, 20)
        for name, result in (
            ("i1", results[0]),
            ("old", results[2]),
            ("i4", results[11]),
            ("i5", results[12]),
        ):
            assert (held[name]["revision"], held[name]["lease"]) == (result["revision"], result["lease"])
        assert answer.body["revision"] == int(answer.headers["X-Revision"]) == api.view.revision
        assert api.view.expected == {}
        assert "X-View-Revision" not in answer.headers


@pytest.mark.slow
async def test_a_thousand_under_one_lease_are_few_revisions_and_renew_it_once(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        one = await lease(api)
        before = (await api.store.status()).revision
        batch = [put(f"i{number}", lease=one) for number in range(1000)]
        assert set(await statuses(api, *batch)) == {201}
        assert (await api.store.status()).revision - before == 16  # 64 in each
        assert len(await instances(api)) == 1000
        assert api.metrics.heartbeats == 1
        assert set(await statuses(api, *batch)) == {200}  # nothing changed, so nothing is written
        assert (await api.store.status()).revision - before == 16
        removals = [delete(f"i{number}") for number in range(1000)]
        assert set(await statuses(api, *removals)) == {204}
        assert (await api.store.status()).revision - before == 32
        assert await instances(api) == {}
        assert api.metrics.registrations == api.metrics.registrations_unchanged == 1000


async def test_operations_on_one_key_happen_in_their_order(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        one = await lease(api)
        batch = [
            put("i1", lease=one),
            delete("i1"),
            put("i1", lease=one, port=2),
            put("i1", lease=one, port=3),
        ]
        assert await statuses(api, *batch, delete("i2")) == [201, 204, 201, 200, 404]
        assert (await instances(api))["i1"]["port"] == 3


async def test_leases_of_their_own_are_granted_and_ended_as_by_single_calls(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        shared = await lease(api)
        names = [f"i{number}" for number in range(100)]
        assert set(await statuses(api, *(put(name) for name in names))) == {201}
        held = await instances(api)
        assert len({each["lease"] for each in held.values()}) == 100
        assert await api.leases() == 101
        assert set(await statuses(api, *(put(name) for name in names))) == {200}
        assert {each["lease"] for each in (await instances(api)).values()} == {
            each["lease"] for each in held.values()
        }
        third = (put(name, lease=shared) for name in names[:30])
        assert set(await statuses(api, *third, *(delete(name) for name in names[30:60]))) == {200, 204}
        assert await api.leases() == 41
        assert set(await statuses(api, *(put(name, lease_ttl=0) for name in names[:70]))) == {200, 201}
        assert await api.leases() == 31
        await api.expire(3600)
        assert len(await instances(api)) == 70


async def test_what_stays_on_its_own_lease_is_few_revisions_too(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        names = [f"i{number}" for number in range(100)]
        assert set(await statuses(api, *(put(name, lease_ttl=20) for name in names))) == {201}
        held = await instances(api)
        before = (await api.store.status()).revision
        api.clock.advance(12)
        assert set(await statuses(api, *(put(name, port=2, lease_ttl=20) for name in names))) == {200}
        assert (await api.store.status()).revision - before == 2
        api.clock.advance(12)
        await api.store.expire_due()
        now = await instances(api)
        assert {name: each["lease"] for name, each in now.items()} == {
            name: each["lease"] for name, each in held.items()
        }
        assert {(each["port"], each["lease_ttl"]) for each in now.values()} == {(2, 20)}
        assert api.view.expected == {}


async def test_an_own_lease_that_ends_meanwhile_is_replaced(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert await statuses(api, put("i1", lease_ttl=20), put("i2", lease_ttl=60)) == [201, 201]
        held = await instances(api)
        api.clock.advance(21)
        api.store._leases._wheel.advance(api.clock())  # over, and not swept yet: the key is still there
        assert await statuses(api, put("i1", port=2, lease_ttl=20), put("i2", port=2, lease_ttl=60)) == [
            200,
            200,
        ]
        await api.store.expire_due()
        now = await instances(api)
        assert now["i1"]["lease"] != held["i1"]["lease"]
        assert now["i2"]["lease"] == held["i2"]["lease"]


async def test_where_own_leases_could_not_be_renewed_together_each_is_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(lease_ids: Sequence[int]) -> Sequence[int]:
        raise Unavailable("no member answers")

    async with running_api(tmp_path) as api:
        assert await statuses(api, put("i1", lease_ttl=60)) == [201]
        held = int((await instances(api))["i1"]["lease"], 16)
        api.clock.advance(30)
        monkeypatch.setattr(api.store, "lease_keepalive_many", unavailable)
        assert await statuses(api, put("i1", port=2, lease_ttl=60)) == [200]
        assert await api.store.lease_ttl(held) == (60, 60)


async def test_what_changes_while_own_leases_are_renewed_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_api(tmp_path) as api:
        assert await statuses(api, put("i1", lease_ttl=60)) == [201]
        renew = api.store.lease_keepalive_many

        async def other_writer(lease_ids: Sequence[int]) -> Sequence[int]:
            moved = await api.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.9", "lease_ttl": 0})
            assert moved.status == 200
            return await renew(lease_ids)

        monkeypatch.setattr(api.store, "lease_keepalive_many", other_writer)
        assert await statuses(api, put("i1", port=2, lease_ttl=60)) == [200]
        now = (await instances(api))["i1"]
        assert (now["host"], now["port"], now["lease_ttl"]) == ("10.0.0.1", 2, 60)
        assert await api.store.lease_ttl(int(now["lease"], 16)) == (60, 60)


async def test_what_the_view_does_not_know_yet_is_found_out(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        one = await lease(api)
        assert await statuses(api, put("i1", lease=one), put("i2", lease=one)) == [201, 201]
        await api.feed.close()  # the view stays behind
        for name in ("i1", "i3"):
            await api.store.put(
                f"/skydns/internal/discovery/prod/web/{name}".encode(), b'{"host":"10.0.0.9"}'
            )
        batch = (put("i1", lease=one), put("i2", lease=one), put("i3", lease=one), delete("i4"))
        results = asyncio.create_task(statuses(api, *batch))
        await api.feed.start()
        assert await results == [200, 200, 200, 404]
        assert {each["host"] for each in (await instances(api)).values()} == {"10.0.0.1"}


async def test_foreign_and_unreadable_records_are_replaced(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for name, value in (("I1", b'{"host":"10.0.0.9"}'), ("i2", b"not JSON"), ("i3", b"{}")):
            await api.store.put(f"/skydns/internal/discovery/prod/web/{name}".encode(), value)
        await api.caught_up()
        one = await lease(api)
        assert await statuses(api, delete("i1"), put("i2", lease=one), put("i3", lease=one)) == [
            204,
            200,
            200,
        ]
        assert set(await instances(api)) == {"i2", "i3"}


async def test_what_is_drained_stays_drained(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        one = await lease(api)
        await statuses(api, put("i1", lease=one), put("i2", lease=one))
        for name in ("i1", "i2"):
            assert (await api.call("POST", f"/v1/services/web.prod/{name}/drain")).status == 200
        assert await statuses(api, put("i1", lease=one, port=9), put("i3", lease=one), delete("i2")) == [
            200,
            201,
            204,
        ]
        assert set(await served(api)) == {"i3"}
        assert (await api.call("POST", "/v1/services/web.prod/i1/undrain")).status == 200
        assert set(await served(api)) == {"i1", "i3"}


async def served(api: Api) -> list[str]:
    branch = api.view.find((b"internal", b"discovery", b"prod", b"web"))
    assert branch is not None
    return [child.label.decode() for child in branch.ordered() if child.records]


class FullStore(EmbeddedStore):
    """One that takes no write."""

    async def txn(self, *args: Any, **kwargs: Any) -> TxnResult:
        raise NoSpace("the disk is full")


async def test_a_store_that_takes_nothing_is_503(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=FullStore) as api:
        answer = await send(api, put("i1", lease_ttl=0), put("i2"), put("i3", port=-1))
        problem(answer, 503, "no-space")
        assert answer.headers["Retry-After"]
        assert await statuses(api, put("i3", port=-1)) == [400]


async def test_limits(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        problem(await send(api), 400, "invalid-field", "operations")
        many: list[dict[str, object]] = [{}] * (MAX_OPERATIONS + 1)
        problem(await send(api, *many), 400, "invalid-field", "operations")
        large = b'{"operations": [%b]}' % (b" " * (8 << 20))
        problem(await api.call("POST", "/v1/batch", content=large), 413, "too-large")
        fits = b'{"operations": [{}%b]}' % (b" " * (8 << 20))[:-40]
        assert (await api.call("POST", "/v1/batch", content=fits)).status == 200
        problem(await api.call("POST", "/v1/batch", content=b"[]"), 400, "invalid-field")
        problem(await api.call("POST", "/v1/batch", {"operation": []}), 400, "invalid-field", "operation")
        problem(await api.call("POST", "/v1/batch?x=1", {"operations": []}), 400, "invalid-field", "x")


async def test_a_token_writes_its_own_names_only(tmp_path: Path) -> None:
    tokens = HttpConfig(tokens=("operate the-operator", "read the-reader", "register web.prod the-service"))
    async with running_api(tmp_path, msgspec.structs.replace(CONFIG, http=tokens)) as api:
        problem(await send(api, put("i1"), token="the-reader"), 403, "forbidden")
        problem(await send(api, put("i1")), 401, "unauthorized")
        operator = {"Authorization": "Bearer the-operator"}
        other = (await api.call("POST", "/v1/leases", {"ttl": 60}, headers=operator)).body["id"]
        assert (await send(api, put("m", "mail.prod", lease=other), token="the-operator")).status == 200
        batch = [put("i1"), put("i2", "mail.prod"), delete("m", "mail.prod"), put("i3", lease=other)]
        results = (await send(api, *batch, token="the-service")).body["results"]
        assert [each["status"] for each in results] == [201, 403, 403, 403]


@pytest.mark.slow
async def test_ten_thousand(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        one = await lease(api)
        batch = [put(f"i{number}", lease=one) for number in range(MAX_OPERATIONS)]
        assert set(await statuses(api, *batch)) == {201}
        assert len(await instances(api)) == MAX_OPERATIONS

"""Draining, as a client sees it (http-api.md, "Draining")."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from discovery.api import draining
from tests.support.api import problem, running_api

ONE = "/v1/services/web.prod/i1"
HOST = {"host": "10.0.0.1", "port": 8080}
AT = "2023-11-14T22:13:20.250Z"


async def test_drain_and_undrain(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        made = await api.call("PUT", ONE, {**HOST, "ttl": 30, "lease_ttl": 15})
        answer = await api.call("POST", f"{ONE}/drain")
        assert answer.status == 200
        revision = answer.body["revision"]
        out = made.body | {"revision": revision, "drained_at": AT}
        del out["expires_at"]
        assert answer.body == out | {"safe_at": "2023-11-14T22:13:51.250Z"}  # its own TTL, and a second
        assert (answer.headers["ETag"], answer.headers["X-Revision"]) == (f'"{revision}"', str(revision))
        assert api.view.root.count == 0
        api.parts.now = lambda: 1_800_000_000.0
        again = await api.call("POST", f"{ONE}/drain", {})
        assert (again.status, again.body) == (200, answer.body)
        got = await api.call("GET", ONE)
        assert got.body == out | {"expires_at": got.body["expires_at"]}
        assert (await api.call("GET", "/v1/services/web.prod")).body["instances"] == [out]
        counted = (await api.call("GET", "/v1/services")).body["services"]
        assert counted == [{"service": "web.prod", "instances": 1}]
        assert (await api.call("POST", f"{ONE}/heartbeat")).body["lease"] == made.body["lease"]
        put = await api.call("PUT", ONE, {**HOST, "lease_ttl": 15})
        assert (put.status, put.body["drained_at"]) == (200, AT)
        assert (await api.call("PUT", ONE, HOST, headers={"If-None-Match": "*"})).status == 412
        back = await api.call("POST", f"{ONE}/undrain")
        assert (back.status, back.body["drained_at"], back.body["ttl"]) == (200, None, 5)
        same = await api.call("POST", f"{ONE}/undrain")
        assert (same.status, same.body) == (200, back.body)
        assert api.view.root.count == 1
        await api.call("POST", f"{ONE}/drain")
        wrong = await api.call("DELETE", ONE, headers={"If-Match": '"1"'})
        assert wrong.status == 412
        assert (await api.call("DELETE", ONE)).status == 204
        for verb in ("GET", "DELETE"):
            assert (await api.call(verb, ONE)).status == 404


async def test_a_list_keeps_its_order(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for name in ("web.prod/i3", "web.prod/i1", "eu.web.prod/i2", "web.prod/i2"):
            await api.call("PUT", f"/v1/services/{name}", HOST)
        for name in ("web.prod/i2", "eu.web.prod/i2"):
            await api.call("POST", f"/v1/services/{name}/drain")
        for query, wanted in (
            ("", [("i1", None), ("i2", AT), ("i3", None)]),
            ("?subtree=true", [("i2", AT), ("i1", None), ("i2", AT), ("i3", None)]),
        ):
            found = (await api.call("GET", f"/v1/services/web.prod{query}")).body["instances"]
            assert [(each["instance"], each["drained_at"]) for each in found] == wanted
        services = (await api.call("GET", "/v1/services")).body["services"]
        assert [(each["service"], each["instances"]) for each in services] == [
            ("eu.web.prod", 1),
            ("web.prod", 3),
        ]


async def test_what_is_not_there_is_not_drained(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for verb in ("drain", "undrain"):
            problem(await api.call("POST", f"{ONE}/{verb}"), 404, "not-found")
            gone = await api.call("POST", f"/v1/leases/abc/{verb}")
            problem(gone, 404, "lease-not-found", "lease")
            problem(await api.call("POST", f"{ONE}/{verb}", {"x": 1}), 400, "invalid-field", "x")
        await api.store.put(b"/skydns/internal/discovery/prod/web/i1", b"no JSON")
        await api.caught_up()
        assert "unreadable" in problem(await api.call("POST", f"{ONE}/drain"), 404, "not-found")
        assert "unreadable" in problem(await api.call("POST", f"{ONE}/undrain"), 404, "not-found")


@pytest.mark.parametrize("wait", ["-1", "x", "3601", "1.5", ""])
async def test_a_wrong_wait(tmp_path: Path, wait: str) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, HOST)
        problem(await api.call("POST", f"{ONE}/drain?wait={wait}"), 400, "invalid-field", "wait")
        assert api.view.root.count == 1


async def test_it_waits_until_it_is_safe_or_for_as_long_as_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    class Clock:
        def __getattr__(self, name: str) -> object:
            return getattr(asyncio, name)

    clock = Clock()
    clock.sleep = sleep  # type: ignore[attr-defined]
    monkeypatch.setattr(draining, "asyncio", clock)
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, HOST)
        for query in ("?wait=60", "?wait=2", ""):
            assert (await api.call("POST", f"{ONE}/drain{query}")).status == 200
        assert waited == [6.0, 2, 0]


async def test_all_of_a_lease(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 15})).body["id"]
        empty = await api.call("POST", f"/v1/leases/{lease}/drain")
        assert empty.body == {"id": lease, "drained_at": AT, "safe_at": AT, "instances": []}
        for name in ("web.prod/i1", "db.other.test./i1"):
            await api.call("PUT", f"/v1/services/{name}", {**HOST, "lease": lease})
        drained = await api.call("POST", f"/v1/leases/{lease}/drain")
        instances = [
            {
                "service": "web.prod",
                "instance": "i1",
                "name": "i1.web.prod.discovery.internal.",
                "drained_at": AT,
            },
            {"service": "db.other.test.", "instance": "i1", "name": "i1.db.other.test.", "drained_at": AT},
        ]
        assert drained.status == 200
        safe = "2023-11-14T22:13:28.250Z"  # the other zone's 7 s, and a second
        assert drained.body == {"id": lease, "drained_at": AT, "safe_at": safe, "instances": instances}
        assert drained.headers["X-Revision"] == str(api.view.revision)
        assert api.view.root.count == 0
        assert (await api.call("GET", f"/v1/leases/{lease}")).body["instances"] == instances
        back = await api.call("POST", f"/v1/leases/{lease}/undrain")
        assert back.body == {"id": lease, "instances": [each | {"drained_at": None} for each in instances]}
        assert (await api.call("POST", f"/v1/leases/{lease}/undrain")).body == {"id": lease, "instances": []}
        assert api.view.root.count == 2


async def test_a_batch_keeps_what_is_drained(tmp_path: Path) -> None:
    """Also where the node has not heard of it yet."""
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 15})).body["id"]
        body = {**HOST, "lease": lease}
        puts = [
            {"put": {"service": "web.prod", "instance": name, **body, "port": 9}} for name in ("i1", "i2")
        ]
        for known in (True, False):
            await api.call("PUT", ONE, body)
            await api.call("POST", f"{ONE}/drain")
            if not known:
                api.drained.remove(b"/discovery/drained/skydns/internal/discovery/prod/web/i1", 1 << 60)
            done = await api.call("POST", "/v1/batch", {"operations": puts})
            assert [each["status"] for each in done.body["results"]] == [200, 201]
            got = await api.call("GET", ONE)
            assert (got.body["drained_at"], got.body["port"]) == (AT, 9)
            removal = [{"delete": {"service": "web.prod", "instance": name}} for name in ("i1", "i2")]
            gone = await api.call("POST", "/v1/batch", {"operations": removal})
            assert [each["status"] for each in gone.body["results"]] == [204, 204]

"""/v1/search, as the web page asks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.api import problem, running_api

BODY = {"host": "10.0.0.1", "port": 80, "tags": ["blue"]}


async def test_services_with_their_counts(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        empty = await api.call("GET", "/v1/search")
        assert empty.body == {
            "revision": api.view.revision,
            "services": [],
            "total": 0,
            "found": [],
            "matched": 0,
            "more": False,
            "registered": 0,
            "unreadable": 0,
        }
        for name in ("web.prod/i1", "web.prod/i2", "db.prod/i1", "@/top"):
            assert (await api.call("PUT", f"/v1/services/{name}", BODY)).status == 201
        await api.call("POST", "/v1/services/web.prod/i2/drain")
        await api.store.put(b"/skydns/internal/discovery/prod/web/i9", b"no JSON")
        await api.caught_up()
        answer = await api.call("GET", "/v1/search")
        assert answer.headers["X-Revision"] == str(api.view.revision)
        assert answer.body["services"] == [
            {
                "service": service,
                "name": f"{service}.discovery.internal.".removeprefix("@."),
                "instances": instances,
                "drained": drained,
                "unreadable": unreadable,
            }
            for service, instances, drained, unreadable in (
                ("@", 1, 0, 0),
                ("db.prod", 1, 0, 0),
                ("web.prod", 2, 1, 1),
            )
        ]
        assert (answer.body["total"], answer.body["registered"], answer.body["unreadable"]) == (3, 4, 1)
        page = (await api.call("GET", "/v1/search?offset=1&limit=1")).body
        assert ([each["service"] for each in page["services"]], page["total"]) == (["db.prod"], 3)
        assert (await api.call("GET", "/v1/search?offset=9")).body["services"] == []


async def test_instances_by_their_words(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for number in range(3):
            await api.call("PUT", f"/v1/services/web.prod/i{number}", {**BODY, "host": f"10.0.0.{number}"})
        await api.call("POST", "/v1/services/web.prod/i2/drain")
        found = (await api.call("GET", "/v1/search?q=Blue%20prod")).body
        assert found["services"] == []
        assert {each["instance"]: each["drained_at"] is not None for each in found["found"]} == {
            "i0": False,
            "i1": False,
            "i2": True,
        }
        less = (await api.call("GET", "/v1/search?q=blue&limit=2")).body
        assert (len(less["found"]), less["more"]) == (2, True)
        await api.call("DELETE", "/v1/services/web.prod/i0")
        again = (await api.call("GET", "/v1/search?q=10.0.0.0")).body
        assert again["found"] == []
        assert again["revision"] > found["revision"]


async def test_the_instances_of_one_service_bit_by_bit(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for number in range(5):
            await api.call("PUT", f"/v1/services/web.prod/i{number}", {**BODY, "host": f"10.0.0.{number}"})
        await api.call("PUT", "/v1/services/web.prod/lasting", {**BODY, "lease_ttl": 0})
        await api.call("PUT", "/v1/services/api.web.prod/i0", BODY)
        await api.call("POST", "/v1/services/web.prod/i2/drain")
        whole = (await api.call("GET", "/v1/search?service=web.prod")).body
        assert [each["instance"] for each in whole["found"]] == ["i0", "i1", "i2", "i3", "i4", "lasting"]
        assert (whole["matched"], whole["more"], whole["total"]) == (6, False, 1)
        assert whole["services"][0]["drained"] == 1
        assert "expires_at" not in whole["found"][0]
        part = (await api.call("GET", "/v1/search?service=web.prod&offset=2&limit=2&leases=true")).body
        assert [(each["instance"], each["drained_at"] is None) for each in part["found"]] == [
            ("i2", False),
            ("i3", True),
        ]
        assert (part["matched"], part["more"]) == (6, True)
        assert part["found"][0]["expires_at"] == "2023-11-14T22:13:50.250Z"
        last = (await api.call("GET", "/v1/search?service=web.prod&offset=5&leases=true")).body["found"]
        assert last[0]["expires_at"] is None
        some = (await api.call("GET", "/v1/search?service=web.prod&q=10.0.0.3")).body
        assert ([each["instance"] for each in some["found"]], some["matched"]) == (["i3"], 1)
        none = (await api.call("GET", "/v1/search?service=nothing")).body
        assert (none["services"], none["found"], none["matched"]) == ([], [], 0)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (f"q={'x' * 201}", "q"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("offset=-1", "offset"),
        ("s=x", "s"),
    ],
)
async def test_what_can_not_be_asked(tmp_path: Path, query: str, field: str) -> None:
    async with running_api(tmp_path) as api:
        problem(await api.call("GET", f"/v1/search?{query}"), 400, "invalid-field", field)

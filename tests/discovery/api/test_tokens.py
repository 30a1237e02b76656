"""/v1/tokens: made, listed, revoked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.discovery.api.test_access import call, secured
from tests.support.api import NOW, problem, running_api

ADMIN = {"name": "admin", "role": "operate"}


async def test_a_token_is_told_once(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        body = {"name": "web", "role": "register", "names": ["web.prod", "*"], "expires_in": 60}
        made = await call(api, "the-operator", "POST", "/v1/tokens", body)
        assert made.status == 201
        assert made.headers["Cache-Control"] == "no-store"
        token = made.body["token"]
        assert made.body == {
            "id": made.body["id"],
            "name": "web",
            "role": "register",
            "names": ["web.prod.discovery.internal.", "*.discovery.internal."],
            "expires_at": "2023-11-14T22:14:20.250Z",
            "token": token,
        }
        listed = await call(api, "the-operator", "GET", "/v1/tokens")
        assert token not in listed.text
        *configured, last = listed.body["tokens"]
        assert [each["id"] for each in configured] == [f"http.tokens[{number}]" for number in range(4)]
        assert {each["source"] for each in configured} == {"configuration"}
        assert last == {
            "id": made.body["id"],
            "name": "web",
            "role": "register",
            "names": ["web.prod.discovery.internal.", "*.discovery.internal."],
            "source": "store",
            "created_at": "2023-11-14T22:13:20.250Z",
            "expires_at": "2023-11-14T22:14:20.250Z",
        }
        assert (await call(api, "the-operator", "DELETE", f"/v1/tokens/{made.body['id']}")).status == 204
        again = await call(api, "the-operator", "DELETE", f"/v1/tokens/{made.body['id']}")
        problem(again, 404, "not-found")


async def test_a_token_ends_when_its_time_is_over(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        body = ADMIN | {"expires_in": 60}
        token = (await call(api, "the-operator", "POST", "/v1/tokens", body)).body["token"]
        api.parts.now = lambda: NOW + 59.9
        assert (await call(api, token, "GET", "/v1/tokens")).status == 200
        api.parts.now = lambda: NOW + 60
        detail = problem(await call(api, token, "GET", "/v1/tokens"), 401, "unauthorized")
        assert "has expired" in detail


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"role": "root"}, "role"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"names": ["web"]}, "names"),
        ({"role": "register"}, "names"),
        ({"role": "register", "names": ["*b"]}, "names"),
        ({"expires_in": -1}, "expires_in"),
        ({"expires_in": 10**10}, "expires_in"),
        ({"secret": "x"}, "secret"),
    ],
)
async def test_what_is_no_token_is_refused(tmp_path: Path, change: dict[str, object], field: str) -> None:
    async with running_api(tmp_path) as api:
        problem(await api.call("POST", "/v1/tokens", ADMIN | change), 400, "invalid-field", field)


async def test_the_first_and_the_last_are_operators(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        problem(await api.call("POST", "/v1/tokens", {"name": "r", "role": "read"}), 409, "conflict")
        admin = (await api.call("POST", "/v1/tokens", ADMIN)).body
        await call(api, admin["token"], "POST", "/v1/tokens", {"name": "r", "role": "read"})
        problem(await call(api, admin["token"], "DELETE", f"/v1/tokens/{admin['id']}"), 409, "conflict")

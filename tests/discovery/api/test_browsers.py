"""What a web page in somebody's browser can't do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from discovery.api.browsers import HEADERS, SERVER
from discovery.settings import HttpConfig
from tests.discovery.api.test_access import SECURED, bearer
from tests.support.api import CONFIG, problem, running_api

ONE = "/v1/services/web.prod/i1"
OPEN = msgspec.structs.replace(CONFIG, http=HttpConfig(open=True))


async def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for method, path in (
            ("GET", "/healthz"),
            ("GET", "/nowhere"),
            ("PATCH", ONE),
            ("GET", "/v1/zone"),
            ("GET", "/v2/keys/skydns/none"),
            ("GET", "/healthz?" + "x" * 9000),  # refused before there is a request
        ):
            answer = await api.call(method, path)
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
            assert answer.headers["Server"] == SERVER
            assert not [name for name in answer.headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_another_origin_changes_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    async with running_api(tmp_path) as api:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
            sent = headers | {"Content-Type": content_type}
            answer = await api.call("POST", "/v1/leases", {"ttl": 9}, headers=sent)
            assert "a web page of" in problem(answer, 403, "forbidden")
        answer = await api.call("PUT", "/v2/keys/skydns/a", content=b"value=a", headers=headers)
        assert (answer.status, answer.body["errorCode"]) == (403, 110)
        assert await api.leases() == 0
        assert (await api.call("GET", "/v1/services", headers=headers)).status == 200  # but unreadable there


async def test_pages_of_this_node_and_programs_do(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        own = f"http://{api.host}:{api.port}"
        for headers in (
            {"Origin": own, "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Content-Type": "application/x-www-form-urlencoded"},  # as curl -d
            {},
        ):
            assert (await api.call("POST", "/v1/leases", {"ttl": 9}, headers=headers)).status == 201


async def test_a_preflight_gets_no_leave(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
        problem(await api.call("OPTIONS", ONE, headers=asked), 405, "method-not-allowed")


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8053", True),
        ("[::1]:8053", True),
        ("[::1]", True),
        ("10.0.0.1", True),
        ("localhost:8053", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("node1:8053", True),
        ("evil.example", False),
        ("evil.example:8053", False),
        ("Evil.Example.", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
    ],
)
async def test_names_that_anybody_may_point_here(tmp_path: Path, host: str, taken: bool) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call("GET", "/v1/services", headers={"Host": host})
        if taken:
            assert answer.status == 200
        else:
            assert "discovery token make" in problem(answer, 421, "misdirected", "Host")
            old = await api.call("GET", "/v2/keys/skydns", headers={"Host": host})
            assert (old.status, old.body["errorCode"]) == (421, 209)


async def test_with_tokens_or_open_any_name_will_do(tmp_path: Path) -> None:
    name = {"Host": "registry.example"}
    async with running_api(tmp_path / "1", SECURED) as api:
        assert (await api.call("GET", "/v1/services", headers=name | bearer("the-reader"))).status == 200
    async with running_api(tmp_path / "2", OPEN) as api:
        assert (await api.call("GET", "/v1/services", headers=name)).status == 200

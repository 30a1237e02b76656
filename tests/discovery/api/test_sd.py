"""/v1/sd/prometheus: which instances are targets, where, and with which labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discovery.api.sd import AT_ONCE
from tests.support.api import Api, problem, running_api

ALL = "/v1/sd/prometheus"


async def register(api: Api, name: str, **body: Any) -> None:
    service, _, instance = name.partition("/")
    answer = await api.call("PUT", f"/v1/services/{service}/{instance}", {"host": "10.0.0.1", **body})
    assert answer.status == 201, answer.text


async def targets(api: Api, query: str = "") -> list[str]:
    answer = await api.call("GET", ALL + query)
    assert answer.status == 200, answer.text
    return [target for group in answer.body for target in group["targets"]]


async def test_an_instance_is_a_target_with_labels(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await register(
            api,
            "web.prod/i1",
            port=8080,
            ports={"metrics": 9100, "dns/udp": 53},
            tags=["blue", "eu"],
            meta={"version": "1.2", "git.sha": "abc", "git-sha": "def"},
        )
        answer = await api.call("GET", ALL)
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"  # http_sd wants it so
        assert answer.headers["X-Revision"]
        expected = {
            "service": "web.prod",
            "instance": "i1",
            "name": "i1.web.prod.discovery.internal.",
            "zone": "discovery.internal.",
            "host": "10.0.0.1",
            "port": "8080",
            "port_metrics": "9100",
            "port_dns_udp": "53",
            "tags": ",blue,eu,",
            "meta_version": "1.2",
            "meta_git_sha": "abc",  # the last in order of those that become one
        }
        labels = {f"__meta_discovery_{name}": text for name, text in expected.items()}
        assert answer.body == [{"targets": ["10.0.0.1:8080"], "labels": labels}]


async def test_where_a_target_is(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await register(api, "a/v6", host="2001:db8::1", port=80, ports={"metrics": 9100})
        await register(api, "b/name", host="host.example.", port=80)
        await register(api, "c/nowhere", port=0)
        await register(api, "d/text", host="", port=80, text="x")
        assert await targets(api) == ["[2001:db8::1]:80", "host.example:80"]
        assert await targets(api, "?port=metrics") == ["[2001:db8::1]:9100"]
        assert await targets(api, "?port=Metrics") == ["[2001:db8::1]:9100"]
        assert await targets(api, "?port=other") == []


async def test_which_are_asked_for(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await register(api, "web.prod/i1", port=1, tags=["blue"])
        await register(api, "web.prod/i2", port=2)
        await register(api, "api.web.prod/i1", port=3, tags=["blue"])
        await register(api, "db.other.test./i1", port=4)
        assert await targets(api) == [f"10.0.0.1:{port}" for port in (3, 1, 2, 4)]
        assert await targets(api, "?service=web.prod") == ["10.0.0.1:1", "10.0.0.1:2"]
        assert await targets(api, "?service=web.prod&subtree") == [f"10.0.0.1:{port}" for port in (3, 1, 2)]
        assert await targets(api, "?service=db.other.test.") == ["10.0.0.1:4"]
        assert await targets(api, "?tag=blue") == ["10.0.0.1:3", "10.0.0.1:1"]
        assert await targets(api, "?tag=BLUE&service=web.prod") == ["10.0.0.1:1"]
        assert await targets(api, "?service=none") == []


async def test_very_many_are_told_some_at_a_time(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        number = 2 * AT_ONCE + 1
        wanted = [f"10.0.{each >> 8}.{each & 255}:80" for each in range(number)]
        puts = [
            {
                "put": {
                    "service": "web",
                    "instance": f"i{each:04}",
                    "host": wanted[each][:-3],
                    "port": 80,
                    "tags": ["last"] if each == number - 1 else [],
                    "lease_ttl": 0,
                }
            }
            for each in range(number)
        ]
        assert (await api.call("POST", "/v1/batch", {"operations": puts})).status == 200
        assert await targets(api) == wanted
        assert await targets(api, "?tag=last") == wanted[-1:]
        head = await api.call("HEAD", ALL)
        assert (head.status, head.text) == (200, "")


async def test_a_drained_instance_is_none_until_it_is_back(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await register(api, "web/i1", port=1)
        assert (await api.call("POST", "/v1/services/web/i1/drain")).status == 200
        assert await targets(api) == []
        assert (await api.call("POST", "/v1/services/web/i1/undrain")).status == 200
        assert await targets(api) == ["10.0.0.1:1"]


async def test_what_is_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for query, field in (
            ("tag=a.b", "tag"),
            ("port=", "port"),
            ("service=a..b", "service"),
            ("subtree=x", "subtree"),
            ("tags=a", "tags"),
        ):
            problem(await api.call("GET", f"{ALL}?{query}"), 400, "invalid-field", field)


async def test_before_the_view_is_loaded_nobody_is_told_that_there_are_none(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        problem(await api.call("GET", ALL), 503, "not-ready")

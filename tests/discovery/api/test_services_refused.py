"""What /v1/services refuses (http-api.md, "Instances"): the field, the body, the URL or the parameter at fault is
named, and nothing is stored. Beside it the greatest values, which pass."""

from __future__ import annotations

from pathlib import Path

from discovery.settings import Config, LeasesConfig
from tests.support.api import CONFIG, problem, running_api

ONE = "/v1/services/web.prod/i1"
KEY = b"/skydns/internal/discovery/prod/web/i1"
HOST = {"host": "10.0.0.1", "port": 8080}


WRONG_FIELDS: list[tuple[dict[str, object], str]] = [
    ({"prot": 1}, "prot"),
    ({"Port": 1}, "Port"),
    ({"port": "x"}, "port"),
    ({"port": 65536}, "port"),
    ({"port": -1}, "port"),
    ({"port": 1.5}, "port"),
    ({"port": True}, "port"),
    ({"port": None}, "port"),
    ({"priority": 65536}, "priority"),
    ({"weight": 65536}, "weight"),
    ({"ttl": 2147483648}, "ttl"),
    ({"targetstrip": 1 << 40}, "targetstrip"),
    ({"mail": 1}, "mail"),
    ({"host": "not a host"}, "host"),
    ({"host": "1.2.3"}, "host"),
    ({"host": "fe80::1%eth0"}, "host"),
    ({"text": "ä" * 30_001}, "text"),
    ({"group": "a.b"}, "group"),
    ({"ports": {"a": 65536}}, "ports"),
    ({"ports": {"a/sctp": 1}}, "ports"),
    ({"ports": {"-": 1}}, "ports"),
    ({"ports": {"a": 1, "A/tcp": 2}}, "ports"),
    ({"tags": "a"}, "tags"),
    ({"tags": ["any"]}, "tags"),
    ({"tags": ["a.b"]}, "tags"),
    ({"meta": {"a": 1}}, "meta"),
    ({"meta": {"": "x"}}, "meta"),
    ({"meta": {"a=b": "x"}}, "meta"),
    ({"meta": {"a": "x" * 254}}, "meta"),
    ({"meta": {f"k{number:04}": "x" * 249 for number in range(300)}}, "meta"),
    ({"lease_ttl": -1}, "lease_ttl"),
    ({"lease_ttl": 4}, "lease_ttl"),
    ({"lease_ttl": 101}, "lease_ttl"),
    ({"lease": ""}, "lease"),
    ({"lease": "8000000000000000"}, "lease"),
]


async def test_a_wrong_field_is_named_and_nothing_is_stored(tmp_path: Path) -> None:
    config = Config(zones=CONFIG.zones, leases=LeasesConfig(min_ttl=5, max_ttl=100))
    async with running_api(tmp_path, config) as api:
        for body, field in WRONG_FIELDS:
            problem(await api.call("PUT", ONE, {**HOST, **body}), 400, "invalid-field", field)
            assert await api.kv(KEY) is None, body


async def test_a_wrong_member_is_named(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for body, detail in (
            ({"ports": {"a": 1, "http": 70000}}, "ports.http: 70000 is not in 0..65535"),
            ({"ports": {"http": -1}}, "ports.http: -1 is not in 0..65535"),
            ({"ports": {"a": 1, "http": "80"}}, "ports.http: expected int, got str"),
            ({"ports": {"a": 1, "http": 1 << 70}}, f"ports.http: {1 << 70} is not in 0..65535"),
            ({"meta": {"a": "b", "k": 1}}, "meta.k: expected str, got int"),
        ):
            field = next(iter(body))
            answer = await api.call("PUT", ONE, {**HOST, **body})
            assert problem(answer, 400, "invalid-field", field) == detail


async def test_what_is_acknowledged_can_be_read(tmp_path: Path) -> None:
    """As much meta as one TXT record holds, to the byte."""
    meta = {f"k{number:04}": "x" * 249 for number in range(255)}  # 256 bytes each, its length byte included
    async with running_api(tmp_path) as api:
        answer = await api.call("PUT", ONE, {**HOST, "meta": {**meta, "k": "x" * 252}})
        assert answer.status == 201
        assert (await api.call("GET", ONE)).status == 200
        answer = await api.call("PUT", ONE, {**HOST, "meta": {**meta, "k": "x" * 253}})
        assert "65536 bytes" in problem(answer, 400, "invalid-field", "meta")


async def test_the_greatest_values_pass(tmp_path: Path) -> None:
    body = {
        "host": "::1",
        "port": 65535,
        "priority": 65535,
        "weight": 65535,
        "text": "ä" * 30_000,
        "ttl": 2147483647,
        "ports": {"a/udp": 0},
        "tags": ["a" * 63],
        "meta": {"a": "x" * 253},
        "lease_ttl": 86400,
    }
    async with running_api(tmp_path) as api:
        answer = await api.call("PUT", ONE, body)
        assert answer.status == 201
        assert answer.body.items() >= body.items()
        assert (await api.call("GET", ONE)).body == answer.body


async def test_a_body_that_is_no_json_object(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for content in (b"{", b"[]", b"\xff", b'{"text":"\\ud800"}', b"{} x", b'{"port":NaN}', b"null"):
            problem(await api.call("PUT", ONE, content=content), 400, "invalid-field")


WRONG_URLS: list[tuple[str, str | None]] = [
    ("/v1/services/web..prod/i1", "service"),
    ("/v1/services/web%2Fprod/i1", "service"),
    ("/v1/services/web.prod/i1%2Fx", "instance"),
    ("/v1/services/web.prod%2Fi1", None),
    ("/v1/services/web.prod/a.b", "instance"),
    ("/v1/services/*/i1", "service"),
    ("/v1/services/any.prod/i1", "service"),
    ("/v1/services/web.tag.prod/i1", "service"),
    ("/v1/services/web.prod/any", "instance"),
    ("/v1/services/-web/i1", "service"),
    ("/v1/services/web%00/i1", "service"),
    ("/v1/services/web%C3%A4/i1", "service"),
    ("/v1/services/web%FF/i1", "service"),
    ("/v1/services/web%252F/i1", "service"),
    ("/v1/services/web.example.com./i1", "service"),
    ("/v1/services/" + "a" * 64 + "/i1", "service"),
    ("/v1/services/" + ".".join(["a" * 60] * 4) + "/i1", "service"),
    ("/v1/services/" + ".".join(["a" * 56] * 4) + "/" + "i" * 9, "instance"),
    ("/v1/services/web.prod/i1?lease_tl=1", "lease_tl"),
]


async def test_a_url_that_names_no_instance(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for url, field in WRONG_URLS:
            answer = await api.call("PUT", url, HOST)
            if field is None:  # one segment: that route lists, and takes no PUT
                problem(answer, 405, "method-not-allowed")
            else:
                problem(answer, 400, "invalid-field", field)
        assert (await api.store.range(b"/", b"0")).kvs == []


async def test_parameters_are_checked(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        listing = "/v1/services/web.prod"
        problem(await api.call("GET", f"{listing}?subtre=true"), 400, "invalid-field", "subtre")
        problem(await api.call("GET", f"{listing}?subtree=yes"), 400, "invalid-field", "subtree")
        problem(await api.call("GET", f"{listing}?subtree&subtree"), 400, "invalid-field", "subtree")
        assert (await api.call("GET", f"{listing}?subtree&leases=0")).status == 200

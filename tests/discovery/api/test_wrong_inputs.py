"""Wrong inputs and the answer of each: types, sizes, encodings, names, methods, JSON bombs. Nothing is a 500, nothing
is logged as a fault, and every answer is a problem document (for /v2/keys: etcd 2's)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from discovery.api.roles import ROLES
from tests.support.api import Answer, problem, running_api

ONE, V2 = "/v1/services/web.prod/i1", "/v2/keys/skydns/internal/discovery/a"
JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 100_000
INVALID = (400, "invalid-field")

# (method, path, body, status, code, field)
TABLE: list[tuple[str, str, bytes | None, int, str, str | None]] = [
    # not JSON
    ("PUT", ONE, b"{", *INVALID, None),
    ("PUT", ONE, b"nonsense", *INVALID, None),
    ("PUT", ONE, b"\xff\xfe{\x00}\x00", *INVALID, None),
    ("PUT", ONE, b'{"text": "\xff"}', *INVALID, None),
    ("PUT", ONE, b'{"text": "\\ud800"}', *INVALID, None),
    ("PUT", ONE, b"{} {}", *INVALID, None),
    ("PUT", ONE, b"NaN", *INVALID, None),
    # bombs
    ("PUT", ONE, DEEP, *INVALID, None),
    ("PUT", ONE, b'{"meta":' * 50_000, *INVALID, "meta"),
    ("POST", "/v1/batch", b'{"operations":' + DEEP, *INVALID, None),
    ("POST", "/v1/heartbeats", b'{"leases":' + DEEP, *INVALID, "leases"),
    ("PUT", ONE, b'{"port": ' + b"9" * 100_000 + b"}", *INVALID, "port"),
    ("PUT", ONE, b'{"port": 1e400}', *INVALID, "port"),
    # types
    ("PUT", ONE, b"[]", *INVALID, None),
    ("PUT", ONE, b"null", *INVALID, None),
    ("PUT", ONE, b"7", *INVALID, None),
    ("PUT", ONE, b'{"port": "80"}', *INVALID, "port"),
    ("PUT", ONE, b'{"port": 80.5}', *INVALID, "port"),
    ("PUT", ONE, b'{"port": -1}', *INVALID, "port"),
    ("PUT", ONE, b'{"port": 65536}', *INVALID, "port"),
    ("PUT", ONE, b'{"port": null}', *INVALID, "port"),
    ("PUT", ONE, b'{"host": 1}', *INVALID, "host"),
    ("PUT", ONE, b'{"mail": "yes"}', *INVALID, "mail"),
    ("PUT", ONE, b'{"tags": "a"}', *INVALID, "tags"),
    ("PUT", ONE, b'{"tags": [1]}', *INVALID, "tags"),
    ("PUT", ONE, b'{"meta": []}', *INVALID, "meta"),
    ("PUT", ONE, b'{"prot": 80}', *INVALID, "prot"),
    ("PUT", ONE, b'{"lease": "xyz", "host": ""}', *INVALID, "lease"),
    ("PUT", ONE, b'{"lease_ttl": 99999999, "host": ""}', *INVALID, "lease_ttl"),
    ("POST", "/v1/leases", b"{}", *INVALID, "ttl"),
    ("POST", "/v1/leases", b'{"ttl": true}', *INVALID, "ttl"),
    ("POST", "/v1/leases", b'{"ttl": 0}', *INVALID, "ttl"),
    ("POST", "/v1/heartbeats", b'{"leases": []}', *INVALID, "leases"),
    ("POST", "/v1/heartbeats", b'{"leases": {}}', *INVALID, "leases"),
    ("POST", "/v1/batch", b'{"operations": 1}', *INVALID, "operations"),
    ("POST", "/v1/tokens", b'{"name": 1, "role": "read"}', *INVALID, "name"),
    ("POST", "/v1/store/compact", b'{"revision": -1}', *INVALID, "revision"),
    ("POST", "/v1/store/compact", b'{"revision": "x"}', *INVALID, "revision"),
    # sizes
    ("PUT", ONE, b" " * (1 << 20) + b"{}", 413, "too-large", None),
    ("PUT", ONE, b'{"host": "", "text": "' + b"x" * 60_001 + b'"}', *INVALID, "text"),
    ("POST", "/v1/leases", b" " * (1 << 20) + b"{}", 413, "too-large", None),
    # names
    ("GET", "/v1/services/-a", None, *INVALID, "service"),
    ("GET", "/v1/services/a..b", None, *INVALID, "service"),
    ("GET", "/v1/services/any", None, *INVALID, "service"),
    ("GET", "/v1/services/%00", None, *INVALID, "service"),
    ("GET", "/v1/services/%FF", None, *INVALID, "service"),
    ("GET", "/v1/services/%C3%BC", None, *INVALID, "service"),
    ("GET", "/v1/services/web.example.org.", None, *INVALID, "service"),
    ("GET", f"/v1/services/{'a' * 64}", None, *INVALID, "service"),
    ("GET", "/v1/services/web/a.b", None, *INVALID, "instance"),
    ("GET", "/v1/leases/xyz", None, *INVALID, "lease"),
    ("GET", f"/v1/leases/{'f' * 17}", None, *INVALID, "lease"),
    ("GET", "/v1/lookup?name=..", None, *INVALID, "name"),
    ("GET", "/v1/lookup?name=a&type=NONE", None, *INVALID, "type"),
    ("GET", "/v1/zone?zone=other.example", None, 404, "not-found", "zone"),
    # queries
    ("GET", "/v1/services?limit=x", None, *INVALID, "limit"),
    ("GET", "/v1/services?limit=0", None, *INVALID, "limit"),
    ("GET", "/v1/services?limit=1&limit=2", None, *INVALID, "limit"),
    ("GET", "/v1/services?lmit=1", None, *INVALID, "lmit"),
    ("GET", "/v1/watch?since=x", None, *INVALID, "since"),
    ("GET", "/healthz?x", None, *INVALID, "x"),
    # methods and paths
    ("PATCH", ONE, b"{}", 405, "method-not-allowed", None),
    ("PROPFIND", "/healthz", None, 405, "method-not-allowed", None),
    ("DELETE", "/v1/batch", None, 405, "method-not-allowed", None),
    ("GET", "/v1/services/a/b/c/d", None, 404, "not-found", None),
    ("GET", "/..%2f..%2fetc/passwd", None, 404, "not-found", None),
]

# (method, path, body, status, errorCode)
OLD: list[tuple[str, str, bytes | None, int, int]] = [
    ("PUT", V2, b"value=%FF", 400, 210),
    ("PUT", V2, b"value=\xff", 400, 210),
    ("PUT", V2, b"valeu=1", 400, 209),
    ("PUT", f"{V2}?ttl=x", b"value=1", 400, 202),
    ("PUT", f"{V2}?prevIndex=x", b"value=1", 400, 203),
    ("PUT", f"{V2}?prevExist=x", b"value=1", 400, 209),
    ("PUT", V2, b"value=" + b"x" * ((1 << 20) + 1), 413, 209),
    ("PUT", V2, b"value=" + b"x" * (4 << 20), 413, 209),
    ("PUT", V2, b"&".join([b"value=1"] * 100), 400, 210),
    ("GET", "/v2/keys/skydns/%FF", None, 400, 209),
    ("GET", "/v2/keys/discovery/tokens/x", None, 403, 107),
    ("GET", "/v2/keys/skydns/../discovery/tokens", None, 403, 107),
    ("GET", f"{V2}/none", None, 404, 100),
    ("DELETE", f"{V2}/none", None, 404, 100),
]


@pytest.mark.slow
async def test_the_answer_of_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrong = []
    async with running_api(tmp_path) as api:
        for method, path, body, status, code, field in TABLE:
            answer = await api.call(method, path, content=body, headers=JSON if body else None)
            try:
                problem(answer, status, code, field)
            except (AssertionError, KeyError) as error:
                wrong.append(f"{method} {path[:60]} {(body or b'')[:40]!r}: {_short(answer)} {error!r:.60}")
        for method, path, body, status, number in OLD:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else None
            answer = await api.call(method, path, content=body, headers=headers)
            if (answer.status, answer.body.get("errorCode")) != (status, number):
                wrong.append(f"{method} {path[:60]} {(body or b'')[:40]!r}: {_short(answer)}")
        assert (await api.call("GET", "/v1/services")).body["services"] == []  # nothing of it was stored
    assert not wrong, "\n" + "\n".join(wrong)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_every_route_refuses_nonsense_as_a_problem(tmp_path: Path) -> None:
    """A parameter that no route knows, on every route."""
    async with running_api(tmp_path) as api:
        for method, template in ROLES:
            names = {
                "service": "web",
                "instance": "i1",
                "lease": "1",
                "member": "1",
                "token": "x",
                "file": "x",
            }
            path = template.format(**names, key="/skydns/a") + "?nonsense=1"
            answer = await api.call(method, path)
            if template.startswith("/v2/"):
                assert (answer.status, answer.body["errorCode"]) == (400, 209)
            else:
                problem(answer, 400, "invalid-field", "nonsense")


def _short(answer: Answer) -> str:
    return f"{answer.status} {answer.text[:150]}"

"""Every error is a problem document (RFC 9457)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from discovery.api.bodies import MAX_BODY
from discovery.api.problems import problem_of
from discovery.errors import NotReady, TooLarge
from discovery.kv.contract import NoSpace, Unavailable
from tests.support.api import problem, running_api


async def test_unknown_paths_and_wrong_methods(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for path in ("/v1/nothing", "/nothing", "/v1/services/", "/v1/services/a/b/c", "/v2/other"):
            detail = problem(await api.call("GET", path), 404, "not-found")
            assert detail == (
                f"nothing is served at {path}: there are /, /docs, /healthz, /metrics, /openapi.json, /page, /readyz, "
                "/v1/batch, /v1/busiest, /v1/cluster, /v1/config, /v1/heartbeats, /v1/history, /v1/leases, /v1/lookup, "
                "/v1/sd, /v1/search, /v1/services, /v1/store, /v1/tokens, /v1/watch, /v1/zone, /v2/keys"
            )
        answer = await api.call("POST", "/v1/services/web.prod/i1")
        assert "DELETE,GET,HEAD,PUT" in problem(answer, 405, "method-not-allowed")
        assert answer.headers["Allow"] == "DELETE,GET,HEAD,PUT"
        problem(await api.call("TRACE", "/v1/services"), 405, "method-not-allowed")
        assert ("other", 405) in api.metrics.http_requests


async def test_a_body_over_the_limit(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        one = "/v1/services/web.prod/i1"
        padded = b'{"host": "10.0.0.1"}'.ljust(MAX_BODY)
        assert (await api.call("PUT", one, content=padded)).status == 201
        problem(await api.call("PUT", one, content=padded + b" "), 413, "too-large")


async def test_a_body_over_the_limit_that_does_not_say_so(tmp_path: Path) -> None:
    async def endless() -> object:
        for _ in range(MAX_BODY // 65536 + 1):
            yield b" " * 65536

    async with running_api(tmp_path) as api:
        url = f"http://{api.host}:{api.port}/v1/services/web.prod/i1"
        async with api.session.put(url, data=endless()) as response:
            assert response.status == 413
            assert (await response.json(content_type=None))["type"] == "/problems/too-large"


async def test_what_nobody_expected_is_logged_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_api(tmp_path) as api:
        del api.view.root  # a fault as good as any
        with caplog.at_level(logging.ERROR):
            answer = await api.call("GET", "/v1/services/web.prod")
        assert "root" not in problem(answer, 500, "internal")
        assert any(record.exc_info for record in caplog.records)
        assert "AttributeError" in caplog.text


def test_each_error_has_its_code_and_status() -> None:
    for error, status, code in (
        (NoSpace("full"), 503, "no-space"),
        (Unavailable("away"), 503, "store-unavailable"),
        (NotReady("soon"), 503, "not-ready"),
        (TooLarge("big"), 413, "too-large"),
    ):
        found = problem_of(error)
        assert (found.status, found.type, found.detail) == (status, f"/problems/{code}", error.detail)

"""/openapi.json and /docs, as a program and a browser get them."""

from __future__ import annotations

from pathlib import Path

from discovery import __version__
from discovery.api.docs_page import POLICY
from discovery.api.openapi import document
from tests.discovery.api.test_access import secured
from tests.support.api import problem, running_api


async def test_the_document_is_served_before_anything_is_loaded(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        answer = await api.call("GET", "/openapi.json")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.body == document(__version__)
        problem(await api.call("GET", "/openapi.json?x=1"), 400, "invalid-field", "x")


async def test_the_page_is_served_with_a_policy_that_lets_nothing_be_loaded(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call("GET", "/docs")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert POLICY.startswith("default-src 'none'; style-src 'sha256-")
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.text.startswith("<!doctype html>")


async def test_neither_needs_a_token(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        for path in ("/openapi.json", "/docs"):
            assert (await api.call("GET", path)).status == 200
            assert (await api.call("HEAD", path)).status == 200

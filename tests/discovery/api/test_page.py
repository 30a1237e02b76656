"""The web page's files, as a browser gets them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from discovery.api.page import POLICY, TYPES, assets, names
from tests.discovery.api.test_access import secured
from tests.support.api import problem, running_api


async def test_the_page_is_there_without_a_token_and_before_anything_is_loaded(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        answer = await api.call("GET", "/")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.text.startswith("<!doctype html>")
    async with secured(tmp_path) as api:
        for path in ("/", *(f"/page/{name}" for name in names())):
            assert (await api.call("GET", path)).status == 200
            assert (await api.call("HEAD", path)).status == 200


async def test_every_file_has_its_type_and_is_asked_for_anew_only_when_it_changed(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for name in names():
            answer = await api.call("GET", f"/page/{name}")
            wanted = TYPES[name.rpartition(".")[2]]
            assert answer.headers["Content-Type"] == f"{wanted}; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-cache"
            etag = answer.headers["ETag"]
            for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
                again = await api.call("GET", f"/page/{name}", headers={"If-None-Match": known})
                assert (again.status, again.text, again.headers["ETag"]) == (304, "", etag)
            changed = await api.call("GET", f"/page/{name}", headers={"If-None-Match": '"other"'})
            assert (changed.status, changed.text) == (200, answer.text)


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2Fpy.typed", "%00"])
async def test_there_are_no_other_files(tmp_path: Path, name: str) -> None:
    async with running_api(tmp_path) as api:
        problem(await api.call("GET", f"/page/{name}"), 404, "not-found")


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """The policy would keep it from loading; here it is seen before a browser is asked."""
    found = assets()
    namespace = "http://www.w3.org/2000/svg"
    for name, asset in found.items():
        text = asset.body.decode().replace(namespace, "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), name
        for wanted in re.findall(r"""["'(](?:/page/|\./)([\w.-]+\.\w+)["')]""", text):
            assert wanted in found, f"{name} asks for {wanted}"
    page = found["index.html"].body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", page), "the policy allows nothing inline"

"""The page that shows the API's description."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from discovery.api.docs_page import POLICY, page
from discovery.api.openapi import document

DOCUMENT = document("1.2.3")
HTML = page(DOCUMENT)
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Fails where elements are not closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader.seen


def test_it_is_whole_and_its_links_lead_somewhere() -> None:
    seen = read(HTML)
    ids = [attributes["id"] for _, attributes in seen if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = {str(attributes["href"]) for tag, attributes in seen if tag == "a"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {link for link in links if not link.startswith("#")} == {"/openapi.json"}


def test_every_operation_and_every_schema_stands_in_it() -> None:
    ids = {attributes.get("id") for _, attributes in read(HTML)}
    for methods in DOCUMENT["paths"].values():
        assert {operation["operationId"] for operation in methods.values()} <= ids
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= ids


def test_nothing_in_it_runs_or_is_loaded_and_its_style_is_the_one_allowed() -> None:
    for tag, attributes in read(HTML):
        assert tag not in ("script", "img", "link", "iframe", "form", "object")
        assert not [name for name in attributes if name in ("style", "src") or name.startswith("on")]
    (style,) = re.findall(r"<style>(.*?)</style>", HTML, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "color-scheme: light dark" in style


def test_it_is_worked_by_the_keyboard() -> None:
    tags = [tag for tag, _ in read(HTML)]
    operations = sum(len(methods) for methods in DOCUMENT["paths"].values())
    assert tags.count("details") == tags.count("summary") == operations
    assert ":focus-visible" in HTML


def test_what_the_document_says_is_escaped() -> None:
    evil = document('<script>alert("1")</script>')
    evil["paths"]["/healthz"]["get"]["summary"] = "`<b>` & <i onclick=x>"
    html = page(evil)
    read(html)
    assert "<script" not in html
    assert "<code>&lt;b&gt;</code> &amp; &lt;i onclick=x&gt;" in html

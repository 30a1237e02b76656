"""Log lines as people and programs read them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from discovery import logs
from discovery.settings import LogConfig

log = logging.getLogger("discovery.node")
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, queries = list(root.handlers), root.level, logs.QUERIES.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logs.QUERIES.setLevel(queries)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_text(stream: io.StringIO) -> None:
    logs.setup(LogConfig(), stream)
    log.info("ready after %d s", 2, extra={"revision": 7, "reason": "two words", "empty": ""})
    line = rf'{STAMP} INFO discovery\.node: ready after 2 s revision=7 reason="two words" empty=""\n'
    assert re.fullmatch(line, stream.getvalue())


def test_text_cannot_be_forged_by_what_comes_from_the_network(stream: io.StringIO) -> None:
    logs.setup(LogConfig(), stream)
    log.warning("unreadable %s", "a\nb\x1b[2J\x9b\u2028", extra={"key": "x\r\ny"})
    assert len(stream.getvalue().splitlines()) == 1
    assert r'unreadable a\nb\x1b[2J\x9b\u2028 key="x\r\ny"' in stream.getvalue()


def test_json(stream: io.StringIO) -> None:
    logs.setup(LogConfig(format="json"), stream)
    log.error("lost\n%s", "it", extra={"revision": 7, "path": {1}})
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert re.fullmatch(STAMP, record.pop("time"))
    assert record == {
        "level": "error",
        "logger": "discovery.node",
        "message": "lost\nit",
        "revision": 7,
        "path": "{1}",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_tracebacks(stream: io.StringIO, form: str) -> None:
    logs.setup(LogConfig(format="json" if form == "json" else "text"), stream)
    try:
        raise RuntimeError("gone\nwrong")
    except RuntimeError:
        log.exception("failed")
    first, *rest = stream.getvalue().splitlines()
    if form == "json":
        assert rest == []
        assert "RuntimeError: gone\nwrong" in json.loads(first)["traceback"]
    else:
        assert rest[0] == "    Traceback (most recent call last):"
        assert all(line.startswith("    ") for line in rest)


def test_level(stream: io.StringIO) -> None:
    logs.setup(LogConfig(level="warning"), stream)
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


@pytest.mark.parametrize("level", ["debug", "error"])
def test_query_lines_follow_their_own_switch(stream: io.StringIO, level: str) -> None:
    settings = LogConfig(level="debug" if level == "debug" else "error")
    logs.setup(settings, stream)
    assert not logs.QUERIES.isEnabledFor(logging.INFO)
    logs.setup(LogConfig(level=settings.level, queries=True), stream)
    logs.QUERIES.info("query")
    assert stream.getvalue().count("query") == 1


def test_a_second_setup_replaces_the_first_and_nothing_else(stream: io.StringIO) -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    logs.setup(LogConfig(), io.StringIO())
    logs.setup(LogConfig(format="json"), stream)
    log.info("once")
    assert json.loads(stream.getvalue())["message"] == "once"
    assert other in logging.getLogger().handlers

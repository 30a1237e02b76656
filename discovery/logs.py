"""Log lines: one line a record on standard error, as text for people or JSON for programs.

Owns the set-up of the standard library's root logger, and the logger of questions. It never decides what is logged.
`setup` may be called again while the node runs, so level, format and query lines can change on reload.
Fields given as `extra={...}` become `key=value` in text and members in JSON. Control characters are escaped in
text: names come from the network and must not be able to forge a line or steer a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from discovery.settings import LogConfig

# Enabled for INFO exactly when `log.queries` is on; `discovery.dns.query_log` writes to it.
QUERIES = logging.getLogger("discovery.queries")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[^\s\"=]+\Z")


class _Handler(logging.StreamHandler[TextIO]):
    """The one handler of ours on the root logger, so that a second `setup` replaces it and no one else's."""


def setup(settings: LogConfig, stream: TextIO | None = None) -> None:
    """Make the root logger write as `settings` say to `stream` (None: standard error), instead of an earlier set-up."""
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_Json() if settings.format == "json" else _Text())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    # A level of its own, so that query lines follow their own switch and not `level`.
    QUERIES.setLevel(logging.INFO if settings.queries else logging.CRITICAL + 1)


class _Text(logging.Formatter):
    """`2026-01-01T00:00:00.000Z INFO discovery.node: ready revision=7`; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        for key, value in _fields(record).items():
            text = str(value)
            line += f" {key}={text if _PLAIN.match(text) else json.dumps(text, ensure_ascii=False)}"
        trace = _traceback(self, record)
        return "\n".join([_escape(line), *(f"    {_escape(row)}" for row in trace.splitlines())])


class _Json(logging.Formatter):
    """`time`, `level`, `logger`, `message`, the record's fields, and `traceback` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = _fields(record) | {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := _traceback(self, record):
            line["traceback"] = trace
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

"""Addresses of an etcd cluster's members, as URLs.

Owns what such a URL may look like. Pure, and free of grpc, so that a configuration can be checked without it.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

DEFAULT_PORT = 2379


def check_urls(urls: Sequence[str]) -> None:
    """Raises ValueError, whose text says what was expected: whole URLs, all http or all https."""
    for url in urls:
        if not is_whole(url):
            raise ValueError(f"expected URLs such as http://10.0.0.1:2379; got {url!r}")
    if len({url.partition("://")[0] for url in urls}) > 1:
        raise ValueError("some are https and some http; write all of them in one form")


def is_whole(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and parts.path in ("", "/")
            and not (parts.query or parts.fragment or parts.username)
        )
    except ValueError:  # a port that is no number, or a bracket left open
        return False


def is_local(url: str) -> bool:
    """Whether it names another program here than elsewhere: a loopback address, or none."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return host in ("localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")  # noqa: S104  # not bound


def address_of(url: str) -> str:
    """HOST:PORT; etcd's port where none is written."""
    parts = urllib.parse.urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or DEFAULT_PORT}"

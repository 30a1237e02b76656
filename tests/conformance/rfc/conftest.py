"""One server for every file of RFCs, with services of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.certificates import certificate
from tests.support.live import LiveServer

STORED: dict[str, object] = {
    "1.web": {"host": "10.0.0.1", "port": 80, "ttl": 300, "text": "a text", "meta": {"k": "v"}},
    "2.web": {"host": "10.0.0.2", "port": 81, "priority": 20, "ttl": 60},
    "3.web": {"host": "2001:db8::3", "port": 82},
    "below.only.here": {"host": "10.0.0.9"},
    "www": {"host": "web.d.test"},
    "ext": {"host": "www.example.com"},
    "mx1.mail": {"host": "10.0.0.25", "mail": True},
    "/skydns/arpa/in-addr/10/0/0/1": {"host": "one.d.test"},
    **{f"{number}.big": {"host": f"10.1.{number >> 8}.{number & 255}", "port": 1} for number in range(200)},
    "long.txt": {"text": "x" * 2000},
}


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(STORED, certificate(tmp_path_factory.mktemp("tls"))) as server:
        yield server

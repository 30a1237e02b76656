"""The HTTP API on a real socket, over a real embedded store, with the feed and the view between: all but DNS."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from discovery import names
from discovery.api.admission import Admission
from discovery.api.app import IDLE_SECONDS, make_app, make_runner
from discovery.api.parts import ApiParts
from discovery.dns.clients import is_loopback
from discovery.dns_settings import dns_settings
from discovery.drained import DrainedInstances
from discovery.feed import Feed
from discovery.kv.contract import KV
from discovery.kv.embedded import EmbeddedStore
from discovery.metrics import Metrics
from discovery.nodes import NodeRecord
from discovery.registry import Registry
from discovery.settings import Config, ZoneConfig
from discovery.token_store import Tokens
from discovery.tokens import configured
from discovery.view import View
from tests.support.clock import FakeClock

NOW = 1_700_000_000.25  # 2023-11-14T22:13:20.250Z
CONFIG = Config(
    zones=(
        ZoneConfig(name="discovery.internal."),
        ZoneConfig(name="other.test.", ttl=7, priority=1, weight=2),
    )
)


class Answer(msgspec.Struct):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:  # Any: JSON
        return json.loads(self.text)


class Parts:
    """Everything behind the API, started by hand; `clock` is the store's and the feed's."""

    def __init__(
        self, path: Path, config: Config = CONFIG, store_type: type[EmbeddedStore] = EmbeddedStore
    ) -> None:
        self.config = config
        self.clock = FakeClock()
        self.metrics = Metrics()
        prefix = config.store.prefix
        self.store = store_type(path, clock=self.clock)
        self.view = View(
            prefix,
            apexes=[names.from_text(zone.name) for zone in config.zones],
            grace_of=lambda path: 60.0,
        )
        self.feed = Feed(
            self.store,
            self.view,
            self.metrics,
            prefix=prefix,
            stale_after=config.stale_after,
            clock=self.clock,
        )
        self.drained = DrainedInstances(self.store, prefix=prefix)
        self.registry = Registry(
            self.store,
            self.view,
            self.feed,
            self.metrics,
            self.drained,
            prefix=prefix,
            limits=config.leases,
            wall=lambda: NOW,
        )

    async def kv(self, key: bytes) -> KV | None:
        found = (await self.store.range(key)).kvs
        return found[0] if found else None

    async def leases(self) -> int:
        return (await self.store.status()).leases

    async def expire(self, seconds: float) -> None:
        """Time passes; leases whose time is over are gone from the store and from the view."""
        self.clock.advance(seconds)
        await self.store.expire_due()
        await self.caught_up()

    async def caught_up(self) -> None:
        """Waits until the view holds all of the store below the prefix."""
        await self.store.put(f"{self.config.store.prefix}/test/mark".encode(), b"{}")
        revision, _ = await self.store.delete(f"{self.config.store.prefix}/test/mark".encode())
        assert await self.feed.wait(revision, 5)


def problem(answer: Answer, status: int, code: str, field: str | None = None) -> str:
    """Checks the whole shape of a problem document; its detail."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.body
    assert (answer.status, body["status"], body["type"], body.get("field")) == (
        status,
        status,
        f"/problems/{code}",
        field,
    ), body
    assert set(body) <= {"type", "title", "status", "detail", "field"}
    assert body["title"]
    assert isinstance(body["detail"], str)
    return str(body["detail"])


@asynccontextmanager
async def running_parts(
    path: Path, config: Config = CONFIG, store_type: type[EmbeddedStore] = EmbeddedStore
) -> AsyncIterator[Parts]:
    parts = Parts(path, config, store_type)
    await parts.store.start()
    try:
        await parts.feed.start()
        parts.drained.start()
        await parts.drained.loaded.wait()
        yield parts
    finally:
        await parts.drained.close()
        await parts.feed.close()
        await parts.store.close()


class Api(Parts):
    """`host`, `port`: where it listens."""

    host: str
    port: int
    parts: ApiParts
    app: web.Application
    session: aiohttp.ClientSession

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`body` goes as JSON, `content` as it is. The path is sent byte for byte."""
        sent = json.dumps(body).encode() if body is not None else content
        url = URL(f"http://{self.host}:{self.port}{path}", encoded=True)
        skip = ["Content-Type"] if sent is not None else []
        data = io.BytesIO(sent) if sent is not None else None
        async with self.session.request(
            method, url, data=data, headers=headers, skip_auto_headers=skip
        ) as response:
            return Answer(
                response.status, response.headers.copy(), await response.text(errors="backslashreplace")
            )

    async def form(self, path: str, **fields: str) -> Answer:
        """PUT with form fields, as curl -d sends them."""
        url = URL(f"http://{self.host}:{self.port}{path}", encoded=True)
        async with self.session.put(url, data=fields) as response:
            return Answer(
                response.status, response.headers.copy(), await response.text(errors="backslashreplace")
            )


@asynccontextmanager
async def running_api(
    path: Path,
    config: Config = CONFIG,
    store_type: type[EmbeddedStore] = EmbeddedStore,
    *,
    loaded: bool = True,
    idle_seconds: float = IDLE_SECONDS,
    is_exempt: Callable[[bytes], bool] = is_loopback,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Api]:
    """`loaded` False: the view is left empty, as before the first load. `is_exempt`: from a client's limits."""
    api = Api(path, config, store_type)
    api.parts = ApiParts(
        config=config,
        store=api.store,
        view=api.view,
        feed=api.feed,
        registry=api.registry,
        metrics=api.metrics,
        dns=dns_settings(config, host_name="n1", local_addresses=[]),
        cached=_never_cached,
        reload=lambda: ["dns.listen"],
        me=lambda: NodeRecord(
            "n1", ("127.0.0.1",), ("http://127.0.0.1:8053",), "0", "2023-11-14T22:13:20.250Z"
        ),
        tokens=Tokens(api.store, configured(config.http.tokens, names.from_text(config.zones[0].name))),
        now=lambda: NOW,
        admission=Admission(config.http, api.metrics, is_exempt=is_exempt),
    )
    await api.store.start()
    api.parts.tokens.start()
    api.drained.start()
    api.app = make_app(api.parts)
    runner = make_runner(api.app, idle_seconds=idle_seconds)
    try:
        if loaded:
            await api.feed.start()
        await api.parts.tokens.loaded.wait()
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        api.host, api.port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as api.session:
            yield api
    finally:
        await runner.cleanup()
        await api.parts.tokens.close()
        await api.drained.close()
        await api.feed.close()
        await api.store.close()


async def _never_cached(path: names.Path, qtype: int) -> bool:
    return False


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Gives the loop its turns until the condition holds. Fails the test after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        await asyncio.sleep(0.001)

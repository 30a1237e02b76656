"""/v1/search: the services with their counts, and what has some words in its name, address, tags.

Owns this route, for people who look and type: the web page above all. It answers from a catalog of the view that is
kept while somebody asks, and works at it for a few milliseconds at a time, so that DNS waits for nobody's typing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from aiohttp import web

from discovery import catalog, names
from discovery.api import bodies, fields
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts
from discovery.api.services import add_expiry
from discovery.catalog import Catalog, Listed
from discovery.errors import InvalidField
from discovery.names import Path
from discovery.tree import Record

PAGE = 100
MAX_PAGE = 1_000
MAX_OFFSET = 100_000_000
MAX_QUERY = 200  # characters
SLICE_SECONDS = 0.003  # of the event loop, between two turns of everything else
KEPT_SECONDS = 600.0  # after the last question the catalog is dropped

T = TypeVar("T")


class ServiceFound(msgspec.Struct):
    """`name`: the whole name. `instances` are the readable ones, `drained` of them out of DNS."""

    service: str
    name: str
    instances: int
    drained: int
    unreadable: int


class Search(msgspec.Struct):
    """`total` services have the words in their names; `services` are those from `offset` on. `found`: instances that
    have the words which their service's name lacks, `matched` how many those are, and `more` says that there are yet
    more. With `service`, `found` are that one's instances from `offset` on. `registered`: all readable instances,
    `unreadable`: all stored keys that are left out."""

    revision: int
    services: list[ServiceFound]
    total: int
    found: list[bodies.Instance]
    matched: int
    more: bool
    registered: int
    unreadable: int


class Asked(NamedTuple):
    words: Sequence[bytes]
    service: Path | None
    offset: int
    limit: int
    leases: bool


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/search", Searching().get)]


def _asked(request: web.Request, parts: ApiParts) -> Asked:
    parameters = bodies.query(request, "q", "service", "offset", "limit", "leases")
    text = parameters.get("q", "")
    if len(text) > MAX_QUERY:
        raise InvalidField(f"q: it has more than {MAX_QUERY} characters: look for less", field="q")
    service = parameters.get("service")
    return Asked(
        catalog.words_of(text),
        None if service is None else fields.named_service(parts, service),
        bodies.number(parameters, "offset", 0, MAX_OFFSET) or 0,
        bodies.number(parameters, "limit", 1, MAX_PAGE) or PAGE,
        bodies.flag(parameters, "leases"),
    )


class Searching:
    """Keeps the catalog from one question to the next."""

    def __init__(self) -> None:
        self._catalog: Catalog | None = None
        self._refreshing = asyncio.Lock()
        self._forgetting: asyncio.TimerHandle | None = None

    async def get(self, request: web.Request) -> web.Response:
        parts = request.app[PARTS]
        asked = _asked(request, parts)
        kept = self._kept(parts)
        revision = parts.view.revision
        async with self._refreshing:
            await _in_slices(kept.refresh())
        drained = {each.record.path: each for each in parts.out_of_dns((), direct=False)}
        extra, away = catalog.listed([each.record for each in drained.values()], kept.services)
        services: Sequence[Listed]
        records: Sequence[Record]
        if asked.service is not None:
            service, records = await _in_slices(kept.within(asked.service, asked.words, extra))
            services, total = [service] if service is not None else [], int(service is not None)
            matched, more = len(records), len(records) > asked.offset + asked.limit
            records = records[asked.offset : asked.offset + asked.limit]
        else:
            found = await _in_slices(kept.find(asked.words, asked.limit, extra))
            services, total = found.services[asked.offset : asked.offset + asked.limit], len(found.services)
            records, matched, more = found.records, len(found.records), found.more
        instances = [
            fields.of_record(
                parts, each, each.fields, drained_at=drained[each.path].at if each.path in drained else None
            )
            for each in records
            if each.fields is not None
        ]
        if asked.leases:
            await add_expiry(parts, instances)
        answer = Search(
            revision,
            [_service(parts, each, away.get(each.path, 0)) for each in services],
            total,
            instances,
            matched,
            more,
            registered=sum(len(each.records) for each in kept.services) + len(drained),
            unreadable=len(parts.view.unreadable),
        )
        return reply(request, answer, revision=revision)

    def _kept(self, parts: ApiParts) -> Catalog:
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget)
        if self._catalog is None:
            self._catalog = Catalog(parts.view.root)
        return self._catalog

    def _forget(self) -> None:
        self._catalog = None


def _service(parts: ApiParts, service: Listed, drained: int) -> ServiceFound:
    text = names.service_text(service.path, parts.zones)
    return ServiceFound(text, names.to_text(service.path), len(service.records), drained, service.unreadable)


async def _in_slices(work: Generator[None, None, T]) -> T:
    end = time.perf_counter() + SLICE_SECONDS
    try:
        while True:
            next(work)
            if time.perf_counter() >= end:
                await asyncio.sleep(0)
                end = time.perf_counter() + SLICE_SECONDS
    except StopIteration as done:
        result: T = done.value
        return result

"""/healthz, /readyz, /metrics and the reload: what load balancers, supervisors, Prometheus and operators ask.

Owns these routes and the judgement behind `/readyz`. The first three need no view to be loaded and no token.
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec
from aiohttp import web

from discovery import metrics_text
from discovery.api import bodies
from discovery.api.parts import PARTS, ApiParts
from discovery.errors import NotReady, StoreError
from discovery.kv.contract import Status, Unavailable
from discovery.metrics_text import Disk, Surroundings

RELOAD_SECONDS = 2.0  # until all DNS workers have what was reloaded


class Health(msgspec.Struct):
    """`time_ms`: milliseconds since the epoch, by which the other nodes compare clocks."""

    status: str
    time_ms: int


class Readiness(msgspec.Struct):
    status: str
    revision: int
    stale: bool


class Reloaded(msgspec.Struct):
    """`restart_needed`: the settings that differ from what runs and wait for a restart."""

    restart_needed: list[str]


def routes() -> list[web.RouteDef]:
    return [
        web.post("/v1/config/reload", reload),
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/metrics", prometheus),
    ]


async def healthz(request: web.Request) -> web.Response:
    bodies.query(request)
    time_ms = int(request.app[PARTS].now() * 1000)
    return web.Response(body=msgspec.json.encode(Health("ok", time_ms)), content_type="application/json")


async def readyz(request: web.Request) -> web.Response:
    """200 while DNS can answer, stale too; with `writes` only while the store also takes writes."""
    parts = request.app[PARTS]
    writes = bodies.flag(bodies.query(request, "writes"), "writes")
    if parts.stopping:
        raise NotReady("the node is stopping: ask another node")
    parts.need_ready()
    if parts.workers is not None and not parts.workers.serving:
        raise NotReady("none of the DNS workers answers: ask again in a second, or ask another node")
    if writes:
        await _check_writes(parts)
    answer = Readiness("ready", parts.view.revision, parts.view.stale)
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


async def _check_writes(parts: ApiParts) -> None:
    """Raises Unavailable, which names what keeps the store from taking writes."""
    if parts.feed.lost:
        why = parts.trouble()
        raise Unavailable(
            f"the store has been out of reach for {parts.feed.stale_seconds:.1f} s{why and f': {why}'}"
        )
    await parts.store.range(b"", b"\0", limit=1, keys_only=True)  # without a quorum even this fails
    status = await parts.store.status()
    if status.errors:
        raise Unavailable("the store can't take writes: " + "; ".join(status.errors))


async def reload(request: web.Request) -> web.Response:
    """Reads the configuration anew, like SIGHUP."""
    parts = request.app[PARTS]
    bodies.query(request)
    answer = Reloaded(list(parts.reload()))
    if parts.workers is not None:
        await parts.workers.caught_up(RELOAD_SECONDS)
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


async def prometheus(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    status: Status | None = None
    try:
        status = await parts.store.status()
    except StoreError:
        pass  # the text leaves the store's own numbers out, and discovery_view_stale_seconds tells
    workers = None if parts.workers is None else await parts.workers.tally()
    around = Surroundings(
        status=status,
        up=not parts.feed.lost,
        stale_seconds=parts.feed.stale_seconds,
        age=parts.feed.age,
        drained=len(parts.registry.draining.instances),
        workers=workers,
        durations=parts.store.durations,
        disk=_disk(parts.config.store.path),
        http_connections=len(parts.admission),
        links=[(node.name, parts.link(node)) for node in parts.others()],
        certificates={setting: end - parts.now() for setting, end in parts.certificates().items()},
    )
    text = metrics_text.render(parts.metrics, parts.view, around)
    return web.Response(body=text, headers={"Content-Type": metrics_text.CONTENT_TYPE})


def _disk(path: str) -> Disk | None:
    """None where the system does not tell."""
    with suppress(OSError):
        told = os.statvfs(path)
        return Disk(told.f_frsize * told.f_blocks, told.f_frsize * told.f_bavail)
    return None

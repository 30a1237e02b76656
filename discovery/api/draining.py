"""Draining over HTTP: instances leave DNS, stay registered, and come back.

Owns these routes, and from when on no resolver can hold what was drained. An answer comes at once, or with `?wait=`
when that time has come. It never moves anything itself: the registry does.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from discovery.api import bodies, fields
from discovery.api.answers import reply
from discovery.api.auditing import tell_done
from discovery.api.leases import lease_of, named
from discovery.api.parts import PARTS, ApiParts, rfc3339
from discovery.drained import Drained
from discovery.registry import lease_text

MAX_WAIT = 3600  # seconds
SPREAD = 1.0  # seconds after which the other nodes have followed, too


def routes() -> list[web.RouteDef]:
    one, lease = "/v1/services/{service}/{instance}", "/v1/leases/{lease}"
    return [
        web.post(f"{one}/drain", drain),
        web.post(f"{one}/undrain", undrain),
        web.post(f"{lease}/drain", drain_lease),
        web.post(f"{lease}/undrain", undrain_lease),
    ]


async def drain(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    wait = _wait(request)
    path = fields.instance_path(request, parts)
    await bodies.read(request, bodies.NoFields)
    there = await parts.registry.draining.drain(path)
    safe_at = _safe_at(parts, there)
    tell_done(request)
    await _until(parts, safe_at, wait)
    instance = fields.of_drained(parts, there)
    assert instance is not None, "it was read as a service before"
    answer = bodies.DrainedInstance(
        **{name: getattr(instance, name) for name in instance.__struct_fields__}, safe_at=rfc3339(safe_at)
    )
    revision = there.kv.mod_revision
    return reply(request, answer, revision=max(revision, parts.view.revision), etag=revision)


async def undrain(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    path = fields.instance_path(request, parts)
    await bodies.read(request, bodies.NoFields)
    back = await parts.registry.draining.undrain(path)
    record = back.record
    if record.fields is None:
        raise fields.unreadable(record)
    answer = fields.of_record(parts, record, record.fields)
    return reply(request, answer, revision=back.reflects, etag=record.revision)


async def drain_lease(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    wait = _wait(request)
    lease = lease_of(request)
    await bodies.read(request, bodies.NoFields)
    with named(lease):
        found = await parts.registry.draining.drain_lease(lease)
    drained_at = max((each.at for each in found), default=parts.now())
    safe_at = max((_safe_at(parts, each) for each in found), default=drained_at)
    tell_done(request)
    await _until(parts, safe_at, wait)
    instances = [fields.lease_instance(parts, each.record.path, each.at) for each in found]
    answer = bodies.DrainedLease(lease_text(lease), rfc3339(drained_at), rfc3339(safe_at), instances)
    return reply(request, answer, revision=_revision(parts, [each.kv.mod_revision for each in found]))


async def undrain_lease(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    lease = lease_of(request)
    await bodies.read(request, bodies.NoFields)
    with named(lease):
        back = await parts.registry.draining.undrain_lease(lease)
    instances = [fields.lease_instance(parts, each.record.path, None) for each in back]
    answer = bodies.UndrainedLease(lease_text(lease), instances)
    return reply(request, answer, revision=_revision(parts, [each.reflects for each in back]))


def _revision(parts: ApiParts, revisions: list[int]) -> int:
    return max([parts.view.revision, *revisions])


def _safe_at(parts: ApiParts, there: Drained) -> float:
    """DNS gave the record's TTL, or the zone's, or a lease's where that is less; stale answers never more.

    A TTL that was lowered just before is not known any more: whoever lowers one waits for the old one first.
    """
    record = there.record
    own = record.fields.ttl if record.fields is not None else 0
    return there.at + max(own, parts.zone_of(record.path).ttl) + SPREAD


async def _until(parts: ApiParts, safe_at: float, wait: int) -> None:
    await asyncio.sleep(max(0.0, min(wait, safe_at - parts.now())))


def _wait(request: web.Request) -> int:
    """Seconds. Raises InvalidField."""
    return bodies.number(bodies.query(request, "wait"), "wait", 0, MAX_WAIT) or 0

"""/v1/leases and /v1/heartbeats: leases that many instances share.

Owns the routes of leases. A heartbeat is answered only after the store has taken it: what it could not take is a
503, so that the client tries another node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from discovery import names
from discovery.api import access, bodies, fields
from discovery.api.answers import reply
from discovery.api.parts import PARTS
from discovery.drained import original_key
from discovery.errors import InvalidField
from discovery.kv.contract import LeaseNotFound
from discovery.registry import lease_text


def routes() -> list[web.RouteDef]:
    return [
        web.post("/v1/leases", grant),
        web.get("/v1/leases/{lease}", get),
        web.delete("/v1/leases/{lease}", revoke),
        web.post("/v1/leases/{lease}/heartbeat", heartbeat),
        web.post("/v1/heartbeats", heartbeat_many),
    ]


def lease_of(request: web.Request) -> int:
    """The lease that the URL names. Raises InvalidField."""
    return fields.lease_id(request.match_info["lease"])


@contextmanager
def named(lease: int) -> Iterator[None]:
    """The store's word that there is no such lease, in the API's: ids in hex, and what to do about it here: nothing."""
    try:
        yield
    except LeaseNotFound:
        raise LeaseNotFound(
            f"there is no lease {lease_text(lease)}: it has ended or never was", field="lease"
        ) from None


async def grant(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    body = await bodies.read(request, bodies.LeaseBody)
    lease = await parts.registry.lease_grant(body.ttl)
    access.remember(parts, access.caller(request), lease.id)
    answer = bodies.GrantedLease(lease_text(lease.id), lease.ttl, parts.time_after(lease.ttl))
    return reply(request, answer, status=201)


async def get(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    lease = lease_of(request)
    with named(lease):
        granted, remaining = await parts.store.lease_ttl(lease)
        keys = await parts.store.lease_keys(lease)
    instances = []
    for key in keys:
        path = names.path_of(original_key(key), parts.config.store.prefix)
        if path is not None:
            there = parts.registry.draining.instances.find(path) if original_key(key) != key else None
            instances.append(fields.lease_instance(parts, path, there.at if there is not None else None))
    answer = bodies.LeaseState(lease_text(lease), granted, remaining, parts.time_after(remaining), instances)
    return reply(request, answer)


async def revoke(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    lease = lease_of(request)
    with named(lease):
        await parts.registry.lease_revoke(lease)
    return reply(request, status=204)


async def heartbeat(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    lease = lease_of(request)
    await bodies.read(request, bodies.NoFields)
    ttl = await parts.registry.lease_heartbeat(lease)
    every = bodies.heartbeat_every(ttl)
    assert every is not None
    return reply(request, bodies.LeaseHeartbeat(lease_text(lease), ttl, parts.time_after(ttl), every))


async def heartbeat_many(request: web.Request) -> web.Response:
    """Each lease counts once, however often it is named; `missing` has the ids as they were given."""
    parts = request.app[PARTS]
    bodies.query(request)
    body = await bodies.read(request, bodies.HeartbeatsBody)
    given = {fields.lease_id(text, "leases"): text for text in body.leases}
    if not given:
        raise InvalidField("leases: the list is empty; name at least one lease", field="leases")
    await access.check_leases(parts, access.caller(request), list(given), renews=True)
    missing = await parts.registry.lease_heartbeat_many(list(given))
    answer = bodies.Renewed(len(given) - len(missing), [given[lease] for lease in missing])
    return reply(request, answer)

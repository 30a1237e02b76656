"""/v1/services: register, look at, list, deregister and heartbeat instances.

Owns the routes of services and instances. Reads come from the view, writes go to the registry; only the time a
lease has left is asked of the store, and its absence never fails a read.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aiohttp import web

from discovery import names
from discovery.api import access, bodies, fields, problems
from discovery.api.answers import precondition, reflect, reply
from discovery.api.changes import Scope
from discovery.api.parts import PARTS, ApiParts
from discovery.api.polls import POLLS
from discovery.api.problems import Handler
from discovery.errors import InvalidField, NotFound, PreconditionFailed, StoreError
from discovery.registry import lease_text
from discovery.service import Service
from discovery.tree import Record

LEASES_AT_ONCE = 64  # questions for the time left that one request has in flight
PAGE = 1_000  # services in an answer when no limit is given
MAX_PAGE = 10_000
WAIT = 30  # seconds of a long poll when none are given
MAX_WAIT = 300
MAX_INDEX = (1 << 63) - 1


def routes() -> list[web.RouteDef]:
    one = "/v1/services/{service}/{instance}"
    return [
        web.get("/v1/services", list_services),
        web.get("/v1/services/{service}", list_instances),
        web.put(one, _of_one(put)),
        web.get(one, _of_one(get)),
        web.delete(one, _of_one(delete)),
        web.post(f"{one}/heartbeat", _of_one(heartbeat)),
    ]


def _of_one(handler: Handler) -> Handler:
    """What is not there, or not as it should be, says at which revision; a failed precondition what there is."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except NotFound as error:
            return reflect(request, problems.answer(problems.problem_of(error)))
        except PreconditionFailed as error:
            parts = request.app[PARTS]
            present = await _present(parts, fields.instance_path(request, parts))
            revision = max(present or 0, parts.view.revision)
            failed = problems.answer(problems.problem_of(error))
            return reflect(request, failed, revision=revision, etag=present)

    return handle


async def _present(parts: ApiParts, path: names.Path) -> int | None:
    """The revision of the instance in the store, which the view may not have reached; None: there is none, or the
    store is out of reach."""
    draining = parts.registry.draining
    try:
        held = await draining.registered(path)
        there = await draining.read(path) if held is None else None
    except StoreError:
        return None
    found = there.kv if there is not None else held
    return found.mod_revision if found is not None else None


async def put(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    path = fields.instance_path(request, parts)
    when = precondition(request)
    body = await bodies.read(request, bodies.InstanceBody)
    service = fields.to_service(body, request.remote)
    lease, lease_ttl = fields.lease_of(body)
    if lease is not None:
        await access.check_leases(parts, access.caller(request), [lease], renews=False)
    done = await parts.registry.register(
        path,
        service,
        lease=lease,
        lease_ttl=lease_ttl,
        when=when,
    )
    answer = fields.to_instance(
        parts,
        path,
        done.service,
        revision=done.revision,
        lease=done.lease,
        lease_ttl=done.lease_ttl,
        expires_at=parts.time_after(done.lease_ttl) if done.lease else None,
        drained_at=done.drained_at,
    )
    status = 201 if done.created else 200
    return reply(request, answer, status=status, revision=done.reflects, etag=done.revision)


async def get(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    path = fields.instance_path(request, parts)
    when = precondition(request)
    record, there = parts.view.record(path), None
    if record is None and (there := parts.registry.draining.instances.find(path)) is not None:
        record = there.record
    when.check_read(record.revision if record is not None else 0)
    if record is None:
        raise NotFound(f"there is no instance {names.to_text(path)}, or its lease has expired: register it")
    if record.fields is None:
        raise fields.unreadable(record)
    if when.matches(record.revision):
        return reply(request, status=304, etag=record.revision)
    at = there.at if there is not None else None
    answer = fields.of_record(parts, record, record.fields, drained_at=at)
    if record.lease:
        granted, answer.expires_at = await _time_left(parts, record.lease)
        answer.lease_ttl = granted or answer.lease_ttl
        answer.heartbeat_every = bodies.heartbeat_every(answer.lease_ttl)
    else:
        answer.expires_at = None
    return reply(request, answer, etag=record.revision)


async def delete(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    path = fields.instance_path(request, parts)
    try:
        revision = await parts.registry.deregister(path, precondition(request))
    except NotFound:
        raise NotFound(
            f"there is no instance {names.to_text(path)}: it was deregistered, its lease has expired, or it never was"
        ) from None
    return reply(request, status=204, revision=revision)


async def heartbeat(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    path = fields.instance_path(request, parts)
    await bodies.read(request, bodies.NoFields)
    record = parts.view.record(path)
    if record is not None and record.fields is None:
        parts.metrics.heartbeats_refused += 1
        raise fields.unreadable(record)
    lease = await parts.registry.heartbeat(path)
    if lease is None:
        return reply(request, bodies.Heartbeat(None, 0, None, None))
    every = bodies.heartbeat_every(lease.ttl)
    answer = bodies.Heartbeat(lease_text(lease.id), lease.ttl, parts.time_after(lease.ttl), every)
    return reply(request, answer)


async def list_instances(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    parameters = bodies.query(request, "leases", "subtree", "index", "wait")
    path = fields.service_path(request, parts)
    subtree = bodies.flag(parameters, "subtree")
    await _changed(request, parameters, Scope(path, subtree))
    instances = _instances(parts, path, subtree)
    revision = request.app[POLLS].revision
    if bodies.flag(parameters, "leases"):
        await add_expiry(parts, instances)
    return reply(
        request,
        bodies.Instances(names.service_text(path, parts.zones), revision, instances),
        revision=revision,
    )


async def _changed(request: web.Request, parameters: Mapping[str, str], scope: Scope) -> None:
    """Waits, where a long poll asks for it, until `scope` has changed after the revision `index`."""
    index = bodies.number(parameters, "index", 0, MAX_INDEX)
    wait = bodies.number(parameters, "wait", 0, MAX_WAIT)
    if index is None:
        if wait is not None:
            raise InvalidField("wait: it needs index, the revision that was seen last", field="wait")
        return
    await request.app[POLLS].wait(scope, index, WAIT if wait is None else wait)


def _instances(parts: ApiParts, path: names.Path, subtree: bool) -> list[bodies.Instance]:
    """Those that are out of DNS stand among the others, in the order of keys."""
    away = list(parts.out_of_dns(path, direct=not subtree))
    if not away:
        return [fields.of_record(parts, *found) for found in _readable(parts, path, subtree)]
    both: list[tuple[Record, Service, float | None]] = []
    both += [(record, held, None) for record, held in _readable(parts, path, subtree)]
    both += [(each.record, each.record.fields, each.at) for each in away if each.record.fields is not None]
    both.sort(key=lambda found: found[0].order())
    return [fields.of_record(parts, record, held, drained_at=at) for record, held, at in both]


def _readable(parts: ApiParts, path: names.Path, subtree: bool) -> Iterator[tuple[Record, Service]]:
    branch = parts.view.find(path)
    if branch is None:
        return
    direct = (record for child in branch.ordered() for record in child.records)
    for record in branch.walk() if subtree else direct:
        if record.fields is not None:
            yield record, record.fields


async def list_services(request: web.Request) -> web.Response:
    """Ordered and paged by the name as text, so that a page goes on where the last ended whatever changes."""
    parts = request.app[PARTS]
    parameters = bodies.query(request, "prefix", "limit", "after")
    limit = bodies.number(parameters, "limit", 1, MAX_PAGE) or PAGE
    prefix, after = parameters.get("prefix", "").lower(), parameters.get("after", "").lower()
    found = (
        bodies.ServiceCount(text, number)
        for apex in parts.outermost()
        for path, number in _counts(parts, apex)
        if (text := names.service_text(path, parts.zones)).startswith(prefix) and text > after
    )
    page = heapq.nsmallest(limit + 1, found, key=lambda each: each.service)
    more = len(page) > limit
    answer = bodies.Services(parts.view.revision, page[:limit], page[limit - 1].service if more else None)
    return reply(request, answer)


def _counts(parts: ApiParts, apex: names.Path) -> Iterable[tuple[names.Path, int]]:
    """With those that are out of DNS, which are registered, too."""
    if not len(parts.registry.draining.instances):
        return parts.view.services(apex)
    counts = Counter(dict(parts.view.services(apex)))
    for each in parts.out_of_dns(apex, direct=False):
        counts[each.record.path[:-1]] += 1
    return counts.items()


async def add_expiry(parts: ApiParts, instances: Sequence[bodies.Instance]) -> None:
    """Asks the store once a lease; null where it never ends or can't be told."""
    gate = asyncio.Semaphore(LEASES_AT_ONCE)

    async def ask(lease: str) -> tuple[str, tuple[int, str | None]]:
        async with gate:
            return lease, await _time_left(parts, int(lease, 16))

    leases = {each.lease for each in instances if each.lease is not None}
    left = dict(await asyncio.gather(*map(ask, leases)))
    for instance in instances:
        instance.expires_at = left[instance.lease][1] if instance.lease is not None else None


async def _time_left(parts: ApiParts, lease: int) -> tuple[int, str | None]:
    """The granted TTL and when it ends; 0 and None when the lease is gone or the store is out of reach."""
    try:
        granted, remaining = await parts.store.lease_ttl(lease)
    except StoreError:
        # Reads go on without; X-Stale-Seconds tells why, when it is not the lease that is gone.
        return 0, None
    return granted, parts.time_after(remaining)

"""/v1/batch: many registrations and removals in one request.

Owns the route, the checks of each operation (one that is wrong never stops the rest), and what is answered for each.
How they reach the store is `batch_writes`'. Others get their turn between the operations, so that DNS goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from discovery import names
from discovery.api import access, bodies, fields
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts
from discovery.api.problems import Problem, problem_of
from discovery.batch_writes import BatchWrites, Operation, Outcome, Registration, Removal
from discovery.errors import DiscoveryError, InvalidField, StoreError
from discovery.registry import lease_text
from discovery.tokens import Grant

MAX_OPERATIONS = 10_000
MAX_OF_ONE = 100  # operations on one instance
MAX_BODY = 8 << 20  # bytes
BREATH = 100  # operations looked at before others get their turn


def described_as(struct: type[msgspec.Struct]) -> Meta:
    """For what is decoded later, each on its own: what the API's description says of it."""
    return Meta(extra_json_schema={"$ref": f"#/components/schemas/{struct.__name__}"})


class PutOperation(bodies.InstanceBody, forbid_unknown_fields=True, kw_only=True):
    """The body of a PUT, and what its URL would name."""

    service: str
    instance: str


class DeleteOperation(msgspec.Struct, forbid_unknown_fields=True):
    service: str
    instance: str


class BatchOperation(msgspec.Struct, forbid_unknown_fields=True):
    """One of the two."""

    put: Annotated[msgspec.Raw, described_as(PutOperation)] | UnsetType = UNSET
    delete: Annotated[msgspec.Raw, described_as(DeleteOperation)] | UnsetType = UNSET


class _Checked(msgspec.Struct, forbid_unknown_fields=True):
    """The same, read with all that is in it; what fails is read in steps, which tell what is wrong."""

    put: PutOperation | UnsetType = UNSET
    delete: DeleteOperation | UnsetType = UNSET


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    operations: Annotated[
        list[Annotated[msgspec.Raw, described_as(BatchOperation)]], Meta(max_length=MAX_OPERATIONS)
    ]


class BatchResult(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """`status` as of the single call. `problem`: why it was not done; else `revision` is the instance's, or the one
    that removed it, and a put has the rest too (`lease` null: permanent)."""

    status: int
    revision: int | UnsetType = UNSET
    lease: str | UnsetType | None = UNSET
    lease_ttl: int | UnsetType = UNSET
    expires_at: str | UnsetType | None = UNSET
    heartbeat_every: float | UnsetType | None = UNSET
    problem: Problem | UnsetType = UNSET


class BatchAnswer(msgspec.Struct):
    revision: int
    results: list[BatchResult]


_DECODER = msgspec.json.Decoder(_Checked)


def routes() -> list[web.RouteDef]:
    return [web.post("/v1/batch", batch)]


async def batch(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    body = await bodies.read(request, BatchBody, limit=MAX_BODY)
    if not body.operations:
        raise InvalidField("operations: the list is empty; name at least one", field="operations")
    grant = access.caller(request)
    checked: list[Operation | DiscoveryError] = []
    for number, raw in enumerate(body.operations):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        try:
            checked.append(_operation(request, parts, grant, raw))
        except DiscoveryError as error:
            checked.append(error)
    _check_numbers(checked)
    await _check_leases(parts, grant, checked)
    outcomes = await _run(parts, checked)
    ends = _Ends(parts)
    results = [_result(ends, outcome) for outcome in outcomes]
    revision = max(
        (each.revision for each in results if each.revision is not UNSET), default=parts.view.revision
    )
    reflects = max(revision, parts.view.revision)
    return reply(request, BatchAnswer(reflects, results), revision=reflects)


async def _run(parts: ApiParts, checked: Sequence[Operation | DiscoveryError]) -> list[Outcome]:
    """Raises the store's error when it could take none at all."""
    wanted = [each for each in checked if not isinstance(each, DiscoveryError)]
    prefix = parts.config.store.prefix
    writes = BatchWrites(parts.registry, parts.store, parts.view, parts.feed, parts.metrics, prefix=prefix)
    done = await writes.run(wanted)
    refused = [each for each in done if isinstance(each, StoreError) and each.status == 503]
    if refused and len(refused) == len(done):
        raise refused[0]
    rest = iter(done)
    return [each if isinstance(each, DiscoveryError) else next(rest) for each in checked]


def _decoded(raw: msgspec.Raw) -> PutOperation | DeleteOperation:
    """Raises InvalidField."""
    try:
        one = _DECODER.decode(raw)
    except (ValueError, RecursionError):  # the errors of msgspec, and of UTF-8, are ValueErrors
        told = bodies.decode(bytes(raw), BatchOperation)
        if isinstance(told.delete, msgspec.Raw) and told.put is UNSET:
            return bodies.decode(bytes(told.delete), DeleteOperation)
        if isinstance(told.put, msgspec.Raw) and told.delete is UNSET:
            return bodies.decode(bytes(told.put), PutOperation)
    else:
        if isinstance(one.put, PutOperation) and one.delete is UNSET:
            return one.put
        if isinstance(one.delete, DeleteOperation) and one.put is UNSET:
            return one.delete
    raise InvalidField("an operation has either put or delete; give it one of the two")


def _operation(request: web.Request, parts: ApiParts, grant: Grant, raw: msgspec.Raw) -> Operation:
    """Raises InvalidField and Forbidden."""
    body = _decoded(raw)
    path = fields.named_instance(parts, body.service, body.instance)
    access.check_path(grant, path)
    if isinstance(body, DeleteOperation):
        return Removal(path)
    lease, lease_ttl = fields.lease_of(body)
    if lease_ttl:
        parts.registry.checked_ttl(lease_ttl, "lease_ttl")
    return Registration(path, fields.to_service(body, request.remote), lease, lease_ttl)


def _check_numbers(checked: list[Operation | DiscoveryError]) -> None:
    """Puts InvalidField in the place of what is too much for one instance: those happen one after the other."""
    named = {each.path for each in checked if not isinstance(each, DiscoveryError)}
    if len(checked) - len(named) < MAX_OF_ONE:
        return  # as nearly always: whatever is named again, it is not that often
    seen: Counter[names.Path] = Counter()
    for position, each in enumerate(checked):
        if not isinstance(each, DiscoveryError):
            seen[each.path] += 1
            if seen[each.path] > MAX_OF_ONE:
                checked[position] = InvalidField(
                    f"operations: {names.to_text(each.path)} is named more than {MAX_OF_ONE} times; "
                    "only the last matters, so name it once",
                    field="operations",
                )


async def _check_leases(parts: ApiParts, grant: Grant, checked: list[Operation | DiscoveryError]) -> None:
    """Puts Forbidden in the place of what names another's lease."""
    named = {each.lease for each in checked if isinstance(each, Registration) and each.lease is not None}
    if grant.writes_all or not named:
        return
    refused: dict[int, DiscoveryError] = {}
    for lease in named:
        try:
            await access.check_leases(parts, grant, [lease], renews=False)
        except DiscoveryError as error:
            refused[lease] = error
    for position, each in enumerate(checked):
        if isinstance(each, Registration) and each.lease in refused:
            checked[position] = refused[each.lease]


class _Ends(dict[int, str]):
    """When leases end that are renewed now, by their TTL."""

    def __init__(self, parts: ApiParts) -> None:
        super().__init__()
        self._parts = parts

    def __missing__(self, ttl: int) -> str:
        self[ttl] = text = self._parts.time_after(ttl)
        return text


def _result(ends: _Ends, outcome: Outcome) -> BatchResult:
    if isinstance(outcome, DiscoveryError):
        return BatchResult(status=outcome.status, problem=problem_of(outcome))
    if isinstance(outcome, int):
        return BatchResult(status=204, revision=outcome)
    return BatchResult(
        status=201 if outcome.created else 200,
        revision=outcome.revision,
        lease=lease_text(outcome.lease) if outcome.lease else None,
        lease_ttl=outcome.lease_ttl,
        expires_at=ends[outcome.lease_ttl] if outcome.lease else None,
        heartbeat_every=bodies.heartbeat_every(outcome.lease_ttl),
    )

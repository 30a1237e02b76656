"""/v1/lookup and /v1/zone: what DNS answers and why, and a zone as a master file.

Owns the two shapes. Both speak of this node's own data as its DNS answers from it now; nothing is asked of others.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from discovery import names
from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts
from discovery.dns import text, wire
from discovery.dns.explain import TtlOrigin, explain, ttl_of
from discovery.dns.export import export
from discovery.errors import InvalidField, NotFound
from discovery.names import Path

SLICE = 200  # lines of a zone between two turns of everything else


class Matched(msgspec.Struct):
    """One stored key: `matched_by` is the name that stands for it; `reason` says why it gives nothing, where so."""

    key: str
    matched_by: str
    used: bool
    reason: str | None
    ttl: int
    ttl_from: TtlOrigin


class Unreadable(msgspec.Struct):
    key: str
    reason: str


class Lookup(msgspec.Struct):
    """`rcode` is None for what other servers are asked, who say it then.

    `unreadable`: all keys at or below the name that are no services; `cached`: the answer is kept and holds.
    """

    name: str
    type: str
    zone: str | None
    revision: int
    rcode: str | None
    authoritative: bool
    answer: list[str]
    authority: list[str]
    additional: list[str]
    services: list[Matched]
    unreadable: list[Unreadable]
    remarks: list[str]
    cached: bool


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/lookup", lookup), web.get("/v1/zone", zone_file)]


async def lookup(request: web.Request) -> web.Response:
    """`name` is a whole domain name, `type` a record type (A when left out)."""
    parts = request.app[PARTS]
    query = bodies.query(request, "name", "type")
    path = _name(query.get("name", ""))
    qtype = _type(query.get("type", "A"))
    found = explain(path, qtype, parts.view, parts.dns)
    answer = found.answer
    elsewhere = answer.outside and not answer.first and parts.dns.recursive
    zones = parts.dns.zones
    services = []
    for note in found.notes:
        ttl, origin = ttl_of(note.record, zones)
        key = note.record.key.decode("utf-8", "backslashreplace")
        services.append(Matched(key, text.name(note.name), not note.why, note.why or None, ttl, origin))
    return reply(
        request,
        Lookup(
            name=text.name(path),
            type=text.type_name(qtype),
            zone=text.name(found.zone.apex) if found.zone is not None else None,
            revision=parts.view.revision,
            rcode=None if elsewhere else text.rcode_name(answer.rcode),
            authoritative=answer.authoritative,
            answer=[text.record(rr) for rr in (*answer.first, *answer.rotating)],
            authority=[text.record(rr) for rr in answer.authority],
            additional=[text.record(rr) for rrset in answer.additional for rr in rrset],
            services=services,
            unreadable=_unreadable(parts, path),
            remarks=found.remarks,
            cached=not elsewhere and await parts.cached(path, qtype),
        ),
    )


def _unreadable(parts: ApiParts, path: Path) -> list[Unreadable]:
    """By the bytes of the key, for a key that is no name has no place below one."""
    lead = names.key_of(path, parts.config.store.prefix)
    return [
        Unreadable(key.decode("utf-8", "backslashreplace"), reason)
        for key, reason in sorted(parts.view.unreadable.items())
        if key.lower() == lead or key.lower().startswith(lead + b"/")
    ]


async def zone_file(request: web.Request) -> web.StreamResponse:
    """The zone as a master file (RFC 1035 section 5, media type of RFC 4027); the first zone when none is named."""
    parts = request.app[PARTS]
    asked = bodies.query(request, "zone").get("zone")
    zones = parts.dns.zones
    path = zones.first.apex if asked is None else _name(asked, "zone")
    zone = zones.closest(path)
    if zone is None or zone.apex != path:
        known = ", ".join(text.name(each.apex) for each in zones.all)
        raise NotFound(f"{text.name(path)} is not a zone of this node; it has {known}", field="zone")
    response = web.StreamResponse(
        headers={"Content-Type": "text/dns", "X-Revision": str(parts.view.revision)}
    )
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    lines: list[str] = []
    for line in export(zone, parts.view, parts.dns):
        lines.append(line)
        if len(lines) == SLICE:
            await response.write("".join(lines).encode())
            lines.clear()
            await asyncio.sleep(0)
    await response.write("".join(lines).encode())
    await response.write_eof()
    return response


def _name(given: str, field: str = "name") -> Path:
    try:
        return names.from_text(given)
    except ValueError:
        raise InvalidField(f"{field}: {given!r} is not a domain name", field=field) from None


def _type(given: str) -> int:
    known = text.TYPES.get(given.upper())
    if (
        known is None
        and given.upper().startswith("TYPE")
        and given[4:].isdecimal()
        and int(given[4:]) < 65536
    ):
        known = int(given[4:])
    if known is None or known in (wire.OPT,):
        raise InvalidField(f"type: {given!r} is not a record type such as A, SRV or TYPE64", field="type")
    return known

"""What goes over the wire in JSON: the structs of requests and answers, and the way in and out.

Owns the bodies' types (strict: unknown fields are refused), the body limit, and the errors that name the field at
fault. It never looks at the view or the store. Field names are exact.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from discovery.errors import InvalidField, TooLarge, UnsupportedEncoding

MAX_BODY = 1 << 20  # bytes
BODY_SECONDS = 30.0  # for a whole body to arrive
MAX_LEASES = 10_000  # in one POST /v1/heartbeats
MAX_INT = 2147483647

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[int, Meta(ge=0, le=MAX_INT)]

T = TypeVar("T")


# ---------------------------------------------------------------- requests


class InstanceBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """PUT of an instance. Without `host` it is the caller's address; "": only TXT."""

    host: str | UnsetType = UNSET
    port: Port = 0
    priority: Port = 0
    weight: Port = 0
    text: str = ""
    mail: bool = False
    ttl: Seconds = 0
    targetstrip: Annotated[int, Meta(ge=-MAX_INT, le=MAX_INT)] = 0
    group: str = ""
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    tags: list[str] = msgspec.field(default_factory=list)
    meta: dict[str, str] = msgspec.field(default_factory=dict)
    lease: str | UnsetType = UNSET
    lease_ttl: int | UnsetType = UNSET


class NoFields(msgspec.Struct, forbid_unknown_fields=True):
    """Of calls that need to be told nothing, such as a heartbeat."""


class LeaseBody(msgspec.Struct, forbid_unknown_fields=True):
    ttl: int


class HeartbeatsBody(msgspec.Struct, forbid_unknown_fields=True):
    leases: Annotated[list[str], Meta(max_length=MAX_LEASES)]


# ---------------------------------------------------------------- answers


class Instance(msgspec.Struct, kw_only=True):
    """An instance with the zone's defaults filled in. `lease` null: permanent.

    `lease_ttl` is null for another writer's lease until the node has asked the store for it; `expires_at` is left
    out of lists, null when it never expires or the store could not say. `drained_at` null: it is in DNS.
    """

    service: str
    instance: str
    name: str
    host: str
    port: int
    priority: int
    weight: int
    text: str
    mail: bool
    ttl: int
    targetstrip: int
    group: str
    ports: Mapping[str, int]
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    lease: str | None
    lease_ttl: int | None
    expires_at: str | UnsetType | None = UNSET
    heartbeat_every: float | None
    drained_at: str | None = None
    revision: int


class DrainedInstance(Instance, kw_only=True):
    """From `safe_at` on no resolver can hold its records any more."""

    safe_at: str


class Instances(msgspec.Struct):
    service: str
    revision: int
    instances: list[Instance]


class ServiceCount(msgspec.Struct):
    service: str
    instances: int


class Services(msgspec.Struct):
    """`next` is the `after` of the next page; null: this was the last."""

    revision: int
    services: list[ServiceCount]
    next: str | None


class Heartbeat(msgspec.Struct):
    lease: str | None
    lease_ttl: int
    expires_at: str | None
    heartbeat_every: float | None


class GrantedLease(msgspec.Struct):
    id: str
    ttl: int
    expires_at: str


class LeaseHeartbeat(msgspec.Struct):
    id: str
    ttl: int
    expires_at: str
    heartbeat_every: float


class LeaseInstance(msgspec.Struct):
    service: str
    instance: str
    name: str
    drained_at: str | None


class DrainedLease(msgspec.Struct):
    """`drained_at` and `safe_at` are the latest of its instances'."""

    id: str
    drained_at: str
    safe_at: str
    instances: list[LeaseInstance]


class UndrainedLease(msgspec.Struct):
    """`instances`: those that came back."""

    id: str
    instances: list[LeaseInstance]


class LeaseState(msgspec.Struct):
    id: str
    ttl: int
    remaining: int
    expires_at: str
    instances: list[LeaseInstance]


class Renewed(msgspec.Struct):
    renewed: int
    missing: list[str]


def heartbeat_every(ttl: int | None) -> float | None:
    """Seconds between two heartbeats: a third of the lease's TTL, whole where that leaves time for two; None
    without a lease."""
    if not ttl:
        return None
    return ttl // 3 if ttl >= 3 else round(ttl / 3, 2)


# ---------------------------------------------------------------- the way in


async def read_body(request: web.Request, limit: int = MAX_BODY) -> bytes:
    """The whole body. Raises TooLarge, UnsupportedEncoding, InvalidField when it is damaged, and 408 when it does not
    arrive in BODY_SECONDS."""
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding(
            f"the body is encoded with {encoding.strip()!r}: send it as it is, without Content-Encoding",
            field="Content-Encoding",
        )
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    content = request.content
    if content.is_eof() and content.exception() is None:
        whole = content.read_nowait()
        if len(whole) > limit:
            raise _too_large(limit)
        return whole
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError:
        raise InvalidField(
            "the body is damaged: its length or encoding is not what its headers say"
        ) from None
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes: send less at once")


async def read(request: web.Request, body_type: type[T], limit: int = MAX_BODY) -> T:
    """The body as `body_type`; no body is `{}`. Raises InvalidField, and what read_body raises."""
    return decode(await read_body(request, limit), body_type)


def decode(body: bytes, body_type: type[T]) -> T:
    """Raises InvalidField."""
    try:
        return msgspec.json.decode(body or b"{}", type=body_type)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), body, body_type) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField(f"the body is not JSON in UTF-8: {error}") from None


def _invalid(complaint: str, body: bytes, body_type: type[object]) -> InvalidField:
    """msgspec's words: "Expected `int`, got `str` - at `$.port`", "Object contains unknown field `prot`"."""
    if unknown := re.match(r"Object contains unknown field `(.*)`", complaint, re.DOTALL):
        name = unknown[1]
        return InvalidField(f"{name}: there is no such field; field names are exact, lower case", field=name)
    if missing := re.match(r"Object missing required field `(.*)`", complaint):
        return InvalidField(f"{missing[1]}: this field is required", field=missing[1])
    reason, _, place = complaint.partition(" - at `$")
    place = place.removesuffix("`").removeprefix(".")
    name = re.split(r"[.\[]", place)[0]
    reason = reason[:1].lower() + reason[1:].replace("`", "")
    if place == f"{name}[...]":
        place = f"{name}.{_key_at_fault(name, body, body_type)}"
    if not name:
        return InvalidField(f"the body is wrong: {reason}")
    return InvalidField(f"{place}: {reason}", field=name)


def _key_at_fault(name: str, body: bytes, body_type: type[object]) -> str:
    """Which key of the mapping `name` is refused: msgspec does not tell."""
    try:
        contents = msgspec.json.decode(body)[name].items()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "..."  # what stands behind the fault is no JSON either, or nested without end
    for key, content in contents:
        try:
            msgspec.convert({name: {key: content}}, body_type)
        except msgspec.ValidationError as error:
            if f"$.{name}[" in str(error):
                return str(key)
    return "..."


def query(request: web.Request, *allowed: str) -> dict[str, str]:
    """The query's parameters. Raises InvalidField for one that is not `allowed` or stands twice."""
    found: dict[str, str] = {}
    if not request.query_string:
        return found
    for name, text in request.query.items():
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise InvalidField(f"{name}: there is no such parameter here; there are: {known}", field=name)
        if name in found:
            raise InvalidField(f"{name}: the parameter stands twice; give it once", field=name)
        found[name] = text
    return found


def flag(parameters: Mapping[str, str], name: str) -> bool:
    """A parameter that is true or false; bare is true, absent is false. Raises InvalidField."""
    text = parameters.get(name, "false")
    if text not in ("", "true", "1", "false", "0"):
        raise InvalidField(f"{name}: {text!r} is neither true nor false", field=name)
    return text in ("", "true", "1")


def number(parameters: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    """A parameter that is a whole number; None: absent. Raises InvalidField."""
    text = parameters.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise InvalidField(f"{name}: {text!r} is not a whole number from {low} to {high}", field=name)
    return int(text)

"""Who calls, and whether he may.

Owns the one place where a call's token, or its client certificate, is turned into what it grants, and where a call is
let through or refused: by the role that `roles` says, and for the role register by the names that it would write. A
handler whose body names services or leases asks here for each (`check_path`, `check_leases`). While there is no token
at all, every caller may do everything.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web

from discovery import names
from discovery.api import fields, v2errors, v2request
from discovery.api.browsers import check_browser
from discovery.api.parts import PARTS, ApiParts
from discovery.api.problems import Handler
from discovery.api.roles import ROLES
from discovery.drained import original_key
from discovery.errors import DiscoveryError, Forbidden, NotReady, StoreError, Unauthorized
from discovery.kv.contract import LeaseNotFound
from discovery.names import Path
from discovery.registry import lease_text
from discovery.tokens import ANYONE, NO_ONE, Grant, Role

KNOWN_LEASES = 200_000  # that are remembered to be a token's own
LEASES_AT_ONCE = 64
LEARN_LIMIT = 2.0  # seconds for the store to say which tokens there are, after a start without it
V2 = "/v2/keys"

_UNLOADED = Grant(
    id="", name="anyone", role=Role.READ
)  # while the store was never there to say if there are tokens


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers 401 and 403, in etcd's words where its clients ask; what is no route goes on to its 404 or 405."""
    resource = request.match_info.route.resource
    if resource is None:
        return await handler(request)
    method = "GET" if request.method == "HEAD" else request.method
    parts = request.app[PARTS]
    try:
        check_browser(request, parts)
        await _check(request, parts, ROLES.get((method, resource.canonical)))
    except DiscoveryError as error:
        if not resource.canonical.startswith(V2):
            raise
        return v2errors.failure(parts, v2errors.etcd_error(error, request))
    except v2errors.EtcdError as error:
        return v2errors.failure(parts, error)
    return await handler(request)


async def _check(request: web.Request, parts: ApiParts, needed: Role | None) -> None:
    if needed is None:
        raise Forbidden(f"{request.method} {request.path} is not open to anyone: please report this")
    if needed is Role.NOBODY:
        return
    if needed > Role.READ and not parts.tokens.loaded.is_set():
        with suppress(StoreError, TimeoutError):  # what it can't find out, is told below
            async with asyncio.timeout(LEARN_LIMIT):
                await parts.tokens.learn()
    grant = caller(request)
    if grant.role < needed:
        if grant.role is Role.NOBODY:
            raise Unauthorized(
                "this needs a token: send it as `Authorization: Bearer TOKEN` (discovery token make makes one)"
            )
        if grant is _UNLOADED:
            raise NotReady(
                "whether a token is needed is not known yet, since the store was out of reach from the start: "
                "ask again in a second, or ask another node"
            )
        raise Forbidden(
            f"this needs the role {needed.name.lower()}, and {grant.name} has the role {grant.role.name.lower()}"
        )
    if needed is Role.REGISTER and not grant.writes_all:
        await _check_names(request, parts, grant)


async def _check_names(request: web.Request, parts: ApiParts, grant: Grant) -> None:
    """That what the URL names is the caller's to write."""
    named = request.match_info
    if "key" in named:
        key = v2request.read_key(request, parts)
        check_path(grant, names.path_of(key, parts.config.store.prefix), key.decode())
    elif "instance" in named:
        check_path(grant, fields.instance_path(request, parts))
    elif "lease" in named:
        again = request.path.endswith("/heartbeat")
        await check_leases(parts, grant, [fields.lease_id(named["lease"])], renews=again)


def check_path(grant: Grant, path: Path | None, name: str = "") -> None:
    """Raises Forbidden where the caller may not write the name and what is below it; None: what is no name at all."""
    if not (grant.writes_all if path is None else grant.may_write(path)):
        name = names.to_text(path) if path is not None else name
        raise Forbidden(f"{name} is not among the names that {grant.name} may write: {_listed(grant)}")


async def check_leases(parts: ApiParts, grant: Grant, leases: Sequence[int], *, renews: bool) -> None:
    """Raises Forbidden where one of them holds a name that the caller may not write. Those that are gone pass.

    `renews`: the lease is but kept alive, so what was seen once to be the caller's need not be asked again.
    """
    if grant.writes_all:
        return
    known = parts.known_leases
    gate = asyncio.Semaphore(LEASES_AT_ONCE)

    async def check(lease: int) -> None:
        async with gate:
            try:
                keys = await parts.store.lease_keys(lease)
            except LeaseNotFound:
                return
        if not keys:
            return  # anyone's; what comes to hang on it later is asked for then
        for key in keys:
            path = names.path_of(original_key(key), parts.config.store.prefix)
            if path is None or not grant.may_write(path):
                raise Forbidden(
                    f"the lease {lease_text(lease)} holds more than the names that {grant.name} may write: "
                    f"{_listed(grant)}",
                    field="lease",
                )
        remember(parts, grant, lease)

    unknown = [lease for lease in leases if not renews or (grant.id, lease) not in known]
    await asyncio.gather(*map(check, unknown))


def remember(parts: ApiParts, grant: Grant, lease: int) -> None:
    """That the lease is this caller's to keep alive."""
    if len(parts.known_leases) >= KNOWN_LEASES:
        parts.known_leases.clear()
    parts.known_leases.add((grant.id, lease))


def _listed(grant: Grant) -> str:
    return ", ".join(names.to_text(pattern) for pattern in grant.names) or "none"


# ---------------------------------------------------------------- who calls


def caller(request: web.Request) -> Grant:
    """What the call's token, or certificate, grants. Raises Unauthorized for a token that is not known or has expired.

    It costs two microseconds, so it is asked again wherever it is needed.
    """
    parts = request.app[PARTS]
    tokens = parts.tokens
    token = _token(request)
    found = tokens.find(token) if token is not None else None
    if found is not None and found.expires_at and found.expires_at <= parts.now():
        raise Unauthorized(f"the token {found.id} ({found.name}) has expired: make a new one")
    if found is not None:
        return found
    if token is None and tokens.configured.certificates:
        for name in certificate_names(request):
            if (grant := tokens.configured.certificates.get(name)) is not None:
                return grant
    if not tokens.loaded.is_set() and not tokens.configured.any:
        return _UNLOADED
    if not tokens.any:
        return ANYONE
    if token is None:
        return NO_ONE
    if not tokens.loaded.is_set():
        raise NotReady(
            "this token is none of the configuration's, and the store's are not known yet: ask another node"
        )
    raise Unauthorized("this token is not known: it was revoked, or never was")


def _token(request: web.Request) -> str | None:
    """As RFC 6750 says; for clients of etcd 2, which know users only, as the password of any user."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic" and request.path.startswith(V2):
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return "" if scheme else None


def certificate_names(request: web.Request) -> Iterator[str]:
    """The subject's common name, and the alternative names, of the certificate that the client has shown."""
    transport = request.transport
    shown: Mapping[str, Any] = (transport and transport.get_extra_info("peercert")) or {}  # Any: ssl's
    for part in shown.get("subject", ()):
        for kind, text in part:
            if kind == "commonName":
                yield text
    for kind, text in shown.get("subjectAltName", ()):
        if kind in ("DNS", "URI", "email"):
            yield text

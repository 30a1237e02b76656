"""/v2/keys: etcd's old keys API, as far as tools that write for SkyDNS 2 use it.

Owns the mapping from etcd v2's requests and errors to raw keys (`v2nodes` has its JSON); reads come from the store,
writes go through the registry. It departs from etcd where the store does: a key and keys below it may both exist
(then lists show the key and a directory of the same name), directories exist by what lies below them only (making
one answers as etcd does and stores nothing), `createdIndex` stays over a replacement, and only keys below
`store.prefix` are there.
Parameters that are not supported are refused, never ignored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from aiohttp import web

from discovery.api import bodies
from discovery.api.parts import PARTS, ApiParts
from discovery.api.problems import RETRY_AFTER
from discovery.api.v2nodes import Node, Result, directory_node, file_node, times_left
from discovery.errors import Conflict, DiscoveryError, NotFound, TooLarge
from discovery.kv.contract import KV, prefix_end

log = logging.getLogger(__name__)

MAX_VALUE = 1 << 20  # bytes
MAX_BODY = 4 << 20  # a value of MAX_VALUE in percent-encoding, and the other fields
BIG_FORM = 64 << 10  # bytes; decoding a full one takes a second, which the event loop can't be without
MAX_TTL = 2147483647

KEY_NOT_FOUND, NOT_A_FILE, CONTENDED, ROOT_READ_ONLY, NOT_EMPTY = 100, 102, 101, 107, 108
BAD_TTL, INVALID_FIELD, INTERNAL = 202, 209, 300
ERRORS = {  # etcd 2's messages and statuses
    KEY_NOT_FOUND: ("Key not found", 404),
    NOT_A_FILE: ("Not a file", 403),
    CONTENDED: ("Compare failed", 412),
    ROOT_READ_ONLY: ("Root is read only", 403),
    NOT_EMPTY: ("Directory not empty", 403),
    BAD_TTL: ("The given TTL in POST form is not a number", 400),
    INVALID_FIELD: ("Invalid field", 400),
    INTERNAL: ("Raft Internal Error", 500),
}
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)


class EtcdError(Exception):
    def __init__(self, code: int, cause: str, status: int | None = None) -> None:
        super().__init__(cause)
        self.code = code
        self.cause = cause
        self.status = status or ERRORS[code][1]


class Failure(msgspec.Struct, rename="camel"):
    error_code: int
    message: str
    cause: str
    index: int


Work = Callable[[web.Request, ApiParts, bytes], Awaitable[web.Response]]


def routes() -> list[web.RouteDef]:
    path = "/v2/keys{key:(/.*)?}"
    return [
        web.get(path, _etcd(get)),
        web.put(path, _etcd(put)),
        web.delete(path, _etcd(delete)),
        web.post(path, _etcd(post)),
    ]


def _etcd(work: Work) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Gives the handler its key, and turns every error into etcd's."""

    async def handler(request: web.Request) -> web.Response:
        parts = request.app[PARTS]
        try:
            parts.need_ready()
            return await work(request, parts, _key(request, parts))
        except EtcdError as error:
            failure = error
        except NotFound as error:
            failure = EtcdError(KEY_NOT_FOUND, error.detail)
        except Conflict as error:
            failure = EtcdError(CONTENDED, error.detail)
        except TooLarge as error:
            failure = EtcdError(INVALID_FIELD, error.detail, error.status)
        except DiscoveryError as error:
            status = error.status if error.status >= 500 else 400
            failure = EtcdError(INTERNAL if status >= 500 else INVALID_FIELD, error.detail, status)
            if status == 500:
                log.error("%s %s failed: %s", request.method, request.path, error.detail)
        return _failure(parts, failure)

    return handler


def _failure(parts: ApiParts, error: EtcdError) -> web.Response:
    index = parts.view.revision
    body = Failure(error.code, ERRORS[error.code][0], error.cause, index)
    response = _json(body, error.status, index)
    if error.status == 503:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def _json(body: object, status: int, index: int) -> web.Response:
    headers = {"X-Etcd-Index": str(index), "X-Revision": str(index)}
    return web.Response(
        body=msgspec.json.encode(body) + b"\n",
        status=status,
        headers=headers,
        content_type="application/json",
    )


# ---------------------------------------------------------------- what was asked


def _key(request: web.Request, parts: ApiParts) -> bytes:
    """The key in the URL: percent-decoded, cleaned as etcd does it. Raises EtcdError outside the prefix."""
    raw = request.rel_url.raw_path.removeprefix("/v2/keys")
    segments: list[bytes] = []
    for segment in unquote_to_bytes(raw).split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    key = b"/" + b"/".join(segments)
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise EtcdError(INVALID_FIELD, f"{raw}: the key is not UTF-8") from None
    prefix = parts.config.store.prefix
    if text != prefix and not text.startswith(f"{prefix}/"):
        raise EtcdError(ROOT_READ_ONLY, f"{text}: only keys below {prefix} are here", 403)
    return key


def _parse(form: bytes) -> list[tuple[str, str]]:
    """The fields of a form as curl -d sends it. Raises EtcdError."""
    try:
        return parse_qsl(
            form.decode(),
            keep_blank_values=True,
            strict_parsing=bool(form),
            max_num_fields=16,
            errors="strict",
        )
    except ValueError as error:
        raise EtcdError(INVALID_FIELD, f"the form can't be read: {error}") from None


def _parameters(
    request: web.Request, allowed: Sequence[str], form: Sequence[tuple[str, str]] = ()
) -> dict[str, str]:
    """Form and query as one, the form first. Raises EtcdError for what is not `allowed`."""
    found: dict[str, str] = {}
    for name, text in (*form, *request.query.items()):
        if name not in allowed:
            raise EtcdError(INVALID_FIELD, f"{name} is not supported here; there are: {', '.join(allowed)}")
        found.setdefault(name, text)
    return found


def _flag(parameters: dict[str, str], name: str) -> bool:
    text = parameters.get(name, "false")
    if text not in _BOOLEANS:
        raise EtcdError(INVALID_FIELD, f'invalid value for "{name}"')
    return _BOOLEANS[text]


def _ttl(parameters: dict[str, str]) -> int:
    """Seconds; 0 when none is given. Etcd removes a key of `ttl=0` at once: a ttl that asks for that is refused."""
    text = parameters.get("ttl", "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= MAX_TTL):
        raise EtcdError(BAD_TTL, f'invalid value for "ttl": {text!r} is not from 1 to {MAX_TTL} seconds')
    return int(text)


# ---------------------------------------------------------------- the four methods


async def put(request: web.Request, parts: ApiParts, key: bytes) -> web.Response:
    form = await bodies.read_body(request, MAX_BODY)
    if form and request.content_type not in ("application/x-www-form-urlencoded", "application/octet-stream"):
        raise EtcdError(INVALID_FIELD, f"the body is {request.content_type}: send a form, as curl -d does")
    fields = await asyncio.to_thread(_parse, form) if len(form) > BIG_FORM else _parse(form)
    parameters = _parameters(request, ("value", "ttl", "dir"), fields)
    ttl = _ttl(parameters)
    if _flag(parameters, "dir"):
        return await _make_directory(parts, key, parameters)
    value = parameters.get("value", "").encode()
    if len(value) > MAX_VALUE:
        raise EtcdError(INVALID_FIELD, f"the value is larger than {MAX_VALUE} bytes", 413)
    if key == parts.config.store.prefix.encode():
        raise EtcdError(ROOT_READ_ONLY, key.decode())
    done = await parts.registry.put_raw(key, value, ttl)
    expires = parts.now() + done.lease_ttl
    node = file_node(done.kv, (done.lease_ttl, expires) if done.lease_ttl else None)
    previous = file_node(done.replaced) if done.replaced is not None else None
    return _json(Result("set", node, previous), 200 if previous else 201, done.kv.mod_revision)


async def _make_directory(parts: ApiParts, key: bytes, parameters: dict[str, str]) -> web.Response:
    """Answers as if it had been made; it is there as soon as a key lies below it."""
    if "value" in parameters or "ttl" in parameters:
        raise EtcdError(INVALID_FIELD, "a directory has neither value nor ttl here")
    below = key + b"/"
    found = await parts.store.range(below, prefix_end(below), limit=1, keys_only=True)
    index = found.kvs[0].create_revision if found.kvs else found.revision
    node = Node(key=key.decode(), dir=True, modified_index=index, created_index=index)
    return _json(Result("set", node), 200 if found.kvs else 201, found.revision)


async def get(request: web.Request, parts: ApiParts, key: bytes) -> web.Response:
    """`quorum` and `sorted` are always so here."""
    parameters = _parameters(request, ("recursive", "sorted", "quorum"))
    recursive = _flag(parameters, "recursive")
    _flag(parameters, "sorted"), _flag(parameters, "quorum")
    found = await parts.store.range(key)
    own = found.kvs[0] if found.kvs else None
    below = key + b"/"
    kvs: Sequence[KV] = ()
    if own is None or recursive:
        found = await parts.store.range(below, prefix_end(below))
        kvs = found.kvs
    if own is None and not kvs and key != parts.config.store.prefix.encode():
        raise EtcdError(KEY_NOT_FOUND, key.decode())
    left = await times_left(parts, [own, *kvs] if own is not None else kvs)
    if own is not None and not kvs:
        node = file_node(own, left.get(own.lease))
    else:
        node = directory_node(key, kvs, left, recursive=recursive, found=found.revision)
        if own is not None:
            node.nodes = [file_node(own, left.get(own.lease)), *(node.nodes or ())]
    return _json(Result("get", node), 200, found.revision)


async def delete(request: web.Request, parts: ApiParts, key: bytes) -> web.Response:
    parameters = _parameters(request, ("recursive", "dir"))
    recursive, directory = _flag(parameters, "recursive"), _flag(parameters, "dir")
    below = key + b"/"
    own = (await parts.store.range(key)).kvs
    children = (await parts.store.range(below, prefix_end(below), limit=1, keys_only=True)).kvs
    if children and recursive:
        revision = await parts.registry.delete_tree(key)
        if not revision:
            raise EtcdError(KEY_NOT_FOUND, key.decode())
        created = min(kv.create_revision for kv in (*own, *children))
        node = Node(key=key.decode(), dir=True, modified_index=revision, created_index=created)
        previous = Node(key=key.decode(), dir=True, modified_index=created, created_index=created)
        return _json(Result("delete", node, previous), 200, revision)
    if children and (directory or not own):
        raise EtcdError(NOT_EMPTY if directory else NOT_A_FILE, key.decode())
    held, revision = await _delete_file(parts, key)
    node = Node(key=key.decode(), modified_index=revision, created_index=held.create_revision)
    return _json(Result("delete", node, file_node(held)), 200, revision)


async def _delete_file(parts: ApiParts, key: bytes) -> tuple[KV, int]:
    try:
        return await parts.registry.delete_raw(key)
    except NotFound:
        raise EtcdError(KEY_NOT_FOUND, key.decode()) from None


async def post(request: web.Request, parts: ApiParts, key: bytes) -> web.Response:
    raise EtcdError(
        INVALID_FIELD, f"{key.decode()}: keys in order (POST) are not supported; PUT a name of your own"
    )

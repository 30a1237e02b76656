"""/v2/keys: etcd's old keys API, for clients of etcd 2 and for tools that write for SkyDNS 2.

Owns the four methods; `v2request` reads what is asked, `v2nodes` has the JSON, `v2wait` waits. Reads come from the
store, writes go through the registry. It departs from etcd where the store does. A key and keys below it may both
exist: GET shows the value, with `recursive` its `nodes` too, and lists show such a key as both. A directory is there
while keys lie below it: `dir=true` answers as etcd does and stores nothing. `createdIndex` stays over a replacement,
and a `refresh` that keeps the ttl makes no index. Only keys below `store.prefix` are there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from discovery.api.parts import PARTS, ApiParts
from discovery.api.v2errors import (
    COMPARE_FAILED,
    INVALID_FIELD,
    KEY_EXISTS,
    KEY_NOT_FOUND,
    NOT_A_FILE,
    NOT_EMPTY,
    ROOT_READ_ONLY,
    EtcdError,
    answer,
    etcd_error,
    failure,
)
from discovery.api.v2nodes import Node, Result, directory_node, file_node, times_left
from discovery.api.v2request import Asked, read_asked, read_key
from discovery.api.v2wait import wait
from discovery.errors import DiscoveryError, NotFound
from discovery.kv.contract import KV, prefix_end
from discovery.raw_keys import Check, RawPut, anything

Work = Callable[[web.Request, ApiParts, bytes, Asked], Awaitable[web.StreamResponse]]


def routes() -> list[web.RouteDef]:
    path = r"/v2/keys{key:(/[\s\S]*)?}"  # a line's end may stand in a key, too
    return [
        web.get(path, _etcd(get)),
        web.put(path, _etcd(put)),
        web.delete(path, _etcd(delete)),
        web.post(path, _etcd(post)),
    ]


def _etcd(work: Work) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Gives the handler what is asked, and turns every error into etcd's."""

    async def handler(request: web.Request) -> web.StreamResponse:
        parts = request.app[PARTS]
        try:
            parts.need_ready()
            return await work(request, parts, read_key(request, parts), await read_asked(request))
        except EtcdError as error:
            return failure(parts, error)
        except DiscoveryError as error:
            return failure(parts, etcd_error(error, request))

    return handler


# ---------------------------------------------------------------- reading


async def get(request: web.Request, parts: ApiParts, key: bytes, asked: Asked) -> web.StreamResponse:
    """The index is that of the first look, so a client that waits from there on misses nothing."""
    if asked.wait:
        return await wait(request, parts, key, asked)
    found = await parts.store.range(key)
    own = found.kvs[0] if found.kvs else None
    if own is not None and not asked.recursive:
        left = await times_left(parts, [own])
        return answer(parts, Result("get", file_node(own, left.get(own.lease))), found.revision)
    below = key + b"/"
    kvs = (await parts.store.range(below, prefix_end(below))).kvs
    if own is None and not kvs and not _is_prefix(parts, key):
        raise EtcdError(KEY_NOT_FOUND, key.decode())
    left = await times_left(parts, [*kvs, own] if own is not None else kvs)
    if own is None:
        node = directory_node(key, kvs, left, recursive=asked.recursive, found=found.revision)
    else:
        node = file_node(own, left.get(own.lease))
        if kvs:
            node.dir = True
            node.nodes = directory_node(key, kvs, left, recursive=True, found=found.revision).nodes
    return answer(parts, Result("get", node), found.revision)


def _is_prefix(parts: ApiParts, key: bytes) -> bool:
    return key == parts.config.store.prefix.encode()


# ---------------------------------------------------------------- writing


async def put(request: web.Request, parts: ApiParts, key: bytes, asked: Asked) -> web.Response:
    if asked.dir:
        return await _make_directory(parts, key, asked)
    if _is_prefix(parts, key):
        raise EtcdError(ROOT_READ_ONLY, key.decode())
    action = "set"
    check: Check = anything
    if asked.prev_exist is False:
        action, check = "create", _absent
    elif asked.compares:
        action, check = "compareAndSwap", _compared(key, asked)
    elif asked.prev_exist:
        action, check = "update", _present(key)
    keep = asked.refresh and action != "create"
    try:
        done = await parts.registry.raw.put(
            key, None if keep else asked.value, asked.ttl, action=action, check=check
        )
    except NotFound:
        raise EtcdError(KEY_NOT_FOUND, key.decode()) from None
    return _was_put(parts, done, action, asked)


async def post(request: web.Request, parts: ApiParts, key: bytes, asked: Asked) -> web.Response:
    """A new key below this one; keys that are made so sort in the order they were made."""
    if asked.dir:
        raise EtcdError(
            INVALID_FIELD, f"{key.decode()}: directories in order are not kept here; POST a value"
        )
    done = await parts.registry.raw.put_in_order(key, asked.value, asked.ttl)
    return _was_put(parts, done, "create", asked)


def _was_put(parts: ApiParts, done: RawPut, action: str, asked: Asked) -> web.Response:
    now, index = parts.now(), done.kv.mod_revision
    status = 201 if done.replaced is None else 200
    if asked.no_value_on_success:
        return answer(parts, Result(action), index, status=status)
    node = file_node(done.kv, (done.lease_ttl, now + done.lease_ttl) if done.lease_ttl else None)
    previous = None
    if done.replaced is not None:
        left = done.replaced_left
        previous = file_node(done.replaced, (left, now + left) if left else None)
    return answer(parts, Result(action, node, previous), index, status=status)


def _absent(held: KV | None) -> None:
    if held is not None:
        raise EtcdError(KEY_EXISTS, held.key.decode())


def _present(key: bytes) -> Check:
    def check(held: KV | None) -> None:
        if held is None:
            raise EtcdError(KEY_NOT_FOUND, key.decode())

    return check


def _compared(key: bytes, asked: Asked) -> Check:
    present = _present(key)

    def check(held: KV | None) -> None:
        present(held)
        assert held is not None
        wrong = []
        if asked.prev_value and asked.prev_value != held.value:
            wrong.append(f"[{asked.prev_value.decode()} != {held.value.decode(errors='backslashreplace')}]")
        if asked.prev_index and asked.prev_index != held.mod_revision:
            wrong.append(f"[{asked.prev_index} != {held.mod_revision}]")
        if wrong:
            raise EtcdError(COMPARE_FAILED, " ".join(wrong))

    return check


async def _make_directory(parts: ApiParts, key: bytes, asked: Asked) -> web.Response:
    """Answers as if it had been made; it is there as soon as a key lies below it."""
    if asked.value or asked.ttl or asked.compares:
        raise EtcdError(
            INVALID_FIELD, "a directory has neither value nor ttl here: give them to the keys in it"
        )
    if _is_prefix(parts, key):
        raise EtcdError(ROOT_READ_ONLY, key.decode())
    below = key + b"/"
    found = await parts.store.range(below, prefix_end(below), limit=1, keys_only=True)
    if found.kvs and not asked.prev_exist:
        raise EtcdError(NOT_A_FILE if asked.prev_exist is None else KEY_EXISTS, key.decode())
    if not found.kvs and asked.prev_exist:
        raise EtcdError(KEY_NOT_FOUND, key.decode())
    action = "set" if asked.prev_exist is None else "update" if asked.prev_exist else "create"
    index = found.kvs[0].create_revision if found.kvs else found.revision
    node = Node(key=key.decode(), dir=True, modified_index=index, created_index=index)
    result = Result(action) if asked.no_value_on_success else Result(action, node)
    return answer(parts, result, found.revision, status=200 if found.kvs else 201)


async def delete(request: web.Request, parts: ApiParts, key: bytes, asked: Asked) -> web.Response:
    raw = parts.registry.raw
    below = key + b"/"
    found = await parts.store.range(below, prefix_end(below), limit=1, keys_only=True)
    if asked.compares:
        return await _delete_file(parts, key, "compareAndDelete", _compared(key, asked))
    if found.kvs and asked.recursive:
        first = found.kvs[0].create_revision
        own = await raw.read(key)
        created = min(first, own.create_revision) if own is not None else first
        revision = await raw.delete_tree(key)
        if not revision:
            raise EtcdError(KEY_NOT_FOUND, key.decode())
        node = Node(key=key.decode(), dir=True, modified_index=revision, created_index=created)
        previous = Node(key=key.decode(), dir=True, modified_index=created, created_index=created)
        return answer(parts, Result("delete", node, previous), revision)
    if found.kvs and asked.dir:
        raise EtcdError(NOT_EMPTY, key.decode())

    def check(held: KV | None) -> None:
        if held is None:
            raise EtcdError(NOT_A_FILE if found.kvs else KEY_NOT_FOUND, key.decode())

    return await _delete_file(parts, key, "delete", check)


async def _delete_file(parts: ApiParts, key: bytes, action: str, check: Check) -> web.Response:
    held, left, revision = await parts.registry.raw.delete(key, action=action, check=check)
    node = Node(key=key.decode(), modified_index=revision, created_index=held.create_revision)
    previous = file_node(held, (left, parts.now() + left) if left else None)
    return answer(parts, Result(action, node, previous), revision)

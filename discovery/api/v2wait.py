"""`wait=true`: a question that is answered when the key, or with `recursive` one below it, has changed.

Owns the long poll, on a watch of the store. One answer tells of one change, and the client asks again with `waitIndex`
one above. The headers go out before the change, as clients' time-outs want it; after them an error is an empty body.
A revision that changed several of the keys waited for (a lease that held many ended) is more than etcd's one event
can tell: who waits by index is answered with 401, on which clients read anew and miss nothing. A watch tells neither
verb nor former value: both are known of this node's own writes; any other removal counts as `expire`, any other put
as `set`. A wait ends after WAIT_SECONDS with an empty body, as etcd's does; with its client; and with the node.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from discovery.api.parts import ApiParts
from discovery.api.v2errors import (
    INDEX_CLEARED,
    INVALID_FIELD,
    WATCH_ENDED,
    EtcdError,
    answer,
    encode,
    headers,
)
from discovery.api.v2nodes import Node, Result, file_node, times_left
from discovery.api.v2request import Asked
from discovery.errors import StoreError
from discovery.kv.contract import KV, Compacted, Event, Lagged, WatchBatch, prefix_end
from discovery.recent_writes import Written

WAIT_SECONDS = 300.0
LOOK_EVERY = 0.5  # seconds between two looks whether the client is still there
HISTORY_SECONDS = 0.2  # that a look at the history may take, before the headers


async def wait(request: web.Request, parts: ApiParts, key: bytes, asked: Asked) -> web.StreamResponse:
    """Raises EtcdError, and the store's errors."""
    if asked.stream:
        raise EtcdError(
            INVALID_FIELD, "stream: one answer tells of one change here; ask again with waitIndex"
        )
    found = await parts.store.range(key)
    held = found.kvs[0] if found.kvs else None
    opened = asyncio.Event()
    waiting = asyncio.create_task(_next_change(parts, key, asked, held, found.revision, opened))
    try:
        opening = asyncio.create_task(opened.wait())
        await asyncio.wait((waiting, opening), return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if 0 < asked.wait_index <= found.revision:
            await asyncio.wait((waiting,), timeout=HISTORY_SECONDS)
        if waiting.done():
            return answer(parts, waiting.result(), found.revision)
        response = web.StreamResponse(headers=headers(parts, found.revision))
        response.content_type = "application/json"
        await response.prepare(request)
        await _until_done(request, parts, waiting)
        with suppress(ConnectionError):  # the client has just gone
            if waiting.done():
                with suppress(EtcdError, StoreError):
                    await response.write(encode(waiting.result()))
            await response.write_eof()
        return response
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError, Exception):  # told above, where there is anyone to tell
            await waiting


async def _until_done(request: web.Request, parts: ApiParts, waiting: asyncio.Task[Result]) -> None:
    """Returns when it is done, when nobody waits for it any more, or when WAIT_SECONDS have gone."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_SECONDS
    while loop.time() < end and not parts.stopping and request.transport is not None:
        done, _ = await asyncio.wait((waiting,), timeout=LOOK_EVERY)
        if done:
            return


async def _next_change(
    parts: ApiParts, key: bytes, asked: Asked, held: KV | None, revision: int, opened: asyncio.Event
) -> Result:
    """`held` is what was at the key at `revision`, the store's present one. Sets `opened` when it can be waited for."""
    since = asked.wait_index or revision + 1
    end = prefix_end(key) if asked.recursive else b""
    try:
        async with parts.store.watch(key, end, from_revision=min(since, revision + 1)) as batches:
            opened.set()
            async for batch in batches:
                if batch.revision < since:
                    continue
                before = held if batch.revision > revision else None
                result = await _told(parts, key, asked, batch, before)
                if result is not None:
                    return result
    except Compacted as error:
        cleared = f"the requested history has been cleared [{error.compact_revision}/{since}]"
        raise EtcdError(INDEX_CLEARED, cleared, index=revision) from None
    except Lagged as error:
        raise EtcdError(WATCH_ENDED, error.detail) from None
    raise EtcdError(WATCH_ENDED, f"{key.decode()}: the store ended the watch; ask again")


async def _told(
    parts: ApiParts, key: bytes, asked: Asked, batch: WatchBatch, before: KV | None
) -> Result | None:
    """None when the batch holds nothing that etcd would tell. Raises EtcdError when it holds too much."""
    events = [event for event in batch.events if _is_told(key, event.kv.key, recursive=asked.recursive)]
    if not events:
        return None
    written = await parts.registry.raw.recent.find(batch.revision)
    if written is not None and written.quiet:
        return None
    if written is not None and written.tree is not None:
        tree = written.tree.decode(errors="backslashreplace")
        node = Node(key=tree, dir=True, modified_index=batch.revision, created_index=batch.revision)
        return Result(written.action, node)
    if len(events) > 1 and asked.wait_index:
        raise EtcdError(
            INDEX_CLEARED,
            f"{len(events)} keys below {key.decode()} changed at index {batch.revision}: read them again",
            index=batch.revision,
        )
    return await _of_event(parts, events[0], written, before)


def _is_told(key: bytes, changed: bytes, *, recursive: bool) -> bool:
    """As in etcd, hidden keys (with a part that begins with `_`) are told to those who wait for just them."""
    if changed == key:
        return True
    below = key + b"/"
    return recursive and changed.startswith(below) and b"/_" not in changed[len(key) :]


async def _of_event(parts: ApiParts, event: Event, written: Written | None, before: KV | None) -> Result:
    kv = event.kv
    if before is not None and before.key != kv.key:
        before = None
    previous = written.replaced if written is not None and written.replaced is not None else before
    prev_node = file_node(previous) if previous is not None else None
    if event.deleted:
        node = Node(
            key=kv.key.decode(errors="backslashreplace"),
            modified_index=kv.mod_revision,
            created_index=previous.create_revision if previous is not None else kv.mod_revision,
        )
        return Result(written.action if written is not None else "expire", node, prev_node)
    left = await times_left(parts, [kv])
    return Result(
        written.action if written is not None else "set", file_node(kv, left.get(kv.lease)), prev_node
    )

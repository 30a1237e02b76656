"""/v1/store: what an operator asks of the running node's store: how it is, a snapshot, less history.

Owns these three routes. A snapshot is written beside the store first, so that a slow reader holds nothing up, and
its name is taken away before it is sent, so that nothing is left behind. It never restores: that is the command
line's, on a directory that no node uses.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
from aiohttp import hdrs, web

from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts
from discovery.errors import Conflict, InvalidField
from discovery.kv.contract import Compacted
from discovery.kv.snapshot import SENT_NAME, SENT_PREFIX

PIECE = 1 << 20  # bytes of a snapshot sent at once


class CompactBody(msgspec.Struct, forbid_unknown_fields=True):
    """`revision` 0: the store's present one, which leaves no history."""

    revision: int = 0


class StoreState(msgspec.Struct):
    """Sizes in bytes; `errors` are sentences, empty when all is well; `stalls` and `leases_held` since the start."""

    revision: int
    compact_revision: int
    leases: int
    size: int
    size_in_use: int
    stalls: int
    leases_held: int
    version: str
    leader: str
    members: Sequence[str]
    errors: Sequence[str]


def routes() -> list[web.RouteDef]:
    return [
        web.get("/v1/store", get),
        web.post("/v1/store/compact", compact),
        web.post("/v1/store/snapshot", Snapshots().post),
    ]


async def get(request: web.Request) -> web.Response:
    bodies.query(request)
    return await _state(request)


async def compact(request: web.Request) -> web.Response:
    """Drops the history below a revision: watches that would begin there must begin anew."""
    store = request.app[PARTS].store
    bodies.query(request)
    body = await bodies.read(request, CompactBody)
    if body.revision < 0:
        raise InvalidField(
            f"revision is {body.revision}: give one of the store's, or 0 for the present one",
            field="revision",
        )
    if body.revision:
        await store.compact(body.revision)
    else:
        with suppress(Compacted):  # it is what was asked for: nothing was written since
            await store.compact((await store.status()).revision)
    return await _state(request)


async def _state(request: web.Request) -> web.Response:
    status = await request.app[PARTS].store.status()
    return reply(request, msgspec.convert(status, StoreState, from_attributes=True), revision=status.revision)


class Snapshots:
    """One at a time: each takes as much disk as the store."""

    def __init__(self) -> None:
        self._busy = False

    async def post(self, request: web.Request) -> web.StreamResponse:
        """The snapshot's bytes; X-Revision is the one it holds."""
        bodies.query(request)
        if self._busy:
            raise Conflict("another snapshot is being sent: try again when it is done")
        self._busy = True
        try:
            return await self._send(request)
        finally:
            self._busy = False

    async def _send(self, request: web.Request) -> web.StreamResponse:
        with tempfile.TemporaryDirectory(prefix=SENT_PREFIX, dir=_disk(request.app[PARTS])) as name:
            target = Path(name) / SENT_NAME
            revision = await request.app[PARTS].store.snapshot(target)
            file = target.open("rb")
        with file:
            response = web.StreamResponse(
                headers={hdrs.CONTENT_TYPE: "application/octet-stream", "X-Revision": str(revision)}
            )
            response.content_length = await asyncio.to_thread(file.seek, 0, 2)
            await response.prepare(request)
            await _send_file(response, file)
        await response.write_eof()
        return response


async def _send_file(response: web.StreamResponse, file: BinaryIO) -> None:
    file.seek(0)
    while piece := await asyncio.to_thread(file.read, PIECE):
        await response.write(piece)


def _disk(parts: ApiParts) -> Path | None:
    """The store's own folder, where there is room for a store; None, the system's, when the store is elsewhere."""
    folder = Path(parts.config.store.path)
    return folder if folder.is_dir() else None

"""A cluster's snapshot as a file, for `etcdctl snapshot restore`.

Owns the file: new, 0600, synced, and taken away again when the snapshot did not come whole. Disk work is done in
threads. etcd ends a snapshot with a checksum, which `etcdctl` looks at before it restores.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import grpc.aio

from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import InvalidRequest, NoSpace
from discovery.kv.etcd_endpoints import SNAPSHOT, Endpoints, verdict_of


async def write_snapshot(endpoints: Endpoints, target: Path) -> None:
    """Raises InvalidRequest (the target exists or can't be made), NoSpace, and what a call raises."""
    file = await asyncio.to_thread(_create, target)
    whole = False
    endpoint = endpoints.current
    try:
        call = endpoint.channel.unary_stream(
            SNAPSHOT.path,
            request_serializer=wire.SnapshotRequest.SerializeToString,
            response_deserializer=SNAPSHOT.answer.FromString,
        )(wire.SnapshotRequest(), metadata=endpoints.metadata(leader=False))
        async for part in call:
            await _to_its_end(_write, file, part.blob)
        await _to_its_end(os.fsync, file)
        whole = True
    except grpc.aio.AioRpcError as error:
        raise verdict_of(error, endpoint).error from None
    except OSError as error:
        raise NoSpace(
            f"{target} cannot be written ({error.strerror}): make room, or choose another place"
        ) from None
    finally:
        os.close(file)
        if not whole:
            os.unlink(target)


async def _to_its_end(work: Callable[..., None], *arguments: object) -> None:
    """In a thread, and waited for when this is cancelled too: the file is not closed under it."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def _create(target: Path) -> int:
    try:
        return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InvalidRequest(
            f"{target} exists already, and is not overwritten: choose another name"
        ) from None
    except OSError as error:
        raise InvalidRequest(f"{target} cannot be written ({error.strerror}): choose another place") from None


def _write(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]

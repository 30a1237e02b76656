"""An embedded store becomes the first member of a managed cluster, in the same `store.path`.

Owns the order of the move, and that a kill at any moment leaves either the embedded store as it was or a whole
cluster. How: `migrate` fills a member that runs in a folder of its own while the node goes on; when the node stops,
its lock is taken and the rest copied. Then the folder takes its name `etcd`, and last the embedded file another
name: as long as that has its own, no member starts (`moved`). A move that was cut off begins again from nothing, or
only takes the last step. The member's end freezes all leases: they begin with their full time when the node starts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from discovery.errors import ConfigError, Conflict
from discovery.kv.contract import BASE_KEY, KV, InvalidRequest, Unavailable
from discovery.kv.etcd import EtcdStore
from discovery.kv.member import EtcdMember
from discovery.kv.member_files import DATA, FOLDER, IDENTITY
from discovery.kv.member_plan import MemberSettings, refuse
from discovery.kv.member_ports import FORMER_LIFE, until_free
from discovery.kv.migrate import Copy, Source, insist
from discovery.kv.moved import KEPT, MOVING, NOTE, Note
from discovery.kv.snapshot import BUMP, Progress
from discovery.kv.sqlite_file import (
    FILE_NAME,
    DirectoryLock,
    close_writer,
    connect_writer,
    sync_directory,
    translate,
)

LOOK_EVERY = 0.05  # seconds between two tries to take the lock of a node that runs
FOLLOW_EVERY = 1.0  # seconds between two rounds after it


class Moved(msgspec.Struct, frozen=True):
    """`kept`: the embedded file, under its new name. `revision`: the least that the cluster tells."""

    keys: int
    leases: int
    revision: int
    kept: Path


async def move(
    directory: Path,
    settings: MemberSettings,
    progress: Progress,
    *,
    copied: Callable[[int, int], None],
    save: Callable[[Sequence[KV], int], Awaitable[None]],
) -> Moved:
    """Moves the store of `directory`. `copied` is told keys and leases when only the stop of the node is waited for.

    `save` is given all keys and their revision before the cluster is in place, for the node's view on disk.
    Raises ConfigError (settings, a directory or port in use), Conflict (there is a cluster already), InvalidRequest
    (nothing to move) and what the stores raise; everything is then as before.
    """
    _check(directory, settings)
    moving = directory / MOVING
    lock = DirectoryLock(moving)  # one move at a time; a node that starts waits for it
    try:
        return await _move(directory, moving, settings, progress, copied, save)
    finally:
        shutil.rmtree(moving, ignore_errors=True)
        lock.release()


def _check(directory: Path, settings: MemberSettings) -> None:
    if settings.join:
        refuse("join", "the first node moves its store and joins nobody: leave out join here")
    if len(settings.initial_cluster) > 1:
        refuse("initial_cluster", "a store moves to one member, and others join it: leave it out here")
    if not (directory / FILE_NAME).is_file():
        if (directory / FOLDER / NOTE).exists():
            raise Conflict(f"the store of {directory} was moved already: start the node")
        raise InvalidRequest(f"{directory} holds no embedded store: name the folder with store.path")


async def _move(
    directory: Path,
    moving: Path,
    settings: MemberSettings,
    progress: Progress,
    copied: Callable[[int, int], None],
    save: Callable[[Sequence[KV], int], Awaitable[None]],
) -> Moved:
    file, folder = directory / FILE_NAME, directory / FOLDER
    if (folder / NOTE).exists():
        return await asyncio.to_thread(_last_step, directory)
    if any((folder / name).exists() for name in (IDENTITY, f"{DATA}/member")):
        raise Conflict(f"{folder} holds a member already: start the node with it, or move that folder away")
    if (moving / FOLDER).exists():  # of a move that was killed, and its etcd may be about to end
        await until_free(settings.client, settings.peer, FORMER_LIFE)
        shutil.rmtree(moving / FOLDER, ignore_errors=True)
        if (moving / FOLDER).exists():
            raise Unavailable(f"{moving / FOLDER} can't be removed: remove it, then run this again")
    async with AsyncExitStack() as node_is_kept_out:
        async with AsyncExitStack() as stack:
            source = Source(file, {BASE_KEY})
            stack.callback(source.close)
            progress("starting etcd", 0, 0)
            member = EtcdMember(moving, settings)
            await member.start()
            stack.push_async_callback(member.close)
            store = EtcdStore(member.access())
            await store.start()
            stack.push_async_callback(store.close)
            copy = Copy(source, store, lambda written: progress("copying", written, 0))
            stack.push_async_callback(copy.close)
            # Far above what the node may reach meanwhile, as a restored store is: all keys are newer than before.
            least = (await asyncio.to_thread(source.revision)) + BUMP
            await insist(lambda: store.advance(least))
            await copy.round()
            node_is_kept_out.callback((await _stopped(directory, copy, copied)).release)
            kvs = await copy.finish()
            revision = (await store.range(BASE_KEY)).revision
            await store.compact(revision)  # who watched the old store must read anew
            await save(kvs, revision)
        await asyncio.to_thread(_fold, file)
        await asyncio.to_thread(_put_in_place, directory, Note(copy.revision, revision))
        return Moved(len(copy.keys), len(copy.leases), revision, _set_aside(file))


async def _stopped(directory: Path, copy: Copy, copied: Callable[[int, int], None]) -> DirectoryLock:
    """The lock of the directory, when its node has stopped; up to then the copy follows the node."""
    loop = asyncio.get_running_loop()
    again: float | None = None
    while True:
        with suppress(ConfigError):
            return DirectoryLock(directory)
        if again is None:
            copied(len(copy.keys), len(copy.leases))
        if again is None or loop.time() >= again:
            await copy.round()
            again = loop.time() + FOLLOW_EVERY
        await asyncio.sleep(LOOK_EVERY)


def _fold(file: Path) -> None:
    """One file without a log, checked when its node was killed. Raises Corrupt, NoSpace, Unavailable."""
    close_writer(connect_writer(file))


def _put_in_place(directory: Path, note: Note) -> None:
    """The cluster gets its name. Raises what `translate` makes of an OSError."""
    made, folder = directory / MOVING / FOLDER, directory / FOLDER
    try:
        with (made / NOTE).open("xb") as out:
            out.write(msgspec.json.encode(note))
            out.flush()
            os.fsync(out.fileno())
        sync_directory(made)
        shutil.rmtree(folder, ignore_errors=True)  # without data and identity: a start that failed
        made.rename(folder)
        sync_directory(directory)
    except OSError as error:
        raise translate(error, folder) from error


def _set_aside(file: Path) -> Path:
    """The embedded file gets its other name, which is returned."""
    number, kept = 1, file.with_name(KEPT)
    while kept.exists():
        number += 1
        kept = file.with_name(f"{KEPT}-{number}")
    try:
        file.rename(kept)
        sync_directory(file.parent)
    except OSError as error:
        raise translate(error, file) from error
    return kept


def _last_step(directory: Path) -> Moved:
    """Of a move that was killed just before it. Raises Conflict when the embedded store was used since."""
    folder, file = directory / FOLDER, directory / FILE_NAME
    lock = DirectoryLock(directory)
    try:
        note = msgspec.json.decode((folder / NOTE).read_bytes(), type=Note)
        source = Source(file)
        try:
            found = source.changes({}, {})
        finally:
            source.close()
        if found.revision != note.revision:
            raise Conflict(
                f"{folder} holds this store as it was at revision {note.revision}, and it is at {found.revision} now: "
                "move that folder away, then run this again"
            )
        return Moved(len(found.put), len(found.granted), note.least, _set_aside(file))
    finally:
        lock.release()

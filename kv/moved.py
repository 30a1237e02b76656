"""What a move from the embedded store to a managed cluster leaves on disk, and who may start meanwhile and after it.

Owns the names and the two refusals: no engine starts beside data of the other that it would pass over in silence.
It moves nothing (`move` does) and imports no etcd. How: a cluster is made in the folder `etcd.moving`, whose lock is
held for as long as that takes; when it is whole it takes the name `etcd`, and then the embedded file takes another.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from discovery.errors import ConfigError
from discovery.kv.sqlite_file import FILE_NAME, LOCK_NAME, DirectoryLock

log = logging.getLogger(__name__)

MOVING = "etcd.moving"
NOTE = "moved.json"  # in the folder `etcd`
KEPT = f"{FILE_NAME}.moved"  # the embedded file's name afterwards
LOOK_EVERY = 0.05  # seconds


class Note(msgspec.Struct, frozen=True):
    """That a cluster began with the embedded store of this `revision`, and at `least` at that one of its own."""

    revision: int
    least: int


def check_not_moved(directory: Path) -> None:
    """For the embedded engine: its store must not begin anew where it was moved away. Raises ConfigError."""
    if (directory / "etcd" / NOTE).exists() and not (directory / FILE_NAME).exists():
        raise ConfigError(
            f"store.engine: the store of {directory} was moved into the cluster in {directory / 'etcd'}: set "
            f"managed-etcd; to go back to the state before, name {KEPT} {FILE_NAME} again",
            field="store.engine",
        )


async def until_moved(directory: Path) -> None:
    """For a managed member: waits for a move that is under way. Raises ConfigError when there is a store, and none."""
    file = directory / FILE_NAME
    is_told = False
    while file.exists():
        if not _is_under_way(directory) and file.exists():
            raise ConfigError(
                f"store.path: {file} is an embedded store, which managed-etcd does not read: `discovery cluster init` "
                "makes a cluster of it; where this node joins another's cluster, move the file away",
                field="store.path",
            )
        if not is_told:
            is_told = True
            log.info("waiting for `discovery cluster init`, which is at work on %s", directory)
        await asyncio.sleep(LOOK_EVERY)


def _is_under_way(directory: Path) -> bool:
    folder = directory / MOVING
    if not (folder / LOCK_NAME).exists():
        return False
    try:
        DirectoryLock(folder).release()
    except ConfigError:
        return True
    return False

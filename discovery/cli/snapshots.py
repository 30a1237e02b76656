"""Files that commands write, and a running node's snapshot as one.

Owns that a file takes its name when all of it is written and synced, and that none is overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from discovery.cli.calls import with_node
from discovery.cli.output import Form, printed, say
from discovery.cli.progress import progress
from discovery.errors import Conflict, InvalidField

if TYPE_CHECKING:
    from discovery.cli.remote import Node


def save_snapshot(file: Path, node_url: str, token: str | None) -> int:
    """Writes the snapshot of a running node's store to `file`; its revision. Raises as `new_file` and `Node`."""

    async def fetch(node: Node) -> int:
        with new_file(file) as out:
            return await node.download(
                "POST", ("v1", "store", "snapshot"), out, lambda done, total: show("receiving", done, total)
            )

    with progress(size=True) as show:
        return with_node(node_url, token, fetch)


def tell_snapshot(file: Path, revision: int, output: Form) -> None:
    size = file.stat().st_size
    if not printed(output, {"file": str(file), "revision": revision, "size": size}):
        say(f"{file}: snapshot of revision {revision}, {size} bytes")


@contextmanager
def new_file(file: Path) -> Iterator[BinaryIO]:
    """A file beside `file` that takes its name when all is written and synced. Raises Conflict, InvalidField."""
    if file.exists():
        raise Conflict(f"{file} exists already, and is not overwritten: choose another name")
    partial = file.with_name(file.name + ".partial")
    try:
        try:
            with os.fdopen(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
            ) as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidField(f"{file} cannot be written: {error.strerror}") from None

"""`discovery store`: back up, restore, look at and move what is registered.

Owns two kinds of commands. `snapshot` asks a running node over HTTP, as `stats` and `compact` do with --node. All
others work on a data directory that no node uses, and say so when one does; `import` on a cluster too, where one is
configured. Long ones show progress on a terminal.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click
import msgspec

from discovery.cli.calls import call
from discovery.cli.options import (
    DEFAULT_NODE,
    config_loader,
    config_options,
    node_options,
    proof_options,
)
from discovery.cli.output import Form, output_option, print_table, printed, say
from discovery.cli.progress import Show, progress
from discovery.cli.snapshots import new_file, save_snapshot, tell_snapshot
from discovery.errors import ConfigError, InvalidField

if TYPE_CHECKING:
    from discovery.kv.contract import Store
    from discovery.kv.embedded import EmbeddedStore
    from discovery.settings import Config

P = ParamSpec("P")
R = TypeVar("R")

FOREIGN_TTL = 300


def path_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--path`: the data directory it works on."""
    return click.option(
        "--path",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The data directory [default: store.path of the configuration].",
    )(command)


def maybe_node_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--node` and `--token`, where leaving them out means the data directory."""
    return click.option(
        "--node", "node_url", metavar="URL", help=f"Ask this running node, such as {DEFAULT_NODE}."
    )(proof_options(command))


@click.group()
@config_options
def store() -> None:
    """Back up, restore, check and move the store.

    \b
    Example:
      discovery store snapshot backup.db
      discovery store restore backup.db --path /var/lib/discovery
    """


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@node_options
def snapshot(file: Path, output: Form, node_url: str, token: str | None) -> None:
    """Write a snapshot of a running node's store to FILE, which must not exist.

    \b
    Example:
      discovery store snapshot backup-$(date +%F).db
    """
    tell_snapshot(file, save_snapshot(file, node_url, token), output)


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@path_option
@output_option
@config_options
def restore(file: Path, path: Path | None, output: Form) -> None:
    """Put the snapshot FILE into a data directory that holds no store yet.

    Revisions go on far above the snapshot's, and the history begins anew, so that no watcher is misled.

    \b
    Example:
      discovery store restore backup.db --path /var/lib/discovery
    """
    from discovery.kv.snapshot import restore_snapshot

    directory = _directory(path)
    with progress(size=True) as show:
        revision = restore_snapshot(file, directory, show)
    if not printed(output, {"directory": str(directory), "file": str(file), "revision": revision}):
        say(f"{directory}: restored from {file}; it begins at revision {revision}")


@store.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@path_option
@output_option
@config_options
def check(file: Path | None, path: Path | None, output: Form) -> None:
    """Read all of the store, or of the snapshot FILE, and say whether it is whole. Changes nothing.

    \b
    Example:
      discovery store check backup.db
    """
    from discovery.kv import offline

    with progress() as show:
        if file is not None:
            found, name = offline.check(file, show), file
        else:
            with offline.store_file(_directory(path)) as name:
                found = offline.check(name, show)
    if not printed(output, {"file": str(name), "whole": True} | msgspec.to_builtins(found)):
        say(f"{name}: whole; {found.keys} keys and {found.leases} leases at revision {found.revision}")


@store.command()
@path_option
@maybe_node_options
@output_option
@config_options
def compact(path: Path | None, node_url: str | None, token: str | None, output: Form) -> None:
    """Drop the history. On a data directory also give free space back to the disk.

    \b
    Example:
      discovery store compact --path /var/lib/discovery
      discovery store compact --node http://127.0.0.1:8053
    """
    if node_url is not None:
        answer = call(node_url, token, "POST", "v1", "store", "compact", body={})
        if not printed(output, answer):
            say(f"{node_url}: history below revision {answer['compact_revision']} is dropped")
        return
    from discovery.kv import offline

    directory = _directory(path)
    with progress() as show:
        found = offline.compact(directory, show)
    if not printed(output, msgspec.to_builtins(found)):
        say(f"{directory}: {found.size} bytes; history below revision {found.compact_revision} is dropped")


@store.command()
@path_option
@maybe_node_options
@output_option
@config_options
def stats(path: Path | None, node_url: str | None, token: str | None, output: Form) -> None:
    """Show revision, sizes and counts of a data directory, or of a running node's store with --node.

    \b
    Example:
      discovery store stats --node http://127.0.0.1:8053 --json
    """
    if node_url is not None:
        answer = call(node_url, token, "GET", "v1", "store")
    else:
        from discovery.kv import offline

        with offline.store_file(_directory(path)) as file:
            answer = msgspec.to_builtins(offline.summary(file))
    if not printed(output, answer):
        rows = [
            (name, "; ".join(value) if isinstance(value, list) else value) for name, value in answer.items()
        ]
        print_table(("of the store", "value"), rows)


@store.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@path_option
@config_options
def export(file: Path, path: Path | None) -> None:
    """Write all keys and leases to FILE as JSON lines; - is standard output.

    \b
    Example:
      discovery store export everything.jsonl
      discovery store export - | grep web.prod
    """
    from discovery.transfer import export_lines

    async def write(opened: EmbeddedStore, show: Show) -> int:
        leases = opened.lease_ids()
        with new_file(file) if str(file) != "-" else nullcontext(sys.stdout.buffer) as out:
            lines = 0
            async for line in export_lines(opened, leases):
                out.write(line + b"\n")
                lines += 1
                if lines % 1_000 == 0:
                    show("writing", lines, 0)
        return lines - 1 - len(leases)

    keys = _with_store(_directory(path), write, new=False)
    if str(file) != "-":
        say(f"{file}: {keys} keys")


@store.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace keys that are there already.")
@click.option(
    "--lease-ttl",
    type=click.IntRange(1, 86_400),
    default=FOREIGN_TTL,
    show_default=True,
    help="Seconds that leases from etcdctl get, whose TTL it does not print.",
)
@path_option
@config_options
def import_(file: Path, overwrite: bool, lease_ttl: int, path: Path | None) -> None:
    """Read keys and leases from FILE: an export, or what `etcdctl get --prefix /skydns -w json` printed.

    It goes into the configured store: a data directory that no node uses, or a cluster that runs. Leases keep their ids
    and begin with their full time: in a directory when the node starts, in a cluster at once.

    \b
    Example:
      discovery store import everything.jsonl --path /var/lib/discovery
    """
    from discovery.kv.moved import check_not_moved
    from discovery.transfer import Moved, import_items, read_lines

    async def read(opened: Store, show: Show) -> Moved:
        with lines:
            items = read_lines(lines, lease_ttl=lease_ttl)
            return await import_items(
                opened, items, overwrite=overwrite, progress=lambda done: show("importing", done, 0)
            )

    try:
        lines = file.open("rb")
    except OSError as error:
        raise InvalidField(f"{file} cannot be read: {error.strerror}") from None
    config = config_loader()().config if path is None else None
    if config is not None and config.store.engine != "embedded":
        where, moved = f"the {config.store.engine} cluster", _with_cluster(config, read)
    else:
        directory = _directory(path)
        check_not_moved(directory)
        where, moved = str(directory), _with_store(directory, read, new=True)
    say(f"{where}: {moved.keys} keys and {moved.leases} leases imported from {file}")


# ---------------------------------------------------------------- what they share


def _directory(path: Path | None) -> Path:
    """Raises ConfigError where the configuration has no data directory to work on."""
    if path is not None:
        return path
    config = config_loader()().config.store
    if config.engine != "embedded":
        raise ConfigError(
            f"store.engine: {config.engine} keeps no data directory: ask a running node with --node, "
            "use etcdctl on the cluster, or name an embedded store's directory with --path",
            field="store.engine",
        )
    return Path(config.path)


def _with_store(directory: Path, work: Callable[[EmbeddedStore, Show], Awaitable[R]], *, new: bool) -> R:
    """Does `work` on the store of a directory that no node uses. Its clock stands still, so that no lease ends."""
    from discovery.kv.embedded import EmbeddedStore
    from discovery.kv.offline import store_file

    async def run(show: Show) -> R:
        opened = EmbeddedStore(directory, clock=lambda: 0.0)
        await opened.start()
        try:
            return await work(opened, show)
        finally:
            await opened.close()

    if not new:
        with store_file(directory):
            pass  # an export makes no store where there is none
    with progress() as show:
        return asyncio.run(run(show))


def _with_cluster(config: Config, work: Callable[[Store, Show], Awaitable[R]]) -> R:
    """Does `work` on the cluster of the nodes, which goes on meanwhile."""
    from discovery.node import make_store

    async def run(show: Show) -> R:
        opened, _ = make_store(config, "node")
        await opened.start()
        try:
            return await work(opened, show)
        finally:
            await opened.close()

    with progress() as show:
        return asyncio.run(run(show))

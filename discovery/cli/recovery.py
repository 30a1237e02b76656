"""`discovery cluster restore` and `recover`: the way back of a cluster whose members are lost.

Owns these commands, which work on the folder of a member that no node uses, and what they tell the operator to do
next. How the data is made is `kv.member_recovery`'s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from discovery.cli.options import config_loader, config_options
from discovery.cli.output import say
from discovery.cli.progress import progress
from discovery.errors import ConfigError

if TYPE_CHECKING:
    from discovery.kv.member_plan import MemberSettings
    from discovery.kv.member_recovery import Recovered, Tell


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_options
def restore(file: Path) -> None:
    """Put the snapshot FILE on a new machine, as a new cluster whose one member this node will run.

    Nothing may be in its store.path yet. Revisions go on far above the snapshot's. Start the node afterwards; the
    others then join it, each with an empty store.path and store.member.join.

    \b
    Example:
      discovery cluster restore backup.db --config /etc/discovery/discovery.yaml
    """
    directory, settings, recovered = _work(
        lambda path, mine, tell: _recovery().restore_member(path, mine, file, tell)
    )
    say(f"{directory}: restored from {file} as a new cluster; it begins at revision {recovered.revision}")
    _say_what_next(settings, recovered)


@click.command()
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A snapshot to take instead of its own data.",
)
@config_options
def recover(file: Path | None) -> None:
    """Begin a new cluster of one on this machine, when the quorum is lost for good.

    From its own data, which may lack what the lost members alone had acknowledged together, or with --from from a
    snapshot. Stop all nodes first. The old data is moved aside, never deleted. Leases keep their ids, each with its
    full time, so no service has to register again.

    \b
    Example:
      discovery cluster recover --config /etc/discovery/discovery.yaml
      discovery cluster recover --from backup.db
    """
    directory, settings, recovered = _work(
        lambda path, mine, tell: _recovery().recover_member(path, mine, file, tell)
    )
    source = "its own data" if file is None else str(file)
    say(f"{directory}: recovered from {source} as a new cluster; it begins at revision {recovered.revision}")
    _say_what_next(settings, recovered)


def _say_what_next(settings: MemberSettings, recovered: Recovered) -> None:
    if recovered.aside is not None:
        say(f"The old data is kept in {recovered.aside}: delete it when all is well.")
    say(
        "Start this node. On every other machine move the folder etcd in its store.path away before its node starts, "
        f"and set store.member.join: {settings.client} in place of initial_cluster."
    )


def _recovery() -> ModuleType:
    try:
        from discovery.kv import member_recovery
    except ImportError as error:
        raise ConfigError(
            f"store.engine: managed-etcd needs the package {error.name}: install discovery-dns[etcd]",
            field="store.engine",
        ) from None
    return member_recovery


def _work(
    work: Callable[[Path, MemberSettings, Tell], Coroutine[None, None, Recovered]],
) -> tuple[Path, MemberSettings, Recovered]:
    """Raises ConfigError where the configuration has no member, and what `work` raises."""
    from discovery.config_rules import member_settings
    from discovery.dns_settings import node_label

    config = config_loader()().config
    if config.store.engine != "managed-etcd":
        raise ConfigError(
            f"store.engine: {config.store.engine} runs no member here: expected managed-etcd, or use "
            f"`{'discovery store' if config.store.engine == 'embedded' else 'etcdctl snapshot'} restore`",
            field="store.engine",
        )
    settings = member_settings(config, node_label(config, socket.gethostname()).decode())
    directory = Path(config.store.path)
    logging.getLogger("discovery").addHandler(logging.NullHandler())  # what goes wrong is told in one line
    with progress() as show:
        return directory, settings, asyncio.run(work(directory, settings, lambda step: show(step, 0, 0)))

"""`discovery cluster init`: from an embedded store to a cluster.

Owns what is asked and told, and the view that is left for the node's next start. The move is `kv.move`'s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from discovery.cli.options import config_loader, config_options
from discovery.cli.output import say
from discovery.cli.progress import Show, progress
from discovery.errors import ConfigError, needs_etcd

if TYPE_CHECKING:
    from discovery.kv.contract import KV
    from discovery.kv.move import Moved
    from discovery.settings import Config


@click.command()
@config_options
def init() -> None:
    """Move the embedded store of store.path into a new cluster of one member, in the same folder.

    The configuration says managed-etcd already. All keys and leases go along, and nobody has to register again. While
    the node runs on its embedded store this copies and follows it, and ends the move when the node is restarted.

    \b
    Example:
      discovery cluster init --config /etc/discovery/discovery.yaml
    """
    config = config_loader()().config
    if config.store.engine != "managed-etcd":
        raise ConfigError(
            f"store.engine: {config.store.engine} has no cluster to make: set managed-etcd, then run this, then "
            "restart the node",
            field="store.engine",
        )
    with progress() as show:
        moved = asyncio.run(_init(config, show))
    say(
        f"{config.store.path}: {moved.keys} keys and {moved.leases} leases are in the cluster, at revision "
        f"{moved.revision}; the embedded store is kept as {moved.kept}"
    )


async def _init(config: Config, show: Show) -> Moved:
    from discovery.config_rules import member_settings
    from discovery.dns_settings import node_label
    from discovery.saved_view import SavedView

    try:
        from discovery.kv.move import move
    except ImportError as error:
        raise needs_etcd(config.store.engine, error) from None
    logging.getLogger("discovery.kv.etcd_history").setLevel(
        logging.ERROR
    )  # its base is set by this very command
    settings = member_settings(config, node_label(config, socket.gethostname()).decode())
    directory = Path(config.store.path)

    def copied(keys: int, leases: int) -> None:
        say(
            f"{directory}: {keys} keys and {leases} leases are copied, and what changes follows. Restart the node now "
            "(systemctl restart discovery): it goes on with the cluster"
        )

    async def save(kvs: Sequence[KV], revision: int) -> None:
        """So that DNS answers at once after the restart, however long its member takes to serve."""
        view = SavedView(directory, config.store.prefix)
        await view.open()
        try:
            below = config.store.prefix.encode() + b"/"
            view.restore((kv for kv in kvs if kv.key.startswith(below)), revision)
        finally:
            await view.close()

    return await move(directory, settings, show, copied=copied, save=save)

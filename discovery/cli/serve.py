"""`discovery serve`: run a node in the foreground.

Owns the step from a command line to a running node: configuration, log lines, event loop. What the node does is
`discovery.node`'s.
"""

from __future__ import annotations

import asyncio
import sys

import click

from discovery.cli.options import config_loader, config_options


@click.command()
@config_options
def serve() -> None:
    """Run a node until SIGTERM or ^C. Without any configuration it serves discovery.internal. on loopback.

    \b
    Example:
      discovery serve
      discovery serve --config /etc/discovery/discovery.yaml --set log.level=debug
    """
    from discovery import logs, node
    from discovery.event_loop import new_event_loop

    load = config_loader()
    loaded = load()
    logs.setup(loaded.config.log)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(node.run(loaded, load=load, announce=_announce))


def _announce(line: str) -> None:
    """Show what is ready now, at once: people and scripts wait for these lines."""
    click.echo(line)
    sys.stdout.flush()

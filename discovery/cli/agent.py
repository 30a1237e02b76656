"""`discovery agent`: the services of one host, registered while they are well.

Owns the step from the command line to a running agent.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from discovery.cli.options import node_options, tls_files


@click.command(short_help="Keep the services of a host registered, each with a check.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@node_options
def agent(file: Path, node_url: str, token: str | None) -> None:
    """Keep the services that FILE names registered, until SIGTERM or ^C.

    All hang on one lease, and each is in DNS only while its check passes. FILE is read again when it changes, and on
    SIGHUP. At the end all leave DNS, and it waits until no resolver can still hold them; a second signal ends that.

    \b
    Example:
      discovery agent /etc/discovery/agent.yaml
    """
    import os

    from discovery.agent.agent import Agent
    from discovery.agent.notify import Notify
    from discovery.cli.output import shown_log
    from discovery.client import Client

    notify = Notify(os.environ, os.getpid())

    ca, cert, key = tls_files()

    async def work() -> None:
        async with Client(node_url, token=token, ca=ca, cert=cert, key=key) as client:
            await Agent(client, file, notify).run()

    with shown_log():
        asyncio.run(work())

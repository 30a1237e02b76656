"""`discovery run`: a command that is registered for as long as it runs and is well.

Owns the options, and what of a check's words is which probe. The command's life is `agent.command`'s, the
registration's is the client's.
"""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING

import click

from discovery.cli.options import instance_options, node_options, tls_files

if TYPE_CHECKING:
    from discovery.client import Checking


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Run a command, registered for as long as it runs.",
)
@click.option("--service", required=True, help="The service, relative to the node's zone, such as web.prod.")
@click.option("--instance", help="Its id there [default: of this machine's name and the port].")
@click.option(
    "--check",
    metavar="CHECK",
    help="It is in DNS only while this passes: an http:// or https:// URL, tcp (its host and port), tcp://HOST:PORT, "
    "or a command.",
)
@instance_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@node_options
def run(
    service: str,
    instance: str | None,
    check: str | None,
    fields: dict[str, object],
    command: tuple[str, ...],
    node_url: str,
    token: str | None,
) -> int:
    """Run COMMAND, and keep it registered while it runs.

    SIGTERM and SIGINT take it out of DNS first and reach the command when no resolver can still hold it (a second
    one at once); other signals are passed on. ^C in a terminal reaches the command at once, which stays registered
    until it has ended. It exits with the command's status, 128 + N when signal N ended it.

    \b
    Example:
      discovery run --service web.prod --port 8080 --check http://127.0.0.1:8080/health -- ./server --listen :8080
    """
    from discovery.agent.command import run as run_command
    from discovery.cli.output import shown_log
    from discovery.client import Client, Registration

    if fields.get("lease_ttl") == 0:
        raise click.UsageError(
            "a command that runs needs a lease to keep alive; --lease-ttl 0 lives for ever"
        )

    ca, cert, key = tls_files()

    async def work() -> int:
        async with Client(node_url, token=token, ca=ca, cert=cert, key=key) as client:
            checking = _checking(check, fields) if check else None
            registration = Registration(
                service,
                instance,
                client=client,
                checking=checking,
                **fields,  # type: ignore[arg-type]  # click has checked them
            )
            return await run_command(registration, command)

    with shown_log():
        return asyncio.run(work())


def _checking(text: str, fields: dict[str, object]) -> Checking:
    from discovery.agent import probes
    from discovery.client import Checking
    from discovery.config_rules import parse_address

    if text.startswith(("http://", "https://")):
        return Checking(probes.http(text))
    if text == "tcp":
        port = fields.get("port")
        if not isinstance(port, int):
            raise click.BadParameter("tcp needs --port", param_hint="--check")
        return Checking(probes.tcp(str(fields.get("host") or "127.0.0.1"), port))
    try:
        if text.startswith("tcp://"):
            return Checking(probes.tcp(*parse_address(text.removeprefix("tcp://"))))
        words = shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--check") from None
    if not words:
        raise click.BadParameter("it is empty", param_hint="--check")
    return Checking(probes.command(words))

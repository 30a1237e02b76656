"""`discovery watch`: what is registered and every change, a line each, until ^C.

Owns what is printed. The stream, and how it goes on after breaks and with other nodes, is the client's.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from discovery.cli.calls import service_argument
from discovery.cli.options import node_options, tls_files
from discovery.cli.output import Form, output_option, print_yaml, say

if TYPE_CHECKING:
    from discovery.client import Event


@click.command(short_help="Print what is registered, and every change.")
@service_argument(required=False)
@click.option("--subtree", is_flag=True, help="Also the services below it.")
@click.option(
    "--since", type=click.IntRange(0), metavar="REVISION", help="Only what has changed after that revision."
)
@output_option
@node_options
def watch(
    service: str | None, subtree: bool, since: int | None, output: Form, node_url: str, token: str | None
) -> None:
    """Print the instances of SERVICE, or of all services, and then every change, until ^C.

    It goes on after every break, where --node names several with another of them. With --output json each event is
    a line, with yaml a document. `discovery list --watch` keeps a table of them instead, `discovery top` shows rates.

    \b
    Example:
      discovery watch web.prod
      discovery watch --json
    """
    if subtree and service is None:
        raise click.UsageError("--subtree needs a service")
    from discovery.client import Client

    ca, cert, key = tls_files()

    async def follow() -> None:
        async with (
            Client(node_url, token=token, ca=ca, cert=cert, key=key) as client,
            aclosing(client.watch(service, subtree=subtree, since=since)) as events,
        ):
            async for event in events:
                if output == "json":
                    click.echo(_line(event))
                elif output == "yaml":
                    click.echo("---")
                    print_yaml(_document(event))
                else:
                    say(_words(event))

    asyncio.run(follow())


def _line(event: Event) -> str:
    return json.dumps(_document(event), separators=(",", ":"))


def _document(event: Event) -> dict[str, object]:
    """The event's fields, and the instance's beside them."""
    import msgspec

    document: dict[str, object] = {"type": event.type, "revision": event.revision}
    if event.instance is not None:
        document |= msgspec.to_builtins(event.instance) | {"revision": event.revision}
    if event.reason is not None:
        document["reason"] = event.reason
    return document


def _words(event: Event) -> str:
    one = event.instance
    if one is None:
        return f"synced  revision {event.revision}"
    if event.type == "delete":
        return f"delete  {one.name}" + (f"  {event.reason}" if event.reason else "")
    host = f"[{one.host}]" if ":" in one.host and one.port else one.host or "no host"
    return f"put     {one.name}  {host}" + (f":{one.port}" if one.port else "")

"""`discovery drain` and `undrain`: an instance, or all that a lease holds, leaves DNS, stays registered, comes back.

Owns these commands' options and what they print. When it is safe to stop, the node says.
"""

from __future__ import annotations

import click

from discovery.cli.calls import TIMEOUT, call, instance_argument, not_empty, service_argument
from discovery.cli.options import node_options
from discovery.cli.output import Form, output_option, printed, say

MAX_WAIT = 3600  # seconds, as the node has it


def _path(service: str | None, instance: str | None, lease: str | None, verb: str) -> tuple[str, ...]:
    if lease is not None:
        if service is not None:
            raise click.UsageError("give SERVICE and INSTANCE, or --lease, not both")
        return ("v1", "leases", lease, verb)
    if service is None or instance is None:
        raise click.UsageError("SERVICE and INSTANCE are missing, or --lease")
    return ("v1", "services", service, instance, verb)


@click.command()
@service_argument(required=False)
@instance_argument(required=False)
@click.option("--lease", metavar="ID", callback=not_empty, help="All that this lease holds.")
@click.option(
    "--wait",
    type=click.IntRange(0, MAX_WAIT),
    default=0,
    metavar="SECONDS",
    help="Wait until no resolver can hold it any more, at most so long.",
)
@output_option
@node_options
def drain(
    service: str | None,
    instance: str | None,
    lease: str | None,
    wait: int,
    output: Form,
    node_url: str,
    token: str | None,
) -> None:
    """Take INSTANCE of SERVICE out of DNS at once. It stays registered: heartbeats go on, and `undrain` puts it back.

    \b
    Example:
      discovery drain web.prod i1 --wait 60
      discovery drain --lease 694d77aa9e38260f
    """
    path = _path(service, instance, lease, "drain")
    query = {"wait": str(wait)} if wait else None
    answer = call(node_url, token, "POST", *path, query=query, seconds=wait + TIMEOUT)
    if not printed(output, answer):
        what = answer["name"] if lease is None else f"{len(answer['instances'])} instances of lease {lease}"
        say(f"drained {what} at {answer['drained_at']}, safe at {answer['safe_at']}")


@click.command()
@service_argument(required=False)
@instance_argument(required=False)
@click.option("--lease", metavar="ID", callback=not_empty, help="All that this lease holds.")
@output_option
@node_options
def undrain(
    service: str | None,
    instance: str | None,
    lease: str | None,
    output: Form,
    node_url: str,
    token: str | None,
) -> None:
    """Put INSTANCE of SERVICE, which was drained, back into DNS.

    \b
    Example:
      discovery undrain web.prod i1
    """
    path = _path(service, instance, lease, "undrain")
    answer = call(node_url, token, "POST", *path)
    if not printed(output, answer):
        what = answer["name"] if lease is None else f"{len(answer['instances'])} instances of lease {lease}"
        say(f"{what} back in DNS" if lease is not None else f"{what} is in DNS")

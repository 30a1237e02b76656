"""`discovery bench`: how much a node takes, and how quickly it answers, seen from here.

Owns the commands, whom they may load, and the summary. The load itself is `load`'s. These clients are written in Python
and take as much of a core as the node does: dnsperf and wrk bring a node further.
"""

from __future__ import annotations

import functools
import secrets
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

import click

from discovery.cli.calls import with_node
from discovery.cli.lookup import make_query
from discovery.cli.options import node_options, server_option
from discovery.cli.output import Form, output_option, print_table, printed
from discovery.cli.progress import progress
from discovery.errors import NodeUnreachable

if TYPE_CHECKING:
    from discovery.cli.load import Bounds, Load

R = TypeVar("R")

MAX_COUNT, MAX_SECONDS, MAX_CLIENTS = 10_000_000, 600, 100


def bounds_options(unit: str, count: int) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command `--count`, `--seconds`, `--clients` and `--yes`; it gets `bounds`, and `yes`."""

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def wrapped(count: int, seconds: float, clients: int, **given: Any) -> R:  # Any: click's values
            from discovery.cli.load import Bounds

            return command(bounds=Bounds(count, seconds, clients), **given)

        decorated: Callable[..., R] = wrapped
        for option in (
            click.option(
                "--yes", is_flag=True, help="Load a node that is not on this machine without asking."
            ),
            click.option(
                "--clients",
                type=click.IntRange(1, MAX_CLIENTS),
                default=16,
                show_default=True,
                help="How many at once; each waits for its answer.",
            ),
            click.option(
                "--seconds",
                type=click.FloatRange(0, MAX_SECONDS, min_open=True),
                default=10.0,
                show_default=True,
                help="How long, at most.",
            ),
            click.option(
                "--count",
                type=click.IntRange(1, MAX_COUNT),
                default=count,
                show_default=True,
                help=f"How many {unit}, at most.",
            ),
        ):
            decorated = option(decorated)
        return decorated

    return decorate


@click.group(short_help="Put load on a node, and see how it takes it.")
def bench() -> None:
    """Put load on a node, and see how it takes it. Think before you load one that others need.

    \b
    Example:
      discovery bench dns web.prod.discovery.internal
      discovery bench register --count 1000
    """


@bench.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--type", "type_", default="A", show_default=True, help="The record type to ask for.")
@server_option
@bounds_options("questions", 100_000)
@output_option
def dns(names: tuple[str, ...], type_: str, server: str, bounds: Bounds, yes: bool, output: Form) -> int:
    """Ask for each NAME in turn over UDP, again and again. The exit status is 1 when nothing was answered.

    \b
    Example:
      discovery bench dns web.prod.discovery.internal --type SRV --seconds 5
    """
    from discovery.cli.load import ask_dns
    from discovery.config import parse_address

    try:
        address = parse_address(server)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--server") from None
    questions = [make_query(name, type_) for name in names]
    _may_load(address[0], f"{bounds.count} questions", yes)
    with progress() as show:
        try:
            found = ask_dns(address, questions, bounds, lambda done: show("questions", done, bounds.count))
        except OSError as error:
            raise NodeUnreachable(f"{server} can't be asked: {error.strerror}: see --server") from None
    return _tell(found, "questions", server, output)


@bench.command()
@click.option("--service", help="Of which service [default: bench- and something random].")
@bounds_options("registrations", 10_000)
@output_option
@node_options
def register(
    service: str | None, bounds: Bounds, yes: bool, output: Form, node_url: str, token: str | None
) -> int:
    """Register instances of a service of their own, and take them out again at the end.

    All hang on one lease, which ends by itself should this be killed. The exit status is 1 when one was refused.

    \b
    Example:
      discovery bench register --count 2000 --clients 32
    """
    from discovery.cli import load
    from discovery.client.transport import node_urls

    for url in node_urls(node_url):
        _may_load(url.host or "", f"{bounds.count} registrations", yes)
    name = service or f"bench-{secrets.token_hex(4)}"
    with progress() as show:
        found = with_node(
            node_url,
            token,
            lambda node: load.register(
                node, name, bounds, lambda done: show("registrations", done, bounds.count)
            ),
        )
    return max(_tell(found, "registrations", node_url, output), int(found.lost > 0))


def _may_load(host: str, what: str, yes: bool) -> None:
    """Asks where somebody is there to answer; else raises UsageError for a host that is not this machine."""
    if yes or _is_here(host):
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{host} is not this machine: --yes sends it up to {what} all the same")
    click.confirm(f"{host} is not this machine. Send it up to {what}?", abort=True, err=True)


def _is_here(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return True  # it has no address: the load itself will say so
    return all(ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)


def _tell(load: Load, what: str, target: str, output: Form) -> int:
    from discovery.cli.load import quantiles

    answered = len(load.latencies)
    found = {f"p{part * 100:g}": round(value * 1000, 3) for part, value in quantiles(load.latencies).items()}
    rate = round(answered / load.seconds, 1) if load.seconds else 0.0
    document = {
        "target": target,
        "asked": load.asked,
        "answered": answered,
        "lost": load.lost,
        "outcomes": dict(load.outcomes.most_common()),
        "seconds": round(load.seconds, 3),
        "per_second": rate,
        "latency_ms": found,
    }
    if not printed(output, document):
        rows: list[tuple[str, object]] = [(what, f"{load.asked:,}"), ("answered", f"{answered:,}")]
        rows += [("lost or refused", f"{load.lost:,}")] if load.lost else []
        rows += [(f"  {outcome}", f"{number:,}") for outcome, number in load.outcomes.most_common()]
        rows += [("seconds", f"{load.seconds:.2f}"), ("a second", f"{rate:,.0f}")]
        words = {"p50": "half within", "p100": "all within"}
        rows += [
            (words.get(part, f"{part[1:]} % within"), f"{milliseconds:.3f} ms")
            for part, milliseconds in found.items()
        ]
        print_table(("of the load", "figure"), rows)
    return int(not answered)

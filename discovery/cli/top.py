"""`discovery top`: what a node does just now, drawn anew every few seconds.

Owns what is asked of the node and how often. The figures are `figures`', the drawing is `screen`'s. What costs the node
most, when leases end, is asked seldom, and not at all for many instances.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from discovery.cli import figures
from discovery.cli.calls import service_argument, with_node
from discovery.cli.figures import Between, Reading
from discovery.cli.options import node_options
from discovery.cli.output import Form, is_terminal, output_option, print_table, printed, say
from discovery.errors import DiscoveryError

if TYPE_CHECKING:
    from discovery.cli.remote import Answer, Node

MAX_INSTANCES = 500  # of which the end of the lease is asked for, which may be a question to the store each
LEASES_EVERY = 10.0  # seconds
SHOWN = 20  # rows of a table


@click.command(short_help="Show live rates, what is asked most, what expires first.")
@service_argument(required=False)
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@output_option
@node_options
def top(service: str | None, every: float, output: Form, node_url: str, token: str | None) -> None:
    """Show what a node does: rates and times of DNS and HTTP, the names that are asked most (of one question in 64),
    and the instances whose leases end first, of SERVICE and below, or of all when they are few.

    Until ^C on a terminal; in a pipe, and with --output json or yaml, once, after one look and another.

    \b
    Example:
      discovery top
      discovery top web.prod --every 5
      discovery top --output json
    """
    live = output in ("table", "wide") and is_terminal()
    with_node(
        node_url,
        token,
        lambda node: _live(node, service, every) if live else _once(node, service, every, output),
    )


async def _once(node: Node, service: str | None, every: float, output: Form) -> None:
    before = await _reading(node)
    await asyncio.sleep(every)
    found = Between(before, await _reading(node))
    busiest = await _busiest(node)
    soonest = await _soonest(node, service, found.after)
    document = {
        "seconds": round(found.seconds, 3),
        "rates": figures.rates(found),
        "instances": int(found.after.total("discovery_instances")),
        "services": int(found.after.total("discovery_services")),
        "leases": int(found.after.total("discovery_store_leases")),
        "revision": int(found.after.total("discovery_view_revision")),
        "busiest": busiest,
        "first_to_expire": soonest,
    }
    if printed(output, document):
        return
    for number, (title, columns, rows) in enumerate(figures.sections(found, busiest, soonest, time.time())):
        if number:
            click.echo()
        say(title)
        if rows:
            print_table(columns or ("of it", "now"), rows)


async def _live(node: Node, service: str | None, every: float) -> None:
    """A node that is away for a while is waited for, once it has answered."""
    from discovery.cli.screen import Screen

    before = await _reading(node)
    leases_at, soonest = 0.0, None
    note = f"{node.url}, every {every:g} s; ^C ends it"
    with Screen() as screen:
        screen.show([("the first figures come with the second look", (), [])], note)
        while True:
            await asyncio.sleep(every)
            try:
                after = await _reading(node)
                busiest = await _busiest(node)
                if time.monotonic() - leases_at >= LEASES_EVERY:
                    leases_at, soonest = time.monotonic(), await _soonest(node, service, after)
            except DiscoveryError as error:
                screen.show([("no figures", (), [(error.detail,)])], note)
                continue
            shown = figures.sections(Between(before, after), busiest, soonest, time.time())
            screen.show(shown, note, figures=True)
            before = after


async def _reading(node: Node) -> Reading:
    text = io.BytesIO()
    await node.download("GET", ("metrics",), text)
    try:
        return figures.read(text.getvalue().decode(), time.time())
    except ValueError as error:
        raise DiscoveryError(f"{node.url}/metrics is not what Prometheus reads: {error}") from None


async def _busiest(node: Node) -> Answer:
    return await node.call("GET", ("v1", "busiest"), query={"limit": str(SHOWN)})


async def _soonest(node: Node, service: str | None, reading: Reading) -> Sequence[Answer] | None:
    """Those whose leases end first; None: there are too many."""
    if service is None and reading.total("discovery_instances") > MAX_INSTANCES:
        return None
    query = {"subtree": "true", "leases": "true"}
    answer = await node.call("GET", ("v1", "services", service or "@"), query=query)
    ending = [one for one in answer["instances"] if one.get("expires_at")]
    return sorted(ending, key=lambda one: str(one["expires_at"]))[:SHOWN]

"""`discovery list` and `show`: what is registered, once or as a table that follows every change.

Owns the columns and the live table. The stream that it follows is the client's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import click

from discovery.cli.calls import call, instance_argument, service_argument, with_node
from discovery.cli.options import node_options, tls_files
from discovery.cli.output import Form, is_terminal, output_option, print_table, printed, relative, say

if TYPE_CHECKING:
    from discovery.cli.remote import Answer, Node
    from discovery.client import Event

PAGE = 1000  # services asked for at once
REDRAW = 0.5  # seconds between two pictures of a live table
SHOWN = 200  # rows of it at most, whatever the height of the terminal
Table = tuple[Sequence[str], list[Sequence[object]]]


@click.command("list", short_help="List services, or the instances of one.")
@service_argument(required=False)
@click.option("--subtree", is_flag=True, help="Also the services below SERVICE.")
@click.option("--prefix", metavar="TEXT", help="Only services whose name begins so.")
@click.option("--watch", "-w", is_flag=True, help="Stay, and show every change, until ^C.")
@output_option
@node_options
def list_(
    service: str | None,
    subtree: bool,
    prefix: str | None,
    watch: bool,
    output: Form,
    node_url: str,
    token: str | None,
) -> None:
    """List the services and how many instances each has, or the instances of SERVICE.

    --output wide also has when leases end, which the node may have to ask the store one by one. --watch needs a
    terminal: `discovery watch` prints lines.

    \b
    Example:
      discovery list
      discovery list web.prod --json
      discovery list web.prod --output wide
      discovery list web.prod --watch
    """
    if subtree and service is None:
        raise click.UsageError("--subtree needs a service")
    if prefix is not None and service is not None:
        raise click.UsageError("--prefix is for the list of services: leave SERVICE out")
    if watch:
        _follow(service, subtree, prefix or "", output, node_url, token)
        return
    if service is not None:
        query = {name: "true" for name, on in (("subtree", subtree), ("leases", output == "wide")) if on}
        answer = call(node_url, token, "GET", "v1", "services", service, query=query)
        if printed(output, answer):
            return
        if answer["instances"]:
            print_table(*instance_table(answer["instances"], wide=output == "wide", subtree=subtree))
        else:
            say(f"no instances of {service}")
        return
    everything = with_node(node_url, token, lambda node: _all_services(node, prefix))
    if printed(output, everything):
        return
    if everything["services"]:
        print_table(
            ("service", "instances"), [(one["service"], one["instances"]) for one in everything["services"]]
        )
    else:
        say(f"no services begin with {prefix}" if prefix else "no services are registered")


@click.command(short_help="Show all of one instance.")
@service_argument()
@instance_argument()
@output_option
@node_options
def show(service: str, instance: str, output: Form, node_url: str, token: str | None) -> None:
    """Show all of INSTANCE of SERVICE, and how long its lease still runs.

    \b
    Example:
      discovery show web.prod i1
      discovery show web.prod i1 --output yaml
    """
    answer = call(node_url, token, "GET", "v1", "services", service, instance)
    if not printed(output, answer):
        print_table(("field", "value"), [(name, _words(value, name)) for name, value in answer.items()])


async def _all_services(node: Node, prefix: str | None) -> Answer:
    """All pages as one answer, with the revision of the last."""
    services: list[Answer] = []
    query = {"limit": str(PAGE)} | ({"prefix": prefix} if prefix else {})
    while True:
        page = await node.call("GET", ("v1", "services"), query=query)
        services.extend(page["services"])
        if not page.get("next"):
            return {"revision": page["revision"], "services": services}
        query["after"] = page["next"]


# ---------------------------------------------------------------- columns


def instance_table(instances: Sequence[Answer], *, wide: bool, subtree: bool = False) -> Table:
    """The columns and rows of instances; `wide` has all fields."""
    columns: dict[str, Callable[[Answer], object]] = {}
    if subtree:
        columns["service"] = lambda one: one["service"]
    columns |= {name: itemgetter(name) for name in ("instance", "host", "port", "priority", "weight")}
    if wide:
        more = ("ports", "ttl", "group", "text", "meta")
        columns |= {name: partial(_field, name) for name in more}
    columns["tags"] = lambda one: " ".join(one["tags"])
    columns["lease"] = lambda one: "for ever" if not one["lease"] else _seconds(one["lease_ttl"])
    if wide:
        columns["lease id"] = lambda one: one["lease"]
        columns["ends"] = lambda one: relative(one.get("expires_at"))
    columns["drained"] = lambda one: relative(one["drained_at"])
    return tuple(columns), [[cell(one) for cell in columns.values()] for one in instances]


def _field(name: str, one: Answer) -> object:
    return _words(one.get(name) or None)


def _seconds(number: int | None) -> str | None:
    return None if number is None else f"{number} s"


def _words(value: Any, name: str = "") -> object:  # Any: JSON
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value} ({relative(value)})" if name.endswith("_at") and value else value


# ---------------------------------------------------------------- the live table


class Followed:
    """What the events so far leave registered. Pure."""

    def __init__(self, service: str | None, subtree: bool, prefix: str) -> None:
        self.synced = False
        self.revision = 0
        self._service, self._subtree, self._prefix = service, subtree, prefix
        self._instances: dict[str, Answer] = {}

    def take(self, event: Event) -> None:
        import msgspec

        self.revision = event.revision
        if event.type == "synced":
            self.synced = True
        elif event.instance is not None and event.type == "put":
            self._instances[event.instance.name] = msgspec.to_builtins(event.instance)
        elif event.instance is not None:
            self._instances.pop(event.instance.name, None)

    def table(self, *, wide: bool, limit: int) -> tuple[int, Table]:
        """How many rows there are, and the first `limit` of them."""
        if self._service is not None:
            found = [self._instances[name] for name in sorted(self._instances)[:limit]]
            return len(self._instances), instance_table(found, wide=wide, subtree=self._subtree)
        counts = Counter(one["service"] for one in self._instances.values())
        names = sorted(name for name in counts if name.startswith(self._prefix))
        return len(names), (("service", "instances"), [(name, counts[name]) for name in names[:limit]])


def _follow(
    service: str | None, subtree: bool, prefix: str, output: Form, node_url: str, token: str | None
) -> None:
    if output in ("json", "yaml"):
        raise click.UsageError(
            f"--watch draws a table: `discovery watch --output {output}` prints every change"
        )
    if not is_terminal():
        raise click.UsageError(
            "--watch draws on a terminal that can move its cursor: `discovery watch` prints lines anywhere"
        )
    from discovery.cli.screen import Screen
    from discovery.client import Client

    ca, cert, key = tls_files()
    followed = Followed(service, subtree, prefix)

    async def draw(screen: Screen) -> None:
        """Now and then, however fast the events come, and without any: times are as seen now."""
        while True:
            if followed.synced:
                number, table = followed.table(wide=output == "wide", limit=SHOWN)
                title = f"{service or 'services'}: {number:,} at revision {followed.revision}"
                screen.show([(title, *table)])
            await asyncio.sleep(REDRAW)

    async def run() -> None:
        async with (
            Client(node_url, token=token, ca=ca, cert=cert, key=key) as client,
            aclosing(client.watch(service, subtree=subtree)) as events,
        ):
            with Screen() as screen:
                drawing = asyncio.create_task(draw(screen))
                try:
                    async for event in events:
                        followed.take(event)
                finally:
                    drawing.cancel()

    asyncio.run(run())

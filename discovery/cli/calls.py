"""What the commands that call a node share.

Owns the way from a command to a node and back, the arguments SERVICE and INSTANCE, and how a shell completes them: it
asks the node, which has to answer soon, and says nothing where there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from discovery.cli.options import DEFAULT_NODE
from discovery.errors import DiscoveryError

if TYPE_CHECKING:
    from discovery.cli.remote import Answer, Node

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

TIMEOUT = 10.0  # seconds for one call, connecting included
COMPLETION_SECONDS = 2.0  # a person waits with a finger on the tab key
COMPLETIONS = 200


def with_node(url: str, token: str | None, work: Callable[[Node], Awaitable[T]]) -> T:
    """What `work` gives, done with one node."""
    from discovery.cli.remote import Node

    async def run() -> T:
        async with Node(url, token) as node:
            return await work(node)

    return asyncio.run(run())


def call(
    url: str,
    token: str | None,
    method: str,
    *path: str,
    query: Mapping[str, str] | None = None,
    body: Mapping[str, object] | None = None,
    seconds: float = TIMEOUT,
) -> Answer:
    """One call of a node, and its answer's JSON. Raises as `Node.call`."""
    return with_node(
        url, token, lambda node: node.call(method, path, query=query, body=body, seconds=seconds)
    )


def not_empty(_: click.Context, argument: click.Parameter, text: str | None) -> str | None:
    if text == "":
        raise click.UsageError(f"{str(argument.name).upper()} is empty")
    return text


def service_argument(*, required: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a command SERVICE."""
    return click.argument("service", required=required, callback=not_empty, shell_complete=_services)


def instance_argument(*, required: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a command INSTANCE, after SERVICE."""
    return click.argument("instance", required=required, callback=not_empty, shell_complete=_instances)


def _services(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    query = {"prefix": begun, "limit": str(COMPLETIONS)}
    return [one["service"] for one in _asked(context, "services", query=query).get("services", ())]


def _instances(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    service = context.params.get("service")
    found = _asked(context, "services", service).get("instances", ()) if service else ()
    return [one["instance"] for one in found if one["instance"].startswith(begun)]


def _asked(context: click.Context, *path: str, query: Mapping[str, str] | None = None) -> Answer:
    """`{}` where no node answers in time: a shell that completes has no place for errors."""
    node, token = context.params.get("node_url") or DEFAULT_NODE, context.params.get("token")
    try:
        return call(node, token, "GET", "v1", *path, query=query, seconds=COMPLETION_SECONDS)
    except DiscoveryError:
        return {}

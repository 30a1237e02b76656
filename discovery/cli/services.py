"""`discovery register`, `deregister` and `list`: the registry from the command line.

Owns these commands' options and what they print. Everything they know, a node told them over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from discovery.cli.options import instance_options, json_option, node_options, tls_files
from discovery.cli.output import print_json, print_table, say, shown_log

if TYPE_CHECKING:
    from discovery.cli.remote import Answer, Node

T = TypeVar("T")

PAGE = 1000  # services asked for at once


def with_node(url: str, token: str | None, work: Callable[[Node], Awaitable[T]]) -> T:
    """What `work` gives, done with one node."""
    from discovery.cli.remote import Node

    async def run() -> T:
        async with Node(url, token) as node:
            return await work(node)

    return asyncio.run(run())


def not_empty(_: click.Context, argument: click.Parameter, text: str | None) -> str | None:
    if text == "":
        raise click.UsageError(f"{str(argument.name).upper()} is empty")
    return text


@click.command()
@click.argument("service", callback=not_empty)
@click.argument("instance", callback=not_empty)
@instance_options
@click.option("--lease", metavar="ID", help="Hang on a lease made before, not on one of its own.")
@click.option("--keep", is_flag=True, help="Stay, send heartbeats, and deregister on ^C or SIGTERM.")
@json_option
@node_options
def register(
    service: str,
    instance: str,
    fields: dict[str, object],
    lease: str | None,
    keep: bool,
    as_json: bool,
    node_url: str,
    token: str | None,
) -> int:
    """Register INSTANCE of SERVICE, or replace it. SERVICE is relative to the node's zone, such as web.prod.

    \b
    Example:
      discovery register web.prod i1 --host 10.0.0.1 --port 80 --tag blue --lease-ttl 15 --keep
    """
    if keep and fields.get("lease_ttl") == 0:
        raise click.UsageError("--keep needs a lease to keep alive; --lease-ttl 0 lives for ever")
    body = fields if lease is None else {**fields, "lease": lease}
    path = ("v1", "services", service, instance)

    def show(answer: Answer) -> None:
        if as_json:
            print_json(answer)
        else:
            say(_registered(answer))

    if not keep:
        show(with_node(node_url, token, lambda node: node.call("PUT", path, body=body)))
        return 0
    from discovery.cli.keep import keep as keep_registered
    from discovery.client import Client, Registration

    ca, cert, key = tls_files()
    client = Client(node_url, token=token, ca=ca, cert=cert, key=key)
    registration = Registration(
        service,
        instance,
        client=client,
        **body,  # type: ignore[arg-type]  # click has checked them
    )
    with shown_log():
        return asyncio.run(keep_registered(client, registration, show))


def _registered(answer: Answer) -> str:
    where = answer["host"] or "no host"
    if answer["port"]:
        where = f"[{where}]:{answer['port']}" if ":" in where else f"{where}:{answer['port']}"
    if not answer.get("lease_ttl"):
        return f"registered {answer['name']} ({where}), for ever"
    beat = answer.get("heartbeat_every")
    return (
        f"registered {answer['name']} ({where}), lease {answer.get('lease')} of {answer['lease_ttl']} s"
        f", heartbeat every {beat} s"
    )


@click.command()
@click.argument("service", callback=not_empty)
@click.argument("instance", callback=not_empty)
@json_option
@node_options
def deregister(service: str, instance: str, as_json: bool, node_url: str, token: str | None) -> None:
    """Take INSTANCE of SERVICE out.

    \b
    Example:
      discovery deregister web.prod i1
    """
    with_node(node_url, token, lambda node: node.call("DELETE", ("v1", "services", service, instance)))
    if as_json:
        print_json({"service": service, "instance": instance, "deregistered": True})
    else:
        say(f"deregistered {instance} of {service}")


@click.command("list", short_help="List services, or the instances of one.")
@click.argument("service", required=False, callback=not_empty)
@json_option
@node_options
def list_(service: str | None, as_json: bool, node_url: str, token: str | None) -> None:
    """List the services and how many instances each has, or the instances of SERVICE.

    \b
    Example:
      discovery list
      discovery list web.prod --json
    """
    if service is not None:
        answer = with_node(node_url, token, lambda node: node.call("GET", ("v1", "services", service)))
        if as_json:
            print_json(answer)
        elif not answer["instances"]:
            say(f"no instances of {service}")
        else:
            columns = ("instance", "host", "port", "priority", "weight", "tags", "lease_ttl", "drained_at")
            rows = [
                [" ".join(one["tags"]) if column == "tags" else one[column] for column in columns]
                for one in answer["instances"]
            ]
            print_table(columns, rows)
        return
    everything = with_node(node_url, token, _all_services)
    if as_json:
        print_json(everything)
    elif not everything["services"]:
        say("no services are registered")
    else:
        print_table(
            ("service", "instances"), [(one["service"], one["instances"]) for one in everything["services"]]
        )


async def _all_services(node: Node) -> Answer:
    """All pages as one answer, with the revision of the last."""
    services: list[Answer] = []
    query = {"limit": str(PAGE)}
    while True:
        page = await node.call("GET", ("v1", "services"), query=query)
        services.extend(page["services"])
        if not page.get("next"):
            return {"revision": page["revision"], "services": services}
        query["after"] = page["next"]

"""`discovery register`, `deregister` and `heartbeat`: the registry from the command line.

Owns these commands' options and what they print. Everything they know, a node told them over HTTP.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from discovery.cli.calls import call, instance_argument, service_argument
from discovery.cli.options import instance_options, node_options, tls_files
from discovery.cli.output import Form, output_option, printed, say, shown_log

if TYPE_CHECKING:
    from discovery.cli.remote import Answer


@click.command()
@service_argument()
@instance_argument()
@instance_options
@click.option("--lease", metavar="ID", help="Hang on a lease made before, not on one of its own.")
@click.option("--keep", is_flag=True, help="Stay, send heartbeats, and deregister on ^C or SIGTERM.")
@output_option
@node_options
def register(
    service: str,
    instance: str,
    fields: dict[str, object],
    lease: str | None,
    keep: bool,
    output: Form,
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

    def show(answer: Answer) -> None:
        if not printed(output, answer):
            say(_registered(answer))

    if not keep:
        show(call(node_url, token, "PUT", "v1", "services", service, instance, body=body))
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
@service_argument()
@instance_argument()
@output_option
@node_options
def deregister(service: str, instance: str, output: Form, node_url: str, token: str | None) -> None:
    """Take INSTANCE of SERVICE out.

    \b
    Example:
      discovery deregister web.prod i1
    """
    call(node_url, token, "DELETE", "v1", "services", service, instance)
    if not printed(output, {"service": service, "instance": instance, "deregistered": True}):
        say(f"deregistered {instance} of {service}")


@click.command()
@service_argument()
@instance_argument()
@output_option
@node_options
def heartbeat(service: str, instance: str, output: Form, node_url: str, token: str | None) -> None:
    """Renew the lease of INSTANCE of SERVICE once. `register --keep` and `run` do so by themselves.

    \b
    Example:
      discovery heartbeat web.prod i1
    """
    answer = call(node_url, token, "POST", "v1", "services", service, instance, "heartbeat", body={})
    if printed(output, answer):
        return
    if answer["lease"] is None:
        say(f"{instance} of {service} has no lease: it lives for ever")
    else:
        say(f"renewed {instance} of {service} for {answer['lease_ttl']} s (lease {answer['lease']})")

"""`discovery explain` and `discovery zone export`: what DNS answers and why, and a zone as a master file.

Owns what these commands print. The reasons are the node's own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from discovery.cli.calls import call, with_node
from discovery.cli.options import node_options
from discovery.cli.output import Form, output_option, print_table, printed, say

if TYPE_CHECKING:
    from discovery.cli.remote import Answer


@click.command(short_help="Say what DNS answers, and why.")
@click.argument("name")
@click.argument("rtype", metavar="[TYPE]", default="A")
@output_option
@node_options
def explain(name: str, rtype: str, output: Form, node_url: str, token: str | None) -> None:
    """Say what a node's DNS answers and why: which keys matched, which rule left which out, where TTLs come from.

    \b
    Example:
      discovery explain web.prod.discovery.internal SRV
      discovery explain discovery.internal --json
    """
    answer = call(node_url, token, "GET", "v1", "lookup", query={"name": name, "type": rtype})
    if not printed(output, answer):
        _print(answer)


def _print(answer: Answer) -> None:
    where = f"zone {answer['zone']}" if answer["zone"] else "no zone"
    rcode = answer["rcode"] or "what other servers say"
    kept = "from the cache" if answer["cached"] else "made anew"
    say(f"{answer['name']} {answer['type']}: {rcode} ({where}, revision {answer['revision']}, {kept})")
    for remark in answer["remarks"]:
        say(f"  {remark}")
    for section in ("answer", "authority", "additional"):
        if answer[section]:
            say("")
            say(f"{section}:")
            for record in answer[section]:
                say(f"  {record}")
    if answer["services"]:
        say("")
        columns = ("key", "used", "ttl", "from", "found by", "left out because")
        rows = [
            (
                service["key"],
                "yes" if service["used"] else "no",
                service["ttl"],
                service["ttl_from"],
                service["matched_by"],
                service["reason"],
            )
            for service in answer["services"]
        ]
        print_table(columns, rows)
    if answer["unreadable"]:
        say("")
        print_table(("unreadable key", "why"), [(bad["key"], bad["reason"]) for bad in answer["unreadable"]])


@click.group()
def zone() -> None:
    """A node's zones.

    \b
    Example:
      discovery zone export
    """


@zone.command("export")
@click.argument("name", required=False)
@node_options
def zone_export(name: str | None, node_url: str, token: str | None) -> None:
    """Print a zone as a master file, as DNS would answer it now [default: the node's first zone].

    \b
    Example:
      discovery zone export > discovery.internal.zone
      discovery zone export other.example
    """
    query = {"zone": name} if name else {}
    with_node(
        node_url, token, lambda node: node.download("GET", ("v1", "zone"), sys.stdout.buffer, query=query)
    )

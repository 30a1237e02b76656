"""`discovery cluster status` and what changes members, as asked of a running node over HTTP.

Owns these commands: what they print, and when what is wrong makes the exit status 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from discovery.cli.calls import call
from discovery.cli.options import node_options
from discovery.cli.output import Form, output_option, print_table, printed, relative, say
from discovery.cli.snapshots import save_snapshot, tell_snapshot

DEFRAG_SECONDS = 3600.0  # for all members, one after the other

Answer = Mapping[str, Any]  # JSON whose fields http-api.md gives


@click.command()
@node_options
@output_option
def status(node_url: str, token: str | None, output: Form) -> None:
    """Show every node and every member. The exit status is 1 when something is wrong.

    \b
    Example:
      discovery cluster status --node http://10.0.0.1:8053
    """
    answer = call(node_url, token, "GET", "v1", "cluster")
    complaints = list(_complaints(answer))
    if not printed(output, answer):
        print_table(
            ("node", "state", "version", "revision", "lag", "round trip", "clock", "started", "http"),
            [_node_row(node) for node in answer["nodes"]],
        )
        members = answer["store"]["members"]
        if members:
            click.echo()
            newest = max(member["revision"] for member in members)
            print_table(
                ("member", "id", "role", "state", "version", "revision", "lag", "round trip", "size", "url"),
                [_member_row(member, newest) for member in members],
            )
        if complaints:
            click.echo()
        for complaint in complaints:
            say(complaint)
    if complaints:
        click.get_current_context().exit(1)


@click.command()
@click.argument("peer", metavar="PEER-URL")
@node_options
@output_option
def add(peer: str, node_url: str, token: str | None, output: Form) -> None:
    """Give a new member a seat, and print the settings that its node needs.

    PEER-URL is where the other members will reach it. It does not vote before it has started and caught up, which
    then happens by itself. What is printed can be used as the node's configuration file, or be written into it.

    \b
    Example:
      discovery cluster add http://10.0.0.4:2380 > n4.yaml
    """
    members = call(node_url, token, "GET", "v1", "cluster")["store"]["members"]
    answer = call(node_url, token, "POST", "v1", "cluster", "members", body={"peer": peer})
    if printed(output, answer):
        return
    running = [member["url"] for member in members if member["healthy"]]
    for line in settings_of_new(answer["member"], running):
        click.echo(line)


def settings_of_new(member: Answer, running: Sequence[str]) -> Iterator[str]:
    """The lines of YAML with which a node takes the seat; `running`: client URLs of members."""
    peer = urlsplit(member["peer"])
    host = f"[{peer.hostname}]" if ":" in (peer.hostname or "") else peer.hostname
    yield f"# The member {member['id']} has a seat at {member['peer']}. It votes when it has started and caught up."
    yield "store:"
    yield "  engine: managed-etcd"
    yield "  member:"
    yield f"    client: {peer.scheme}://{host}:2379"
    yield f"    peer: {member['peer']}"
    yield f"    join: {running[0] if running else 'CLIENT-URL-OF-A-MEMBER'}"
    if peer.scheme == "https":
        yield "    cert: FILE   # cert, key and ca as `discovery cluster certs` makes them"
        yield "    key: FILE"
        yield "    ca: FILE"


@click.command()
@click.argument("member", metavar="NAME-OR-ID")
@node_options
@output_option
def remove(member: str, node_url: str, token: str | None, output: Form) -> None:
    """Take a member out of the cluster, whether it runs or is lost. Its data is worth nothing afterwards.

    What would cost the quorum is refused.

    \b
    Example:
      discovery cluster remove n3
    """
    answer = call(node_url, token, "DELETE", "v1", "cluster", "members", member)
    if printed(output, answer):
        return
    left = ", ".join(_name(other) for other in answer["others"])
    say(f"{_name(answer['member'])} is removed; left: {left}")
    say("Move the folder etcd in its store.path away before a node joins from there again.")


@click.command()
@click.argument("member", metavar="NAME-OR-ID")
@node_options
@output_option
def promote(member: str, node_url: str, token: str | None, output: Form) -> None:
    """Let a member vote that does not as yet. Nodes do so by themselves; this is for a member of another kind.

    \b
    Example:
      discovery cluster promote n4
    """
    answer = call(node_url, token, "POST", "v1", "cluster", "members", member, "promote")
    if not printed(output, answer):
        say(f"{_name(answer['member'])} votes now")


@click.command()
@node_options
@output_option
def defrag(node_url: str, token: str | None, output: Form) -> None:
    """Drop all history and give the space back, member by member. Mends a full quota (NOSPACE).

    A member answers nothing while it is at it, up to seconds a gigabyte. Delete first what is not needed.

    \b
    Example:
      discovery cluster defrag
    """
    answer = call(node_url, token, "POST", "v1", "cluster", "defrag", seconds=DEFRAG_SECONDS)
    if not printed(output, answer):
        for line in (*answer["done"], *answer["undone"]):
            say(line)
    if answer["undone"]:
        click.get_current_context().exit(1)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@node_options
def snapshot(file: Path, output: Form, node_url: str, token: str | None) -> None:
    """Write a snapshot of the cluster to FILE, which must not exist. Any node will do.

    \b
    Example:
      discovery cluster snapshot backup-$(date +%F).db
    """
    tell_snapshot(file, save_snapshot(file, node_url, token), output)


def _name(member: Answer) -> str:
    return str(member["name"] or member["id"])


def _node_row(node: Answer) -> Sequence[object]:
    state = {True: "ready", False: "not ready", None: "unknown"}[node["ready"]]
    return (
        node["name"],
        "stale" if node["stale"] else state,
        node["version"],
        node["revision"],
        node["lag"],
        _milliseconds(node["round_trip_ms"]),
        _milliseconds(node["clock_offset_ms"], sign="+"),
        relative(node["started_at"]),
        " ".join(node["http"]),
    )


def _member_row(member: Answer, newest: int) -> Sequence[object]:
    answered = member["round_trip_ms"] is not None
    return (
        member["name"],
        member["id"],
        member["role"],
        "healthy" if member["healthy"] else "ill" if answered else "silent",
        member["version"],
        member["revision"] if answered else None,
        newest - member["revision"] if answered else None,
        _milliseconds(member["round_trip_ms"]),
        f"{member['size'] / 1e6:.1f} MB" if answered else None,
        member["url"],
    )


def _milliseconds(value: float | None, sign: str = "") -> str | None:
    return None if value is None else f"{value:{sign}.1f} ms"


def _complaints(answer: Answer) -> Iterator[str]:
    """A sentence for each thing that is wrong."""
    for node in answer["nodes"]:
        if node["error"]:
            yield f"node {node['name']}: {node['error']}"
        elif node["stale"]:
            yield f"node {node['name']}: it answers from a view that is no longer kept up to date"
        elif node["ready"] is False:
            yield f"node {node['name']}: it is not ready"
    store = answer["store"]
    for member in store["members"]:
        if not member["healthy"]:
            yield f"member {_name(member)}: {member['error'] or 'it is not healthy'}"
        elif member["role"] == "learner":
            yield f"member {_name(member)}: it does not vote yet"
    for error in store["errors"]:
        yield f"store: {error}"
    if not store["reachable"] and not store["errors"]:
        yield "store: it is out of reach"

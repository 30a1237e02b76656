"""`discovery health`, `metrics` and `api`: what a node says of itself, and any other call of its API.

Owns these three. `health` is for load balancers and containers, too: its exit status is the answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import urlencode

import click
from yarl import URL

from discovery.cli.calls import call, with_node
from discovery.cli.options import node_options, pairs
from discovery.cli.output import Form, output_option, printed, say
from discovery.errors import DiscoveryError, InvalidField, NodeUnreachable

METHODS = ("GET", "PUT", "POST", "DELETE")


@click.command(short_help="Say whether a node answers DNS; the exit status says so too.")
@click.option("--writes", is_flag=True, help="Also that the store takes writes.")
@output_option
@node_options
def health(writes: bool, output: Form, node_url: str, token: str | None) -> int:
    """Say whether the node lives and can answer DNS. The exit status is 1 when it can't.

    \b
    Example:
      discovery health
      discovery health --writes || systemctl restart discovery
    """
    alive = call(node_url, token, "GET", "healthz")
    why = ""
    try:
        ready = call(node_url, token, "GET", "readyz", query={"writes": "true"} if writes else None)
    except NodeUnreachable:
        raise
    except DiscoveryError as error:
        ready, why = {}, error.detail
    good = not why
    document = {"alive": True, "ready": good, "reason": why} | alive | ready
    if not printed(output, document | {"status": "ready" if good else "not ready"}):
        stale = "; its answers may be old, the store is out of reach" if ready.get("stale") else ""
        say(f"ready at revision {ready['revision']}{stale}" if good else f"not ready: {why}")
    return int(not good)


@click.command()
@node_options
def metrics(node_url: str, token: str | None) -> None:
    """Print a node's figures as Prometheus reads them. `discovery top` shows what they mean.

    \b
    Example:
      discovery metrics | grep dns_responses
    """
    with_node(
        node_url,
        token,
        lambda node: node.download("GET", ("metrics",), sys.stdout.buffer),
    )


@click.command(short_help="Make any call of the API, and print the answer.")
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path")
@click.option("--body", metavar="JSON", help="What to send: JSON, @FILE, or - for standard input.")
@click.option(
    "--form",
    "fields",
    multiple=True,
    metavar="KEY=VALUE",
    help="A field of a form, for /v2/keys; repeatable.",
)
@node_options
def api(
    method: str, path: str, body: str | None, fields: tuple[str, ...], node_url: str, token: str | None
) -> None:
    """Make any call of the API, with the token and certificates of the other commands, and print the answer.

    PATH begins with a slash, is quoted already, and may have a query. `discovery api GET /openapi.json` describes all
    calls.

    \b
    Example:
      discovery api GET /v1/services?prefix=web
      discovery api PUT /v1/services/web.prod/i1 --body '{"host": "10.0.0.1"}'
      discovery api PUT /v2/keys/skydns/internal/discovery/db/1 --form 'value={"host": "10.0.0.9"}'
    """
    if not path.startswith("/"):
        raise click.BadParameter(f"{path!r} does not begin with /", param_hint="PATH")
    if body is not None and fields:
        raise click.UsageError("--body and --form: give one of them")
    content = urlencode(pairs(fields, "--form")).encode() if fields else None
    target = URL(path, encoded=True)
    with_node(
        node_url,
        token,
        lambda node: node.download(
            method,
            target.path.split("/")[1:],
            sys.stdout.buffer,
            query=target.query,
            content=content if body is None else _content(body),
            content_type="application/x-www-form-urlencoded" if fields else "application/json",
        ),
    )
    if sys.stdout.isatty():
        click.echo()


def _content(body: str) -> bytes:
    """Raises InvalidField for what can't be read or is no JSON: a node would say less about it."""
    try:
        if body == "-":
            text = sys.stdin.read()
        else:
            text = Path(body[1:]).read_text(encoding="utf-8") if body.startswith("@") else body
        json.loads(text)
    except OSError as error:
        raise InvalidField(f"--body: {body[1:]} cannot be read: {error.strerror}", field="body") from None
    except ValueError as error:
        raise InvalidField(f"--body: it is no JSON: {error}", field="body") from None
    return text.encode()

"""`discovery doctor`: everything that can be wrong around a node, and what to do about each.

Owns the command: what is looked at in which order, the questions to the node, how the findings are shown, and the exit
status. The verdicts are `findings`' and `doctor_dns`'s. It changes nothing, and works without a node, too.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click
import msgspec
from click.core import ParameterSource

from discovery import __version__
from discovery.cli import findings
from discovery.cli.findings import Finding
from discovery.cli.options import config_loader, config_options, node_options, token_file
from discovery.cli.output import Form, is_coloured, output_option, printed, say
from discovery.cli.progress import progress
from discovery.cli.tables import clean
from discovery.errors import ConfigError, DiscoveryError, NodeUnreachable

if TYPE_CHECKING:
    from discovery.cli.remote import Answer, Node
    from discovery.settings import Config

NARROW = 60  # characters of a terminal: below it sentences begin further left
SHOWN_RECORDS = 3  # unreadable ones that are named
COLOURS = {"ok": "green", "skipped": "bright_black", "warning": "yellow", "wrong": "red"}


@click.command(short_help="Look for what is wrong, and say what to do.")
@click.option(
    "--resolver",
    "resolvers",
    multiple=True,
    metavar="HOST[:PORT]",
    help="A resolver that must lead to the zones; repeatable [default: those of /etc/resolv.conf, which may not].",
)
@config_options
@output_option
@node_options
def doctor(resolvers: tuple[str, ...], output: Form, node_url: str, token: str | None) -> int:
    """Look at ports, disk, permissions, certificates, clocks, the node and its store, stored records, versions, and
    whether resolvers lead to the zones.

    Without a node it looks at this machine, as its configuration has it; with --node it says what is for a node started
    here, and not for that one. The exit status is 1 when something is wrong;
    warnings leave it 0.

    \b
    Example:
      discovery doctor --config /etc/discovery/discovery.yaml
      discovery doctor --resolver 10.0.0.2 --output json
    """
    from discovery.cli.doctor_dns import resolver_address

    for text in resolvers:
        try:
            resolver_address(text)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--resolver") from None
    source = click.get_current_context().get_parameter_source("node_url")
    named = node_url if source is not ParameterSource.DEFAULT else None
    found = []
    with progress() as show:
        for finding in _look(named, token, resolvers):
            found.append(finding)
            show(finding.check, len(found), 0)
    wrong, warnings = findings.worst(found)
    document = {
        "wrong": wrong,
        "warnings": warnings,
        "findings": [
            {"check": each.check, "verdict": each.verdict, "said": each.said, "do": each.do} for each in found
        ],
    }
    if not printed(output, document):
        _show(found)
        say(_sum(wrong, warnings))
    return int(wrong > 0)


def _look(named: str | None, token: str | None, resolvers: Sequence[str]) -> Iterator[Finding]:
    """`named`: the node that was asked for; None: the one that the configuration describes."""
    from discovery.cli import doctor_dns, doctor_machine
    from discovery.config import Config

    try:
        loaded = config_loader()()
        config = loaded.config
        where = loaded.path or "no file: all settings have their defaults"
        yield Finding("configuration", "ok", str(where))
    except ConfigError as error:
        config = Config()
        yield Finding("configuration", "wrong", error.detail, "correct it; the defaults stand for it here")
    for finding in chain(
        doctor_machine.ports(config),
        doctor_machine.disk(config),
        doctor_machine.permissions(config, token_file()),
        doctor_machine.certificates(config, time.time()),
    ):
        yield _started_here(finding) if named else finding
    yield doctor_machine.own_clock()
    url = named or _own_url(config)
    runs = True
    try:
        yield from _of_node(url, token)
    except NodeUnreachable as error:
        runs = False
        if named is not None:
            yield Finding("node", "wrong", error.detail)
        else:
            yield Finding("node", "skipped", f"no node answers at {url}", "start it with `discovery serve`")
            yield from doctor_machine.stopped_store(config)
    except DiscoveryError as error:
        do = "give --token-file, with a token of the role operate" if error.status == 403 else ""
        yield Finding("node", "wrong", f"{url}: {error.detail}", do)
    yield from doctor_dns.look(config, resolvers, runs=runs and named is None)


def _started_here(finding: Finding) -> Finding:
    """The node that was named may have another configuration than this one."""
    return msgspec.structs.replace(finding, said=f"for a node started here: {finding.said}")


def _own_url(config: Config) -> str:
    """Where the node that the configuration describes is reached from here."""
    from discovery.announcement import address_text
    from discovery.cli.doctor_dns import seen_from_here

    scheme = "https" if config.http.tls.cert else "http"
    return f"{scheme}://{address_text(seen_from_here(config.http.listen[0]))}"


def _of_node(url: str, token: str | None) -> Iterator[Finding]:
    """Raises NodeUnreachable, and what else a node says no with."""
    from discovery.cli.calls import with_node

    async def ask(node: Node) -> tuple[float, float, Answer, Answer, Answer, Answer]:
        begun = time.time()
        health = await node.call("GET", ("healthz",))
        ended = time.time()
        answers = await asyncio.gather(
            node.call("GET", ("v1", "cluster")),
            node.call("GET", ("v1", "store")),
            node.call("GET", ("v1", "lookup"), query={"name": "."}),  # the root: all unreadable keys
        )
        return begun, ended, health, *answers

    begun, ended, health, cluster, store, lookup = with_node(url, token, ask)
    half = (ended - begun) / 2
    yield findings.clock("the node, seen from here,", health["time_ms"] / 1000 - begun - half, half)
    yield from findings.nodes(cluster)
    yield from findings.versions(__version__, cluster)
    yield from findings.store(store, cluster)
    bad = [(one["key"], one["reason"]) for one in lookup["unreadable"]]
    yield findings.unreadable(len(bad), bad[:SHOWN_RECORDS])


def _show(found: Sequence[Finding]) -> None:
    """On a terminal folded at its width; in a pipe each sentence is one line."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for finding in found:
        first, *rest = lines(finding, width)
        if is_coloured():
            verdict = first[: len(finding.verdict)]
            first = click.style(verdict, fg=COLOURS[finding.verdict]) + first[len(verdict) :]
        for line in (first, *rest):
            click.echo(line)


def lines(finding: Finding, width: int) -> Iterator[str]:
    """A finding as it is shown on `width` characters; 0: however long its lines become."""
    indent = 9 if 0 < width < NARROW else 23
    yield from _folded(f"{finding.verdict:8} {finding.check:13} {clean(finding.said)}", indent, width)
    if finding.do:
        yield from _folded(f"{'':{indent}}to do: {clean(finding.do)}", indent, width)


def _folded(text: str, indent: int, width: int) -> list[str]:
    if not width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def _sum(wrong: int, warnings: int) -> str:
    if not wrong and not warnings:
        return "nothing is wrong"
    parts = [f"{wrong} wrong"] if wrong else []
    if warnings:
        parts.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    return ", ".join(parts)

"""`discovery cluster certs`: the CA of a cluster and the certificates of its nodes.

Owns how they are asked for and shown. What they hold and when they are due is `kv.certificates`' and
`kv.certificate_files`'.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from discovery.cli.output import Form, output_option, print_table, printed
from discovery.errors import ConfigError

if TYPE_CHECKING:
    from discovery.kv.certificate_files import Entry


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME=ADDRESS[,ADDRESS]",
    help="A node and every address and name that others reach it by; repeatable.",
)
@click.option(
    "--force", is_flag=True, help="Make every certificate anew, nodes' keys too; the CA keeps its key."
)
@click.option(
    "--check", is_flag=True, help="Only look; exit with 1 when one is broken or ends within 30 days."
)
@output_option
def certs(folder: Path, nodes: tuple[str, ...], force: bool, check: bool, output: Form) -> int:
    """Make a CA and a certificate for each node in DIR, and renew what ends within 30 days.

    Run it again to renew, with --node only for new nodes and new addresses. Each node needs ca.pem, NAME.pem and
    NAME-key.pem of it; ca-key.pem stays here, and nobody else may read it.

    \b
    Example:
      discovery cluster certs ./certs --node n1=10.0.0.1 --node n2=10.0.0.2,n2.example.net
      discovery cluster certs ./certs --check
    """
    try:
        from discovery.kv import certificate_files
    except ImportError as error:
        raise ConfigError(
            f"certificates need the package {error.name}: install discovery-dns[etcd]"
        ) from None

    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    wanted = dict(map(_node, nodes))
    if len(wanted) != len(nodes):
        raise click.UsageError("a node is named twice: write its addresses with commas between them")
    if check and (force or nodes):
        raise click.UsageError("--check only looks: leave out --node and --force")
    if check:
        outcomes = [(entry, "") for entry in certificate_files.look(folder, now)]
    else:
        outcomes = [
            (each.entry, each.why) for each in certificate_files.renew(folder, wanted, now, force=force)
        ]
    if not printed(output, [_json(entry, why) for entry, why in outcomes]):
        print_table(("file", "good for", "ends", "state"), [_row(entry, why, now) for entry, why in outcomes])
    return int(any(entry.trouble for entry, _ in outcomes))


def _node(text: str) -> tuple[str, list[str]]:
    name, equals, hosts = text.partition("=")
    listed = [each.strip() for each in hosts.split(",")]
    if not equals or not name or not all(listed):
        raise click.UsageError(f"--node: expected NAME=ADDRESS[,ADDRESS], such as n1=10.0.0.1; got {text!r}")
    return name, listed


def _row(entry: Entry, why: str, now: datetime.datetime) -> tuple[str, str, str, str]:
    from discovery.kv.certificate_files import days_left

    state = entry.trouble or f"good for {days_left(entry.ends, now) if entry.ends else 0} days"
    if why:
        state += f"; made now ({why})"
    return str(entry.file), ", ".join(entry.hosts), f"{entry.ends:%Y-%m-%d}" if entry.ends else "", state


def _json(entry: Entry, why: str) -> dict[str, object]:
    return {
        "file": str(entry.file),
        "hosts": list(entry.hosts),
        "ends": None if entry.ends is None else entry.ends.isoformat().replace("+00:00", "Z"),
        "trouble": entry.trouble,
        "made": why,
    }

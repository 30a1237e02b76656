"""`discovery batch`: many registrations and removals from a file, in few calls.

Owns how the file is read (YAML, JSON, or a line of JSON an operation), how it is cut into calls, and what is said of
those that were refused. An operation that is wrong does not stop the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from discovery.cli.calls import call
from discovery.cli.options import node_options
from discovery.cli.output import Form, output_option, print_table, printed, say
from discovery.cli.progress import progress
from discovery.errors import InvalidField

AT_ONCE = 1000  # operations in a call: the node takes 10,000, of up to 8 MiB
SECONDS = 60.0  # for a call

Operation = dict[str, Any]  # JSON that http-api.md gives


@click.command(short_help="Register and deregister many instances from a file.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@output_option
@node_options
def batch(file: Path, output: Form, node_url: str, token: str | None) -> int:
    """Do what FILE says: a list of operations in YAML or JSON, or one in JSON a line; - is standard input.

    Each is {"put": {"service": ..., "instance": ..., "host": ...}} or {"delete": {"service": ..., "instance": ...}}.
    The exit status is 1 when one of them was refused; the others are done all the same.

    \b
    Example:
      discovery batch services.yaml
      echo '[{"put": {"service": "web.prod", "instance": "i1", "host": "10.0.0.1"}}]' | discovery batch -
    """
    operations = read(file)
    results: list[dict[str, Any]] = []
    revision = 0
    with progress() as show:
        for at in range(0, len(operations), AT_ONCE):
            part = operations[at : at + AT_ONCE]
            answer = call(node_url, token, "POST", "v1", "batch", body={"operations": part}, seconds=SECONDS)
            results += answer.get("results", ())
            revision = answer.get("revision", 0)
            show("operations", len(results), len(operations))
    refused = [
        (number, _name(operation), result["problem"].get("detail", ""))
        for number, (operation, result) in enumerate(zip(operations, results, strict=False), 1)
        if "problem" in result
    ]
    if not printed(output, {"revision": revision, "results": results}):
        say(f"{len(results) - len(refused)} of {len(operations)} operations are done")
        if refused:
            print_table(("operation", "of", "refused because"), refused)
    return int(bool(refused))


def read(file: Path) -> Sequence[Operation]:
    """The operations of `file`. Raises InvalidField."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}", field="FILE"
        ) from None
    found = _parsed(text, file)
    if isinstance(found, dict):
        found = found.get("operations", found if len(found) == 1 else None)
        found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
        raise InvalidField(f"{file} holds no list of operations: see `discovery batch --help`", field="FILE")
    return found


def _parsed(text: str, file: Path) -> object:
    import yaml

    try:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        return lines[0] if len(lines) == 1 else lines
    except ValueError:
        pass  # not a line an operation
    try:
        return yaml.safe_load(text)  # JSON is YAML
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place is not None else ""
        raise InvalidField(
            f"{file}{where} is neither YAML nor JSON: {getattr(error, 'problem', None) or error}",
            field="FILE",
        ) from None


def _name(operation: Operation) -> str:
    for verb, body in operation.items():
        if isinstance(body, dict):
            return f"{verb} {body.get('instance')}.{body.get('service')}"
    return "?"

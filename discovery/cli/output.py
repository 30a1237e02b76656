"""What commands print on standard output.

Owns `--output` with its short form `--json`, and how each form is printed: tables for people (drawn on a terminal that
has room, a block a row on one that has none, plain aligned columns for pipes and with NO_COLOR), JSON and YAML for
programs; and the client's log lines on standard error. Text that came from elsewhere is printed without control
characters.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, ParamSpec, TypeVar

import click

from discovery.cli import tables

P = ParamSpec("P")
R = TypeVar("R")

Form = Literal["table", "wide", "json", "yaml"]
FORMS: tuple[Form, ...] = ("table", "wide", "json", "yaml")
_AS_JSON = "discovery.json"


def output_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--output`, and `--json` as a short form of `--output json`; it gets `output`, a Form."""

    def keep(context: click.Context, _: click.Parameter, as_json: bool) -> None:
        context.meta[_AS_JSON] = as_json

    def choose(context: click.Context, _: click.Parameter, form: Form | None) -> Form:
        if context.meta.get(_AS_JSON):
            if form not in (None, "json"):
                raise click.UsageError(f"--json and --output {form}: give one of them")
            return "json"
        return form or "table"

    command = click.option(
        "--json",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=keep,
        help="Print JSON, for programs: --output json.",
    )(command)
    return click.option(
        "--output",
        "-o",
        type=click.Choice(FORMS),
        callback=choose,
        help="How to print it [default: table]; wide has more columns, json and yaml have everything.",
    )(command)


def printed(form: Form, value: object) -> bool:
    """Prints what programs read, where that was asked for; False: it is for people, and still to be shown."""
    if form == "json":
        print_json(value)
    elif form == "yaml":
        print_yaml(value)
    else:
        return False
    return True


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def print_yaml(value: object) -> None:
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_multi_representer(dict, Dumper.represent_dict)  # of a kind of its own, too
    click.echo(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True), nl=False)


def say(text: str) -> None:
    """One line."""
    click.echo(tables.clean(text))


@contextmanager
def shown_log() -> Iterator[None]:
    """Meanwhile what the client logs comes on standard error, for whoever runs the command."""
    log = logging.getLogger("discovery.client")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("discovery: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


def relative(instant: str | None) -> str:
    """An RFC 3339 time as a person says it now: `in 12 s`."""
    return tables.relative(instant, time.time())


def is_terminal() -> bool:
    """Whether a person looks on who can be shown what moves in place."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def is_coloured() -> bool:
    """Whether that may have colours and lines, too: no-color.org."""
    return is_terminal() and not os.environ.get("NO_COLOR")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; cells are never cut, and two spaces stand between plain columns."""
    cells = tables.cells(rows)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        if sum(wide := tables.widths(columns, cells)) + 2 * (len(wide) - 1) > width:
            for line in tables.blocks(columns, cells, width):
                click.echo(line)
            return
        if is_coloured():
            _draw(columns, cells, width)
            return
    for line in tables.aligned(columns, cells):
        click.echo(line)


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> None:
    """Draw with rich."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.upper(), no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    Console(width=width).print(table)

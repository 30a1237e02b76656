"""What commands print on standard output.

Owns tables (drawn for people on a terminal, plain aligned columns for pipes, NO_COLOR and narrow terminals) and
JSON, and the client's log lines on standard error. Text that came from elsewhere is printed without control
characters, so that it cannot steer a terminal.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def say(text: str) -> None:
    """One line."""
    click.echo(_clean(text))


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


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; in plain form cells are never cut, and two spaces stand between columns."""
    cells = [["" if cell is None else _clean(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR") and _draw(columns, cells, widths):
        return
    for line in ([column.upper() for column in columns], *cells):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]], widths: Sequence[int]) -> bool:
    """Draw with rich; False when the terminal is too narrow to show every cell whole."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if sum(widths) + 2 * len(widths) > console.width:
        return False
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)
    return True


def _clean(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)

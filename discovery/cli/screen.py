"""A live view: tables under each other on a terminal, drawn anew in place.

Owns the terminal while it is open (rich's Live on the alternate screen, which comes back as it was) and what is left
out where it is too small. It is for terminals only; what is shown is the command's.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from discovery.cli import tables

Section = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""A title, columns, rows; without columns the rows' first cells are lines."""
PER_SECOND = 4.0  # drawn anew at most


class Screen:
    """For `with`."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(
            console=self._console, screen=True, auto_refresh=True, refresh_per_second=PER_SECOND
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, sections: Sequence[Section], note: str = "^C ends it") -> None:
        size = self._console.size
        self._live.update(drawn(sections, note, size.height))


def drawn(sections: Sequence[Section], note: str, height: int) -> Group:
    """As much as `height` lines hold: every section gets its share of what the others leave."""
    room = height - 1 - sum(2 + bool(columns) * 2 for _, columns, _ in sections)
    parts: list[Text | Table] = []
    for number, (title, columns, rows) in enumerate(sections):
        share = max(1, room // (len(sections) - number))
        cells = tables.cells(rows)
        left = cells if len(cells) <= share else cells[: share - 1]
        room -= len(left) + (len(left) < len(cells))
        parts.append(Text(tables.clean(title), style="bold", no_wrap=True, overflow="ellipsis"))
        table = Table(
            box=box.SIMPLE_HEAD if columns else None,
            show_header=bool(columns),
            show_edge=False,
            pad_edge=False,
            padding=(0, 2, 0, 0),
        )
        for column in columns or [""] * max(map(len, cells), default=0):
            table.add_column(column.upper(), no_wrap=True, overflow="ellipsis")
        for row in left:
            table.add_row(*map(Text, row))
        parts.append(table)
        if len(left) < len(cells):
            parts.append(Text(f"and {len(cells) - len(left):,} more", style="dim"))
        parts.append(Text(""))
    parts.append(Text(note, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)

"""A live view: tables under each other on a terminal, drawn anew in place.

Owns the terminal while it is open (rich's Live on the alternate screen, which comes back as it was) and what is left
out where it is too small. It is for terminals only; what is shown, and when, is the command's.
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
from discovery.cli.output import is_coloured

Section = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""A title, columns, rows; there may be no columns: then the rows have no head."""
LEAST = 8  # characters for a column that does not fit whole; with fewer it is left out
GAP = 2  # characters between columns


class Screen:
    """For `with`."""

    def __init__(self) -> None:
        self._console = Console(no_color=not is_coloured())
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, sections: Sequence[Section], note: str = "^C ends it") -> None:
        """In place of what was shown before."""
        size = self._console.size
        self._live.update(drawn(sections, note, size.width, size.height), refresh=True)


def drawn(sections: Sequence[Section], note: str, width: int, height: int) -> Group:
    """As much as fits: every section gets its share of the lines that the others leave, and the columns on its right
    make room where it is too wide."""
    room = height - 1 - sum(2 + bool(columns) * 2 for _, columns, _ in sections)
    parts: list[Text | Table] = []
    for number, (title, columns, rows) in enumerate(sections):
        share = max(1, room // (len(sections) - number))
        left = tables.cells(rows if len(rows) <= share else rows[: share - 1])
        room -= len(left) + (len(left) < len(rows))
        parts.append(Text(tables.clean(title), style="bold", no_wrap=True, overflow="ellipsis"))
        parts.append(_table(columns, left, width))
        if len(left) < len(rows):
            parts.append(Text("and more", style="dim"))
        parts.append(Text(""))
    parts.append(Text(note, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> Table:
    heads = [column.upper() for column in columns] or [""] * max(map(len, cells), default=0)
    kept = fitting(tables.widths(heads, cells), width)
    table = Table(
        box=box.SIMPLE_HEAD if columns else None,
        show_header=bool(columns),
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0) if columns else (0, GAP, 0, 0),
        collapse_padding=True,
    )
    for head, size in zip(heads, kept, strict=False):
        table.add_column(head, no_wrap=True, overflow="ellipsis", width=size)
    for row in cells:
        table.add_row(*map(Text, row[: len(kept)]))
    return table


def fitting(widths: Sequence[int], room: int) -> list[int]:
    """The widths of the columns that are shown in `room`: the last one may be less than whole."""
    kept: list[int] = []
    for width in widths:
        left = room - sum(kept) - GAP * len(kept)
        if width > left and (left < LEAST and kept):
            break
        kept.append(min(width, left))
        if width > left:
            break
    return kept

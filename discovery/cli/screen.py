"""A live view: tables under each other on a terminal, drawn anew in place.

Owns the terminal while it is open (rich's Live on the alternate screen, which comes back as it was) and what is left
out where it is too small. It is for terminals only; what is shown, and when, is the command's.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from discovery.cli import tables
from discovery.cli.output import is_coloured
from discovery.cli.tables import Section

LEAST = 8  # characters for a column that does not fit whole; with fewer it is left out
GAP = 2  # characters between columns
BETWEEN = 4  # characters between tables side by side
FEW = 5  # rows that a table gets before rules and blank lines do


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

    def show(self, sections: Sequence[Section], note: str = "^C ends it", *, figures: bool = False) -> None:
        """In place of what was shown before."""
        size = self._console.size
        self._live.update(drawn(sections, note, size.width, size.height, figures=figures), refresh=True)


def drawn(sections: Sequence[Section], note: str, width: int, height: int, *, figures: bool = False) -> Group:
    """As much as fits: every section gets its share of the lines that the others leave, and the columns on its right
    make room where it is too wide. `figures`: the first two get their lines before the others, and stand side by side
    where both fit. Rules and blank lines are left out where rows need their room."""
    blocks = [[section] for section in sections]
    before = 2 if figures else 0
    if figures and sum(map(_width, sections[:2])) + BETWEEN <= width:
        blocks[:2] = [[*sections[:2]]]
        before = 1
    rows = [max(len(section[2]) for section in block) for block in blocks]
    wanted = sum(rows[:before]) + sum(min(FEW, number) for number in rows[before:])
    roomy = height - _heads(blocks, roomy=True) >= wanted
    room = height - _heads(blocks, roomy=roomy)
    parts: list[RenderableType] = []
    for number, block in enumerate(blocks):
        others = len(blocks) - number - 1
        share = max(1, room - others if number < before else room // (others + 1))
        room -= min(share, rows[number])
        parts.append(_title(block[0]))
        shown = [_rows(section, share, width, roomy=roomy) for section in block]
        if len(block) == 1:
            parts.append(shown[0])
        else:  # the other title stands where the first table has its head
            grid = Table.grid(padding=(0, BETWEEN, 0, 0))
            grid.add_row(shown[0], Group(_title(block[1]), *[Text("")] * roomy, shown[1]))
            parts.append(grid)
        if roomy:
            parts.append(Text(""))
    parts.append(Text(note, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _heads(blocks: Sequence[Sequence[Section]], *, roomy: bool) -> int:
    """The lines that are no rows: titles, heads, the note; with rules and blank lines when `roomy`."""
    return 1 + sum(1 + roomy + bool(block[0][1]) * (1 + roomy) for block in blocks)


def _width(section: Section) -> int:
    """The characters that its table takes, and its title where that stands beside another's table."""
    title, columns, rows = section
    widths = tables.widths(_columns(columns, rows), tables.cells(rows))
    return max(sum(widths) + GAP * (len(widths) - 1), 0 if columns else len(title))


def _columns(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [column.upper() for column in columns] or [""] * max(map(len, rows), default=0)


def _title(section: Section) -> Text:
    return Text(tables.clean(section[0]), style="bold", no_wrap=True, overflow="ellipsis")


def _rows(section: Section, share: int, width: int, *, roomy: bool) -> Group:
    """`share`: lines that there are for them."""
    _, columns, rows = section
    left = tables.cells(rows if len(rows) <= share else rows[: share - 1])
    more = [Text("and more", style="dim")] if len(left) < len(rows) else []
    if not columns and not left:  # rich would draw an empty line
        return Group(*more)
    heads = _columns(columns, left)
    kept = fitting(tables.widths(heads, left), width)
    ruled = roomy and bool(columns)
    table = Table(
        box=box.SIMPLE_HEAD if ruled else None,
        show_header=bool(columns),
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0) if ruled else (0, GAP, 0, 0),
        collapse_padding=True,
    )
    for head, size in zip(heads, kept, strict=False):
        table.add_column(head, no_wrap=True, overflow="ellipsis", width=size)
    for row in left:
        table.add_row(*map(Text, row[: len(kept)]))
    return Group(table, *more)


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

"""How rows are laid out as lines, for a width that is given.

Pure: it owns aligned columns, the blocks that stand for them where a terminal is too narrow, and times in a person's
words. It never prints, and asks no terminal and no clock.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime

Section = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""A title, columns, rows; there may be no columns: then the rows have no head."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_TWO_PARTS = 3  # of a unit: from here on the smaller one no longer counts


def clean(text: str) -> str:
    """Without control characters, so that it cannot steer a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def cells(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    """Every cell as one line of text; None is empty."""
    return [["" if cell is None else clean(str(cell)) for cell in row] for row in rows]


def widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(columns, *rows, strict=True)]


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns with two spaces between them, as wide as they need; cells are never cut."""
    wide = widths(columns, rows)
    for line in ([column.upper() for column in columns], *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, wide, strict=True)).rstrip()


def blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """A block a row, a line a cell that is not empty, an empty line between blocks; folded at `width` characters."""
    label = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            yield ""
        for column, cell in zip(columns, row, strict=True):
            if cell:
                yield from _folded(f"{column.upper():{label}}  ", cell, width)


def _folded(lead: str, text: str, width: int) -> Iterator[str]:
    lines = textwrap.wrap(text, max(width - len(lead), 10), break_on_hyphens=False) or [""]
    yield (lead + lines[0]).rstrip()
    for line in lines[1:]:
        yield " " * len(lead) + line


def duration(seconds: float) -> str:
    """`12 s`, `3 min`, `1 h 20 min`, `5 d`: two units while the first is small."""
    left = max(0, round(seconds))
    for at, (unit, size) in enumerate(_UNITS):
        if left >= size:
            text = f"{left // size} {unit}"
            rest = left % size
            if at + 1 < len(_UNITS) and left // size < _TWO_PARTS:
                smaller, smaller_size = _UNITS[at + 1]
                if rest // smaller_size:
                    text += f" {rest // smaller_size} {smaller}"
            return text
    return "0 s"


def relative(time: str | None, now: float) -> str:
    """An RFC 3339 time as seen at `now`, seconds since the epoch: `in 12 s`, `5 min ago`; "" for None."""
    if not time:
        return ""
    ahead = datetime.fromisoformat(time).timestamp() - now
    if abs(ahead) < 0.5:
        return "now"
    return f"in {duration(ahead)}" if ahead > 0 else f"{duration(-ahead)} ago"

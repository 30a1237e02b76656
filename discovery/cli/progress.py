"""How far a long command is: a line that moves on standard error, only where a person looks on.

Owns that line. On a pipe, in a log, or when it takes less than a moment, nothing is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[str, int, int], None]
"""What is done, how much of it, and of how much in all (0: unknown)."""


@contextmanager
def progress(*, size: bool = False) -> Iterator[Show]:
    """`size`: the numbers are bytes."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich import progress as bar
    from rich.console import Console

    columns = [
        bar.SpinnerColumn(),
        bar.TextColumn("{task.description}"),
        bar.BarColumn(),
        bar.DownloadColumn() if size else bar.TextColumn("{task.completed}"),
        bar.TimeElapsedColumn(),
    ]
    with bar.Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task("waiting", total=None)
        yield lambda what, done, total: drawn.update(
            task, description=what, completed=done, total=total or None
        )

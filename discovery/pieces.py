"""Many writes cut into transactions that any etcd takes.

Owns how large one may be: etcd refuses a request of more than 1.5 MiB, and a transaction of more than 128 operations,
unless it is told otherwise. It counts; what an operation is, its caller knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

MOST_BYTES = 512 << 10  # of keys and values, and one operation more

T = TypeVar("T")


def pieces(items: Sequence[T], most: int, size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """In their order: at most `most` items at once, and no further one when MOST_BYTES are passed. `size` in bytes."""
    start = total = 0
    for position, item in enumerate(items):
        if position - start == most or total > MOST_BYTES:
            yield items[start:position]
            start, total = position, 0
        total += size(item)
    if start < len(items):
        yield items[start:]

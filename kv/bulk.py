"""Many rows with one SQLite statement.

Owns how a statement is written for any number of rows. Why it is there: each step of a statement gives the
interpreter's lock away, and beside a busy event loop it comes back a switch interval later. A statement a row made
writes wait for half a second beside a busy DNS server; so rows go in by the hundred, and many rows come out as one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TypeVar

SIZES = (1, 4, 16, 64, 256)
"""Rows in one statement: few sizes, so that SQLite parses few statements; a smaller number is filled up with NULL."""

T = TypeVar("T")


def by_size(head: str, row: str, tail: str) -> Mapping[int, str]:
    """The statement for each of the SIZES: `row` stands between `head` and `tail` so many times."""
    return {size: head + ", ".join([row] * size) + tail for size in SIZES}


def insert(verb: str, table: str, columns: int) -> Mapping[int, str]:
    """INSERT or REPLACE of whole rows, the first column of which is never NULL."""
    row = "(" + ", ".join("?" * columns) + ")"
    head = f"{verb} INTO {table} SELECT * FROM (VALUES "  # noqa: S608 (our own words)
    return by_size(head, row, ") WHERE column1 IS NOT NULL")


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """As many at once as one statement takes."""
    rest = iter(items)
    while chunk := list(islice(rest, SIZES[-1])):
        yield chunk


def run(
    connection: sqlite3.Connection, statements: Mapping[int, str], rows: Sequence[tuple[object, ...]]
) -> sqlite3.Cursor:
    """The statement for so many rows, from 1 to the greatest of SIZES; the rest of its parameters are NULL."""
    size = next(size for size in SIZES if size >= len(rows))
    parameters = list(chain.from_iterable(rows))
    parameters += [None] * (len(rows[0]) * (size - len(rows)))
    return connection.execute(statements[size], parameters)

"""Rows as lines for a width that is given, and times as a person says them."""

from __future__ import annotations

import pytest

from discovery.cli import tables

COLUMNS = ("name", "round trip")
ROWS = [["web", "0.2 ms"], ["a longer name of several words", ""]]


def test_aligned_columns_are_never_cut() -> None:
    assert list(tables.aligned(COLUMNS, ROWS)) == [
        "NAME                            ROUND TRIP",
        "web                             0.2 ms",
        "a longer name of several words",
    ]


def test_blocks_leave_out_what_is_empty_and_fold() -> None:
    assert list(tables.blocks(COLUMNS, ROWS, 30)) == [
        "NAME        web",
        "ROUND TRIP  0.2 ms",
        "",
        "NAME        a longer name of",
        "            several words",
    ]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_block_keeps_within_its_width(width: int) -> None:
    long = [["x" * 100, "many words " * 20]]
    lines = list(tables.blocks(("a", "b"), long, width))
    assert max(map(len, lines)) <= width
    assert "".join(line[3:] for line in lines if "x" in line) == "x" * 100


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (0.4, "0 s"), (12.4, "12 s"), (59.6, "1 min"), (90, "1 min 30 s"), (200, "3 min"), (3600, "1 h"),
        (4800, "1 h 20 min"), (11000, "3 h"), (86400, "1 d"), (90000, "1 d 1 h"), (400 * 86400, "400 d"),
    ],
)  # fmt: skip
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert tables.duration(seconds) == words


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("1970-01-01T00:16:52.000Z", "in 12 s"),
        ("1970-01-01T00:16:10Z", "30 s ago"),
        ("1970-01-01T00:16:40.200Z", "now"),
        (None, ""),
    ],
)
def test_a_time_as_seen_now(time: str | None, words: str) -> None:
    assert tables.relative(time, 1000.0) == words


def test_control_characters_are_shown_not_sent() -> None:
    assert tables.cells([["\x1b[31m", None, 7]]) == [["\\x1b[31m", "", "7"]]

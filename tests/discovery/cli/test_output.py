"""Tables: drawn on a terminal that has room, plain everywhere else, never steering the terminal."""

from __future__ import annotations

import os
import pty
import select
from collections.abc import Callable, Iterator, Sequence

import pytest

from discovery.cli.output import print_table, say

COLUMNS, ROWS = ("name", "port"), [("web", 80), ("a-much-longer-name", None)]
PLAIN = ["NAME                PORT", "web                 80", "a-much-longer-name"]


END = "<end>"
Draw = Callable[[Sequence[str], Sequence[Sequence[object]]], str]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Iterator[Draw]:
    """Prints a table on a terminal of 80 columns and gives what the terminal was sent."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    leader, follower = pty.openpty()

    def draw(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        # Only now: between set-up and test pytest puts its own stream back.
        with monkeypatch.context() as patch, open(follower, "w", closefd=False) as stream:
            patch.setattr("sys.stdout", stream)
            print_table(columns, rows)
            stream.write(END)
        shown = b""
        while not shown.endswith(END.encode()):  # the kernel hands on what was written when it likes
            assert select.select([leader], [], [], 5)[0], shown
            shown += os.read(leader, 65536)
        return shown.decode().removesuffix(END).replace("\r\n", "\n")

    yield draw
    os.close(leader)
    os.close(follower)


def test_plain_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == PLAIN


def test_drawn_on_a_terminal(draw: Draw) -> None:
    shown = draw(COLUMNS, ROWS)
    assert "─" in shown
    assert "a-much-longer-name" in shown


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_without_colour(draw: Draw, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert draw(COLUMNS, ROWS).splitlines() == PLAIN


@pytest.mark.parametrize("colour", ["", "1"])
def test_a_block_a_row_where_there_is_no_room(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, colour: str
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", colour)
    assert draw(COLUMNS, ROWS).splitlines() == [
        "NAME  web",
        "PORT  80",
        "",
        "NAME  a-much-longer-",
        "      name",
    ]


def test_cells_are_text_and_not_markup_or_escapes(draw: Draw) -> None:
    shown = draw(("x",), [("[red]a[/red]\x1b]0;title\x07\n\x9b",)])
    assert r"[red]a[/red]\x1b]0;title\x07\x0a\x9b" in shown


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb")
    assert capsys.readouterr().out == "a\\x0ab\n"

"""Tables: drawn on a terminal that has room, plain everywhere else, never steering the terminal."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator

import pytest

from discovery.cli.output import print_table, say

COLUMNS, ROWS = ("name", "port"), [("web", 80), ("a-much-longer-name", None)]
PLAIN = ["NAME                PORT", "web                 80", "a-much-longer-name"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Standard output is a terminal of 80 columns; the callable gives what it was sent."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    leader, follower = pty.openpty()
    with open(follower, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)

        def shown() -> str:
            stream.flush()
            return os.read(leader, 65536).decode().replace("\r\n", "\n")

        yield shown
    os.close(leader)


def test_plain_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == PLAIN


def test_drawn_on_a_terminal(terminal: Callable[[], str]) -> None:
    print_table(COLUMNS, ROWS)
    shown = terminal()
    assert "─" in shown
    assert "a-much-longer-name" in shown


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("COLUMNS", "20")])
def test_plain_without_colour_or_room(
    terminal: Callable[[], str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    print_table(COLUMNS, ROWS)
    assert terminal().splitlines() == PLAIN


def test_cells_are_text_and_not_markup_or_escapes(terminal: Callable[[], str]) -> None:
    print_table(("x",), [("[red]a[/red]\x1b]0;title\x07\n\x9b",)])
    assert r"[red]a[/red]\x1b]0;title\x07\x0a\x9b" in terminal()


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb")
    assert capsys.readouterr().out == "a\\x0ab\n"

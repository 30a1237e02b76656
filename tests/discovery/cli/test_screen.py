"""What a live view shows on a screen of a size: never more than fits."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from discovery.cli.screen import Section, drawn, fitting

LONG: list[list[object]] = [[f"instance-{number}", "10.0.0.1"] for number in range(100)]


def shown(sections: list[Section], width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(drawn(sections, "^C ends it", width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [16, 24, 60])
def test_it_fits(width: int, height: int) -> None:
    lines = shown([("first", ("instance", "host"), LONG), ("second", (), LONG)], width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[-1] == "^C ends it"
    assert sum(line == "and more" for line in lines) == 2


def test_what_fits_is_shown_whole() -> None:
    lines = shown([("first", ("instance", "host"), LONG[:3])], 80, 24)
    assert [line.split() for line in lines[:6] if "─" not in line] == [
        ["first"],
        ["INSTANCE", "HOST"],
        ["instance-0", "10.0.0.1"],
        ["instance-1", "10.0.0.1"],
        ["instance-2", "10.0.0.1"],
    ]


def test_text_from_elsewhere_does_not_steer_the_terminal() -> None:
    (line,) = [line for line in shown([("x", (), [["[red]a\x1b[31m"]])], 80, 24) if "red" in line]
    assert line.strip() == "[red]a\\x1b[31m"


@pytest.mark.parametrize(
    ("widths", "room", "kept"),
    [
        ([5, 5, 5], 19, [5, 5, 5]),
        ([5, 5, 5], 18, [5, 5]),
        ([5, 5, 50], 30, [5, 5, 16]),
        ([50, 5], 30, [30]),
        ([25, 9, 9], 40, [25, 9]),
        ([], 30, []),
    ],
)
def test_columns_on_the_right_make_room(widths: list[int], room: int, kept: list[int]) -> None:
    assert fitting(widths, room) == kept

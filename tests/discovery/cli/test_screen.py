"""What a live view shows on a screen of a size: never more than fits."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from discovery.cli.screen import drawn, fitting
from discovery.cli.tables import Section

LONG: list[list[object]] = [[f"instance-{number}", "10.0.0.1"] for number in range(100)]


def shown(sections: list[Section], width: int, height: int, *, figures: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(drawn(sections, "^C ends it", width, height, figures=figures))
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


FIGURES: list[Section] = [
    (
        "12 instances of 3 services, 4 leases",
        ("a second", "now"),
        [(f"rate {n} of questions", n) for n in range(9)],
    ),
    ("the node", (), [(f"fact {n} of the node", "0.25 ms") for n in range(8)]),
    ("asked most", ("share", "name"), LONG),
    ("first to expire", ("ends", "instance"), LONG),
]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 40), (80, 60), (200, 24)])
def test_figures_are_whole_before_the_tables_get_rows(width: int, height: int) -> None:
    lines = shown(FIGURES, width, height, figures=True)
    text = "\n".join(lines)
    assert len(lines) <= height, text
    assert max(map(len, lines)) <= width
    for part in (*(f"rate {n}" for n in range(9)), *(f"fact {n}" for n in range(8)), "the node"):
        assert part in text
    assert text.count("instance-0") == 2
    assert ("─" in text) == (height == 60)  # rules only where there is room
    assert any("rate 0" in line and "fact 0" in line for line in lines) == (width > 40)


@pytest.mark.parametrize("height", [14, 20, 24])
def test_figures_on_a_small_screen_leave_every_table_a_line(height: int) -> None:
    lines = shown(FIGURES, 40, height, figures=True)
    assert len(lines) <= height, lines
    assert {"the node", "asked most", "first to expire", "^C ends it"} <= {line.rstrip() for line in lines}
    assert any("rate 0" in line for line in lines)


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

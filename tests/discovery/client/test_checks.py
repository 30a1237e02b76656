"""How many checks turn the verdict, and what counts as a failure."""

from __future__ import annotations

import asyncio

import pytest

from discovery.client.checks import Checking, Health
from discovery.errors import ConfigError
from tests.support.api import until


def verdicts(rise: int, fall: int, checks: str) -> str:
    """The verdict after each check, `+` or `-`."""
    health = Health(rise, fall)
    out = ""
    for check in checks:
        before = health.healthy
        assert health.note(check == "+") == (health.healthy != before)
        out += "+" if health.healthy else "-"
    return out


@pytest.mark.parametrize(
    ("rise", "fall", "checks", "wanted"),
    [
        (2, 3, "+", "+"),
        (2, 3, "-+", "--"),
        (2, 3, "-++", "--+"),
        (2, 3, "+--+---", "+++++" + "+-"),
        (2, 3, "+---+-++", "+++----+"),
        (1, 1, "+-+-", "+-+-"),
    ],
)
def test_rows(rise: int, fall: int, checks: str, wanted: str) -> None:
    assert verdicts(rise, fall, checks) == wanted


@pytest.mark.parametrize("answer", [True, False, OSError("no route"), "hangs"])
async def test_what_a_check_may_do(answer: object) -> None:
    told: list[bool] = []
    asked = 0

    async def check() -> bool:
        nonlocal asked
        asked += 1
        if isinstance(answer, Exception):
            raise answer
        if answer == "hangs":
            await asyncio.Event().wait()
        return bool(answer)

    checking = Checking(check, every=0.001, timeout=0.01, rise=1, fall=1)
    task = asyncio.create_task(checking.run(told.append, "i1.web."))
    await until(lambda: asked > 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == ([True] if answer is True else [])


def test_nothing_may_be_0() -> None:
    async def check() -> bool:
        return True

    with pytest.raises(ConfigError, match="rise must be above 0"):
        Checking(check, rise=0)

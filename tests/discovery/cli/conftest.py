"""Runs the command line in this process; tests that need signals or pipes start a process of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from discovery.cli import main


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("NODE", "DNS", "CONFIG", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"DISCOVERY_{name}", raising=False)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["discovery", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out, err)

    return run

"""README's three terminals, typed as they stand: a member killed, dig goes on, it is back, a fourth replaces it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.node import ROOT, wait_for
from tests.support.typed import Line, Machines, blocks_of, machines

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.e2e]


def test_three_terminals_and_a_fourth(tmp_path: Path) -> None:
    lines = [
        line
        for block in blocks_of((ROOT / "README.md").read_text(), "Three machines")
        for line in block.lines
    ]
    assert len(lines) > 12
    with machines(tmp_path) as made:
        made.written = "127.0.0."
        served: dict[str, str] = {}  # the node in each terminal
        before = ""
        for line in lines:
            type_line(made, served, line, before)
            before = line.command
        assert served == {"1": "n1", "2": "n2", "3": "n4"}

        def listed() -> dict[str, str]:
            members = made.call("n1", "GET", "/v1/cluster")[1]["store"]["members"]
            return {member["name"].partition("-")[0]: member["role"] for member in members}

        wait_for(lambda: set(listed().values()) == {"leader", "follower"}, 30, "the fourth votes too")
        assert sorted(listed()) == ["n1", "n2", "n4"]


def type_line(made: Machines, served: dict[str, str], line: Line, before: str) -> None:
    """Typed by somebody who waits for a node to be ready and for `status`, but not for dig when a member is killed."""
    command = line.command
    if command.startswith(".venv/bin/pip "):
        return
    if file := re.search(r"serve --config (deploy/three/(n\d)\.yaml)$", command):
        machine = made[file[2]]
        machine.configure(made.here((ROOT / file[1]).read_text(), machine))
        machine.start()
        served[line.prompt] = file[2]
    elif command == "^C":
        made[served.pop(line.prompt)].stop(signal.SIGINT)
    elif name := re.search(r"^pkill -9 -f 'etcd --name (n\d)'$", command):
        argv = Path(f"/proc/{made[name[1]].etcd()}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        assert f"etcd --name {name[1]}" in argv  # it is the one that would be found
        os.kill(made[name[1]].etcd(), signal.SIGKILL)
    elif command.startswith("dig ") and not before.startswith("pkill"):
        shown = "\n".join(line.shown) + "\n"
        wait_for(lambda: made.run(made["n1"], command).stdout == shown, 60, command)
    else:
        made.type(Line("n1", command.removeprefix(".venv/bin/"), line.shown))

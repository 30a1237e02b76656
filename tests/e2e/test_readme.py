"""README's console blocks, run as they stand against a node of their own ports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.node import ROOT, RunningNode, environment, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TEXT = (ROOT / "README.md").read_text()
STAYS = re.compile(r"--keep$")  # a command that stays until ^C


def blocks() -> list[list[tuple[str, list[str]]]]:
    """Each console block as its commands, each with the output lines shown behind it; those of several terminals are
    tests/cluster/test_three.py's."""
    found = []
    for block in re.findall(r"^```console\n(\$.*?)^```$", TEXT, re.M | re.S):
        commands: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        found.append(commands)
    return found


def test_the_first_and_the_last_block_name_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"make ([a-z]+)", "\n".join(command for block in blocks() for command, _ in block))
    assert {"run", "check", "test", "bench", "fuzz"} <= set(named)
    assert set(named) <= targets


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^):]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_the_commands_do_what_they_show(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        ran = 0
        for command, shown in (each for block in blocks() for each in block):
            if command.startswith(("git ", "make ")):
                continue
            assert run(command, node, stays=bool(STAYS.search(command))) == shown or not shown, command
            ran += 1
        assert ran >= 8


def run(command: str, node: RunningNode, *, stays: bool) -> list[str]:
    """The output lines of a command; one that stays is ended as soon as it has said its first line."""
    here = (
        command.replace("127.0.0.1:8053", f"127.0.0.1:{node.http_port}")
        .replace("-p 1053", f"-p {node.dns_port}")
        .replace(".venv/bin/discovery", f"{sys.executable} -m discovery")
    )
    own = {"DISCOVERY_NODE": node.url, "DISCOVERY_DNS": f"127.0.0.1:{node.dns_port}"}
    process = subprocess.Popen(
        ["bash", "-c", f"exec {here}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | own,
    )
    if stays:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=20)
        return [first]
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, f"{command}: {out}{errors}"
    assert not re.search(r'"errorCode"|problem', out), out
    return out.splitlines()

"""The socket unit: systemd reads it, and what it would hand over is what a node takes."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from discovery.activation import NAMES
from tests.support.node import ROOT

pytestmark = pytest.mark.e2e
UNIT = ROOT / "deploy" / "systemd" / "discovery.socket"


def test_the_socket_unit_names_what_a_node_knows() -> None:
    parser = configparser.ConfigParser(strict=False)
    parser.read(UNIT)
    assert parser["Socket"]["FileDescriptorName"] in NAMES
    listen = [line for line in UNIT.read_text().splitlines() if line.startswith("Listen")]
    assert {line.split("=")[0] for line in listen} == {"ListenDatagram", "ListenStream"}
    assert len(listen) == 4


def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:  # where systemd is not, the unit is not used either
        pytest.skip("no systemd here")
    (tmp_path / UNIT.name).write_text(UNIT.read_text())
    (tmp_path / "discovery.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        [program, "verify", "--recursive-errors=no", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        timeout=30,
    )
    assert UNIT.name not in done.stderr, done.stderr

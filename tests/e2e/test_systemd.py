"""The units as systemd reads them; the socket is one that a node takes, and the agent's starts a command of ours."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from discovery.activation import NAMES
from tests.support.node import ROOT, run_discovery

pytestmark = pytest.mark.e2e
FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "discovery.socket"
AGENT = FOLDER / "discovery-agent.service"


def test_the_socket_unit_names_what_a_node_knows() -> None:
    parser = configparser.ConfigParser(strict=False)
    parser.read(UNIT)
    assert parser["Socket"]["FileDescriptorName"] in NAMES
    listen = [line for line in UNIT.read_text().splitlines() if line.startswith("Listen")]
    assert {line.split("=")[0] for line in listen} == {"ListenDatagram", "ListenStream"}
    assert len(listen) == 4


def test_the_agents_unit_starts_a_command_that_there_is() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(AGENT)
    service = parser["Service"]
    _, command, file = service["ExecStart"].split()
    assert f"Usage: discovery {command} [OPTIONS] FILE" in run_discovery(command, "--help").stdout
    assert service["Type"] == "notify"
    assert file == "/etc/discovery/agent.yaml"


@pytest.mark.parametrize("unit", [UNIT, AGENT], ids=lambda unit: unit.name)
def test_systemd_finds_no_fault_in_it(tmp_path: Path, unit: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:  # where systemd is not, the unit is not used either
        pytest.skip("no systemd here")
    text = unit.read_text().replace("/usr/bin/discovery ", "/bin/true ")
    (tmp_path / unit.name).write_text(text)
    (tmp_path / "discovery.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        [program, "verify", "--recursive-errors=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        timeout=30,
    )
    assert unit.name not in done.stderr, done.stderr

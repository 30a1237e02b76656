"""The units as systemd reads them, and what they start. That they work, `test_install` shows."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

from discovery.activation import NAMES
from tests.support.node import ROOT, run_discovery

pytestmark = pytest.mark.e2e
FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "discovery.socket"
AGENT = FOLDER / "discovery-agent.service"
NODE = FOLDER / "discovery.service"


def test_the_socket_unit_names_what_a_node_knows() -> None:
    parser = configparser.ConfigParser(strict=False)
    parser.read(UNIT)
    assert parser["Socket"]["FileDescriptorName"] in NAMES
    listen = [line for line in UNIT.read_text().splitlines() if line.startswith("Listen")]
    assert {line.split("=")[0] for line in listen} == {"ListenDatagram", "ListenStream"}
    assert len(listen) == 4


def test_the_nodes_unit_starts_a_command_that_there_is() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(NODE)
    _, command, option, file = parser["Service"]["ExecStart"].split()
    assert f"Usage: discovery {command}" in run_discovery(command, "--help").stdout
    assert option in run_discovery("--help").stdout
    assert f"/etc/discovery/{(FOLDER / 'discovery.yaml').name}" == file
    done = run_discovery("config", "check", "--config", str(FOLDER / "discovery.yaml"))
    assert done.returncode == 0, done.stderr


def test_the_agents_unit_starts_a_command_that_there_is() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(AGENT)
    service = parser["Service"]
    _, command, file = service["ExecStart"].split()
    assert f"Usage: discovery {command} [OPTIONS] FILE" in run_discovery(command, "--help").stdout
    assert service["Type"] == "notify"
    assert file == "/etc/discovery/agent.yaml"


def systemd_analyze(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **variables},
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", [UNIT, AGENT, NODE], ids=lambda unit: unit.name)
def test_systemd_finds_no_fault_in_it(tmp_path: Path, unit: Path) -> None:
    (tmp_path / "discovery.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/local/bin/discovery ", "/bin/true "))
    said = systemd_analyze(
        "verify", "--recursive-errors=no", str(tmp_path / unit.name), SYSTEMD_UNIT_PATH=f"{tmp_path}:"
    )
    assert unit.name not in said, said


@pytest.mark.parametrize(("unit", "most"), [(NODE, 1.7), (AGENT, 2.0)], ids=["node", "agent"])
def test_it_is_as_exposed_as_deploy_operations_says(unit: Path, most: float) -> None:
    """`systemd-analyze security`: 0 is nothing, 10 all of the machine; what each release counts differs a little."""
    said = systemd_analyze("security", "--offline=true", "--no-pager", str(unit))
    assert float(re.findall(r"exposure level for \S+: ([0-9.]+) ", said)[0]) <= most, said

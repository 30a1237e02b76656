"""deploy/install.sh and the units on a machine with a real systemd: installed, run, reloaded, upgraded, taken away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted import Booted
from tests.support.installed import PLACE, build_wheel, equipped, fetch_builder, install, install_checkout
from tests.support.node import ROOT, environment, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SCRIPT = ROOT / "deploy" / "install.sh"
LIMIT = 120.0  # seconds


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = build_wheel(tmp_path_factory.mktemp("wheel"))
    fetch_builder(built.parent)
    return built


@pytest.fixture(scope="module")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with equipped(tmp_path_factory.mktemp("booted"), wheel) as made:
        yield made


def named(machine: Booted) -> set[str]:
    """What there is of that name: files, and the user."""
    found = machine.run(
        "find", "/opt", "/etc", "/usr/local", "/var/lib", "/var/log", "-name", "*discovery*"
    ).stdout
    return {
        *found.splitlines(),
        *machine.run("getent", "passwd", "discovery", check=False).stdout.splitlines(),
    }


def until(machine: Booted, *command: str, says: str = "") -> None:
    def holds() -> bool:
        done = machine.run(*command, check=False)
        assert "Traceback" not in machine.journal("discovery")
        return done.returncode == 0 and (not says or done.stdout.strip() == says)

    try:
        wait_for(holds, LIMIT, " ".join(command))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{machine.journal('discovery')[-4000:]}") from None


DIG = ("dig", "@127.0.0.1", "web.prod.discovery.internal", "A", "+short", "+timeout=20")
PUT = ("discovery", "register", "web.prod", "i1", "--host", "192.0.2.1", "--lease-ttl", "3600")


def test_a_life_from_installation_to_the_end(machine: Booted, wheel: Path) -> None:
    before = named(machine)
    said = install(machine, wheel, "--dry-run")
    assert "+ useradd --system" in said
    assert named(machine) == before  # it only said so

    said = install(machine, wheel)
    assert "nothing was started" in said
    assert machine.run("systemctl", "is-active", "discovery", check=False).stdout.strip() == "inactive"
    machine.run("discovery", "config", "check", "--config", "/etc/discovery/discovery.yaml")
    assert (
        machine.run("stat", "-c", "%U:%G %a", "/etc/discovery/discovery.yaml").stdout
        == "root:discovery 640\n"
    )

    machine.run("systemctl", "enable", "--now", "discovery")
    until(machine, *PUT)
    until(machine, *DIG, says="192.0.2.1")
    assert machine.run("stat", "-c", "%U:%G %a", "/var/lib/discovery").stdout == "discovery:discovery 700\n"
    pid = machine.run("systemctl", "show", "-P", "MainPID", "discovery").stdout.strip()
    assert machine.run("ps", "-o", "user=", "-p", pid).stdout.strip() == "discovery"

    # A reload takes over what may change, and the process goes on.
    config = machine.run("cat", "/etc/discovery/discovery.yaml").stdout
    machine.write("/etc/discovery/discovery.yaml", config + "log:\n  format: json\n")
    machine.run("systemctl", "reload", "discovery")
    wait_for(lambda: '"level": "info"' in machine.journal("discovery"), LIMIT, "it logs JSON")
    assert machine.run("systemctl", "show", "-P", "MainPID", "discovery").stdout.strip() == pid

    # Again, as for an upgrade: the configuration stays, what was registered too.
    assert "Kept: /etc/discovery/discovery.yaml" in install(machine, wheel)
    machine.run("systemctl", "restart", "discovery")
    until(machine, *DIG, says="192.0.2.1")
    assert "Traceback" not in machine.journal("discovery")

    said = machine.run(f"{PLACE}/install.sh", "--uninstall").stdout
    assert "Kept: /etc/discovery, /var/lib/discovery, /var/log/discovery and the user discovery" in said
    assert machine.run("systemctl", "is-active", "discovery", check=False).stdout.strip() == "inactive"
    machine.run("test", "-e", "/var/lib/discovery/store.db")
    machine.run(f"{PLACE}/install.sh", "--uninstall", "--purge")
    assert named(machine) == before


def test_the_same_version_is_installed_anew_and_a_checkout_as_well(machine: Booted, wheel: Path) -> None:
    install(machine, wheel)
    lost = machine.run(
        "sh", "-c", "ls /opt/discovery/lib/python3*/site-packages/discovery/cli/ask.py"
    ).stdout.strip()
    for checkout in (False, True):
        machine.write(lost, "")
        install_checkout(machine) if checkout else install(machine, wheel)
        assert machine.run("cat", lost).stdout == (ROOT / "discovery" / "cli" / "ask.py").read_text()
    machine.run("sh", "-c", "cd / && runuser -u discovery -- discovery --version")
    assert machine.run("find", "/tmp", "-name", "source.tar").stdout == ""
    machine.run(f"{PLACE}/install.sh", "--uninstall", "--purge")


def test_systemds_sockets_hold_questions_over_a_restart(machine: Booted, wheel: Path) -> None:
    install(machine, wheel)
    machine.run("systemctl", "enable", "--now", "discovery.socket", "discovery")
    until(machine, *PUT)
    machine.run("systemctl", "stop", "discovery")  # the sockets stay: a question starts it
    done = machine.run(*DIG)
    assert done.stdout.strip() == "192.0.2.1", machine.journal("discovery")
    machine.run(f"{PLACE}/install.sh", "--uninstall", "--purge")


def test_managed_etcd_runs_under_the_same_unit(machine: Booted, wheel: Path) -> None:
    install(machine, wheel)
    machine.write(
        "/etc/discovery/discovery.yaml",
        'dns: {listen: ["127.0.0.1:53"]}\nstore: {engine: managed-etcd, path: /var/lib/discovery}\n'
        "http: {audit: /var/log/discovery/audit.jsonl}\n",
    )
    machine.run("systemctl", "enable", "--now", "discovery")
    until(machine, *PUT)
    until(machine, *DIG, says="192.0.2.1")
    until(machine, "discovery", "cluster", "status")
    machine.run("test", "-s", "/var/log/discovery/audit.jsonl")
    members = json.loads(machine.run("discovery", "cluster", "status", "--json").stdout)["store"]["members"]
    assert [member["role"] for member in members] == ["leader"]
    machine.run("systemctl", "stop", "discovery")
    assert machine.run("pgrep", "-u", "discovery", check=False).stdout == ""
    machine.run(f"{PLACE}/install.sh", "--uninstall", "--purge")


def test_the_agents_unit_tells_systemd_that_it_is_ready(machine: Booted, wheel: Path) -> None:
    install(machine, wheel)
    machine.run("systemctl", "enable", "--now", "discovery")
    services = "services:\n  - {service: web.prod, port: 80, host: 192.0.2.1, check: {command: ['true']}}\n"
    machine.write("/etc/discovery/agent.yaml", services)
    machine.run("systemctl", "start", "discovery-agent")
    until(machine, *DIG, says="192.0.2.1")
    machine.run("systemctl", "stop", "discovery-agent")
    until(machine, *DIG[:-2], "+noall", "+answer", says="")
    machine.run(f"{PLACE}/install.sh", "--uninstall", "--purge")


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--nothing"], 2, "--nothing is not known"),
        (["--purge"], 2, "--purge goes with --uninstall"),
        (["--dry-run", "none.whl"], 1, "there is no file none.whl"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], status: int, line: str) -> None:
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env=environment() | {"PYTHON": sys.executable},
    )
    assert done.returncode == status
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_is_the_head_alone() -> None:
    said = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("Installs Discovery")
    assert said.endswith("what pip needs.\n")

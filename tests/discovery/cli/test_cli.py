"""The one door: help, version, exit statuses, errors in one line, ^C, a closed pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from discovery import __version__
from discovery.cli.commands import cli
from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode

ROOT = Path(__file__).parents[3]


def commands(group: click.Group, lead: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    out = []
    for name, command in group.commands.items():
        out.append((*lead, name))
        if isinstance(command, click.Group):
            out += commands(command, (*lead, name))
    return out


@pytest.mark.parametrize("command", [(), *commands(cli)], ids=" ".join)
def test_every_command_has_help_with_an_example(run: Run, command: tuple[str, ...]) -> None:
    status, out, _ = run(*command, "--help")
    assert status == 0
    assert " ".join(("  Example:\n    discovery", *command)) in out


def test_version_as_a_module_from_the_checkout() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "discovery", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"discovery {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "command", "complaint"),
    [
        ("nothing", "discovery", "No such command 'nothing'"),
        ("register web", "discovery register", "Missing argument 'INSTANCE'"),
        ("list --what", "discovery list", "No such option"),
        ("config nothing", "discovery config", "No such command 'nothing'"),
        ("register a b --port x", "discovery register", "Invalid value for '--port'"),
    ],
)
def test_wrong_usage_is_2_and_one_line(run: Run, arguments: str, command: str, complaint: str) -> None:
    status, out, err = run(*arguments.split())
    assert (status, out) == (2, "")
    assert err.startswith(f"discovery: {complaint}")
    assert err.endswith(f"; see `{command} --help`\n")
    assert err.count("\n") == 1


def test_nothing_at_all_is_answered_with_the_help(run: Run) -> None:
    status, out, err = run()
    assert status in (0, 2)  # as click has it, which changed
    assert "Example:\n    discovery serve" in out + err


def test_a_wrong_setting_is_2_and_one_line(run: Run) -> None:
    for arguments in (
        ("serve", "--set", "dns.lisen=1"),
        ("--set", "dns.lisen=1", "serve"),
        ("config", "check", "--set", "dns.lisen=1"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "")
        assert err == "discovery: --set dns.lisen: unknown setting; did you mean dns.listen?\n"


def test_errors_stay_one_line_whatever_is_in_them(run: Run) -> None:
    status, _, err = run("config", "check", "--set", "a\nb=1")
    assert status == 2
    assert err.startswith("discovery: --set a b: unknown setting")
    assert err.count("\n") == 1


def test_a_reader_that_leaves_is_met_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "discovery", "config", "show"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("config", "show"), ("--version",), ("config", "show", "--json")])
def test_an_output_that_cannot_be_written_is_one_line_and_1(
    arguments: tuple[str, ...], unbuffered: str
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "discovery", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    expected = "discovery: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, expected)


STOPS_ITSELF = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.modules.pop({module!r}, None)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["discovery", "config", "show"]
{enter}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    ["importlib.metadata", "click", "discovery.cli.commands", "discovery.cli.lookup", "discovery.config"],
)
@pytest.mark.parametrize(
    "enter",
    [
        "from discovery.cli import main; main()",  # as the installed command does
        "import runpy; runpy.run_module('discovery', run_name='__main__')",
    ],
)
def test_interrupt_while_it_is_being_imported(module: str, enter: str) -> None:
    code = STOPS_ITSELF.format(module=module, enter=enter)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


@pytest.mark.slow
def test_interrupt_is_130_without_a_traceback() -> None:
    """The node takes the call and never answers, so the command is surely under way."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(5)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "discovery", "list", "--node", url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert (out, err.strip()) == ("", "")


def test_the_node_and_the_token_come_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpNode() as node:
        monkeypatch.setenv("DISCOVERY_NODE", node.url)
        monkeypatch.setenv("DISCOVERY_TOKEN", "sesame")
        assert run("list").status == 0
        assert run("list", "--token", "other").status == 0
        assert [headers["Authorization"] for headers in node.headers] == ["Bearer sesame", "Bearer other"]

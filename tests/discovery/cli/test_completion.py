"""The completion scripts in the real shells: each is sourced and asked, as a person with the tab key would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode
from tests.support.node import wait_for

ROOT = Path(__file__).parents[3]
LIMIT = 60  # seconds for a shell, which starts the program anew

# How each shell is made to complete a command line outside of a terminal, and to print what it would offer.
ASKS = {
    "bash": """
source "$SCRIPT"
COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
_discovery_completion discovery
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    # zsh completes on a terminal only: so the function is called with what the terminal would be told noted down.
    "zsh": """
autoload -U compinit; compinit -u -d "$HOME/.zcompdump"
source "$SCRIPT"
_describe() {{ for each in "${{(@P)3}}"; do print -r -- "${{each%%:*}}"; done }}
compadd() {{ print -rl -- "${{(@P)@[-1]}}" }}
words=({words}); CURRENT={current}
_discovery_completion
""",
    "fish": """
source "$SCRIPT"
complete --do-complete "{line}"
""",
}


@pytest.fixture
def offered(run: Run, tmp_path: Path) -> Callable[[str, str], list[str]]:
    """What a shell offers for a line, whose last word is begun."""
    program = tmp_path / "bin" / "discovery"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m discovery "$@"\n')
    program.chmod(0o755)

    def offered(shell: str, line: str) -> list[str]:
        if shutil.which(shell) is None:
            pytest.fail(f"{shell} is not installed: `make test` installs it")
        script = tmp_path / f"completion.{shell}"
        script.write_text(run("completion", shell).out)
        words = line.split(" ")
        ask = ASKS[shell].format(
            line=line,
            words=" ".join(f"'{word}'" for word in words),
            current=len(words),
        )
        found = os.environ | {
            "SCRIPT": str(script),
            "HOME": str(tmp_path),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TERM": "dumb",
        }
        done = subprocess.run(
            [
                shell,
                *(["--norc"] if shell == "bash" else ["-f"] if shell == "zsh" else ["--no-config"]),
                "-c",
                ask,
            ],
            env=found,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [each.partition("\t")[0].strip() for each in done.stdout.splitlines() if each.strip()]

    return offered


@pytest.mark.slow
@pytest.mark.parametrize("shell", ASKS)
def test_a_shell_completes_commands_options_and_names_that_the_node_knows(
    offered: Callable[[str, str], list[str]], run: Run, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    assert offered(shell, "discovery dereg") == ["deregister"]
    assert "--subtree" in offered(shell, "discovery list --su")
    with HttpNode() as node:
        run("register", "web.prod", "i1", "--host", "10.0.0.1", "--node", node.url)
        monkeypatch.setenv("DISCOVERY_NODE", node.url)
        eventually(lambda: offered(shell, "discovery list we") == ["web.prod"])
        eventually(lambda: offered(shell, "discovery drain web.prod ") == ["i1"])
        monkeypatch.delenv("DISCOVERY_NODE")
        eventually(lambda: offered(shell, f"discovery list --node {node.url} we") == ["web.prod"])


def eventually(condition: Callable[[], bool]) -> None:
    """A node on a busy machine may not answer in the little time that a shell gives it."""
    wait_for(condition, LIMIT, "the names that the node knows")


@pytest.mark.slow
def test_without_a_node_nothing_is_offered_and_nothing_said(
    offered: Callable[[str, str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCOVERY_NODE", "http://127.0.0.1:1")
    assert offered("bash", "discovery list we") == []


@pytest.mark.parametrize("arguments", [(), ("tcsh",)])
def test_another_shell_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("completion", *arguments).status == 2

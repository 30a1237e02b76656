"""The committed page of all commands is what the commands say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from discovery.cli.reference import FILE, commands, reference

ALL = list(commands())
COMMITTED = Path(__file__).parents[3] / "deploy" / FILE


def test_the_committed_page_is_up_to_date() -> None:
    assert COMMITTED.read_text() == reference(), (
        f"deploy/{FILE} is not what the commands say; write it anew with `python -m discovery.cli.reference`"
    )


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_the_examples_of_a_command_can_be_parsed(
    name: str, command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the very parser that runs them: no option of theirs is one that there was."""
    section = reference().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    example = section.partition("```sh\n")[2].partition("```")[0]
    assert example.startswith(("discovery", "echo", "source"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "admin.token").write_text("secret")
    for line in example.splitlines():
        words = shlex.split(re.sub(r"\$\(.*?\)|<\(|\)$", "X", line), comments=True)
        for sign in ("|", ">", "||"):
            words = words[: words.index(sign)] if sign in words and words[0] == "discovery" else words
        if words[0] != "discovery":
            continue
        _parse(words[1:])


def _parse(words: list[str]) -> None:
    from discovery.cli.commands import cli

    command: click.Command = cli
    context = click.Context(cli, info_name="discovery")
    while isinstance(command, click.Group):
        rest = list(words)
        found = command.get_command(context, rest[0])
        assert found is not None, words
        command, words = found, rest[1:]
        context = click.Context(command, info_name=rest[0], parent=context)
    if not isinstance(command, click.Group):
        command.make_context(context.info_name, words, parent=context.parent)

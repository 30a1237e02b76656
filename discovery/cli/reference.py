"""The page of all commands, made from the commands themselves.

Owns the text of `deploy/cli.md`; a test holds the committed file equal to it.
Run `python -m discovery.cli.reference` in a checkout to write it anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from discovery.cli.commands import cli

FILE = "cli.md"
# Options that many commands have stand once, in the head.
SHARED = (
    "--config",
    "--set",
    "--output",
    "--json",
    "--node",
    "--token",
    "--token-file",
    "--ca",
    "--cert",
    "--key",
)

_HEAD = """\
# The command line

`discovery COMMAND --help` says the same as this page. A mistyped word is answered with the one that was meant.

**Which node.** Commands that ask a node take `--node URL`, else `$DISCOVERY_NODE`, else `http://127.0.0.1:8053`.
Several may stand there with commas between: the first that answers is asked. `--token-file FILE`
(`$DISCOVERY_TOKEN_FILE`) or `--token` (`$DISCOVERY_TOKEN`) prove who calls; `--ca`, `--cert` and `--key`
(`$DISCOVERY_CA`, ...) name the files for TLS.

**What is printed.** Everything that shows something takes `--output`, in short `-o`:

- `table`, for people: drawn on a terminal; plain aligned columns in a pipe or with `NO_COLOR`; a block a row where a
  terminal is too narrow. Times are as seen now: `in 12 s`, `3 min ago`.
- `wide`: the same with more columns, where there are more.
- `json`: the API's answer whole, with its names and RFC 3339 times; `--json` is short for it. It is stable: within a
  major version fields are added, never renamed or taken away.
- `yaml`: the same as YAML.

`discovery watch` prints a line of JSON, or a document of YAML, for each event. Results go to standard output, all else
to standard error. Nothing but a terminal is sent colours or moving lines.

**Exit status.** 0 done; 1 failed, or something is wrong (`doctor`, `health`, `cluster status`, `lease renew`,
`batch`); 2 wrong usage or set-up; 130 interrupted. An error is one line.

**Configuration.** Commands that work without a node take `--config FILE` and `--set KEY=VALUE`, before or after their
name: see [configuration.md](configuration.md).

This page is made by `python -m discovery.cli.reference`.
"""


def commands(group: click.Group = cli, lead: str = "discovery") -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name, in the order of the program's help."""
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        yield f"{lead} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{lead} {name}")


def reference() -> str:
    found = list(commands())
    lines = [_HEAD, "| command | does |", "| --- | --- |"]
    for name, command in found:
        anchor = name.replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {command.get_short_help_str(limit=200)} |")
    for name, command in found:
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _section(name: str, command: click.Command) -> Iterator[str]:
    text, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
    context = click.Context(command, info_name=name)
    yield f"## {name}"
    yield ""
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"`{name} {usage}`"
    yield ""
    yield text.strip()
    options = [
        parameter
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        and parameter.opts[0] not in (*SHARED, "-h", "--help")
        and not parameter.hidden
    ]
    if options:
        yield ""
        yield "| option | is |"
        yield "| --- | --- |"
        for option in options:
            words, told = option.get_help_record(context) or ("", "")
            yield f"| `{words.replace('|', '/')}` | {' '.join(told.split()).replace('|', '/')} |"
    yield ""
    yield "```sh"
    yield from (line.strip() for line in example.strip().splitlines())
    yield "```"


if __name__ == "__main__":
    (Path(__file__).parents[2] / "deploy" / FILE).write_text(reference())

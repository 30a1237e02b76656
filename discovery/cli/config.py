"""`discovery config`: look at the configuration without starting anything.

Owns how settings are shown; values of settings marked `secret` never leave this file.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from discovery.cli.calls import call
from discovery.cli.options import config_loader, config_options, node_options
from discovery.cli.output import Form, output_option, print_table, printed, say


@click.group()
@config_options
def config() -> None:
    """Check and show the configuration.

    \b
    Example:
      discovery config check --config discovery.yaml
    """


@config.command()
@config_options
@output_option
def check(output: Form) -> None:
    """Check the configuration; exit with 2 and one line when something is wrong.

    \b
    Example:
      discovery config check --config discovery.yaml
    """
    loaded = config_loader()()
    if not printed(output, {"file": None if loaded.path is None else str(loaded.path), "correct": True}):
        say(f"{loaded.path or 'no configuration file'}: correct")


@config.command()
@output_option
@node_options
def reload(output: Form, node_url: str, token: str | None) -> None:
    """Let a running node read its configuration anew, and say what waits for a restart.

    \b
    Example:
      discovery config reload
    """
    answer = call(node_url, token, "POST", "v1", "config", "reload", body={})
    if printed(output, answer):
        return
    say("the configuration is read anew")
    for key in answer["restart_needed"]:
        say(f"{key} waits for a restart of the node")


@config.command()
@config_options
@output_option
def show(output: Form) -> None:
    """Show every setting, its value and where the value came from; secrets are hidden.

    \b
    Example:
      discovery config show --set dns.payload_size=1400
    """
    import msgspec

    from discovery.settings import TABLE

    loaded = config_loader()()
    rows: list[tuple[str, object, str]] = []
    for setting in TABLE.settings():
        value: object = loaded.config
        for part in setting.key.split("."):
            value = getattr(value, part)
        if "secret" in setting.marks and value:
            value = "(hidden)"
        rows.append((setting.key, msgspec.to_builtins(value), loaded.origins[setting.key]))
    settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
    if printed(output, {"file": None if loaded.path is None else str(loaded.path), "settings": settings}):
        return
    lines = [
        (name, msgspec.json.encode(part).decode(), origin)
        for key, value, origin in rows
        for name, part in _lines(key, value)
    ]
    print_table(("setting", "value", "from"), lines)


def _lines(key: str, value: object) -> Iterator[tuple[str, object]]:
    """The members of a list of sections one by one: a zone on one line is more than a terminal is wide."""
    if not isinstance(value, list | tuple) or not value or not isinstance(value[0], dict):
        yield key, value
        return
    for position, element in enumerate(value):
        for name, part in element.items():
            yield f"{key}[{position}].{name}", part

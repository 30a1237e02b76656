"""`discovery config`: look at the configuration without starting anything.

Owns how settings are shown; values of settings marked `secret` never leave this file.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from discovery.cli.options import config_loader, config_options, json_option
from discovery.cli.output import print_json, print_table, say


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
@json_option
def check(as_json: bool) -> None:
    """Check the configuration; exit with 2 and one line when something is wrong.

    \b
    Example:
      discovery config check --config discovery.yaml
    """
    loaded = config_loader()()
    if as_json:
        print_json({"file": None if loaded.path is None else str(loaded.path), "correct": True})
    else:
        say(f"{loaded.path or 'no configuration file'}: correct")


@config.command()
@config_options
@json_option
def show(as_json: bool) -> None:
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
    if as_json:
        settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
        print_json({"file": None if loaded.path is None else str(loaded.path), "settings": settings})
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

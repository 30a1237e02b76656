"""The reference of all settings and the example file, both made from the table of settings.

Owns the two texts under `deploy/`; a test holds the committed files equal to them.
Run `python -m discovery.config_reference` in a checkout to write both anew.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import msgspec
import yaml

from discovery.settings import TABLE, Section, Setting, expected

FILES = ("discovery.example.yaml", "configuration.md")
WIDTH = 100

_EXAMPLE_HEAD = """\
# Every setting of Discovery with its default. Copy what you change; all else may be left out.
# Read from --config, else $DISCOVERY_CONFIG, ./discovery.yaml or /etc/discovery/discovery.yaml.
# Made by `python -m discovery.config_reference`.
"""

_REFERENCE_HEAD = """\
# Configuration

One YAML file: the one `--config` names, else `$DISCOVERY_CONFIG`, else `./discovery.yaml`, else
`/etc/discovery/discovery.yaml`. With no file at all everything has its default and the program runs.

Every setting can also be given by the environment and by flags. Defaults < file < environment < flags:

| where | written as |
| --- | --- |
| file | `dns: {payload_size: 1400}` |
| environment | `DISCOVERY_DNS__PAYLOAD_SIZE=1400` |
| flag | `--set dns.payload_size=1400` |

Values of variables and flags are YAML, so a list is `--set 'dns.listen=["0.0.0.0:53"]'` and the text 7 is
`--set 'node.name="7"'`. Lists and mappings are replaced whole, never merged. Unknown settings, wrong types and keys
written twice are errors. `discovery config check` looks for them without starting anything; `discovery config show`
prints every value and where it came from.

**Reload** marks what can change while a node runs.

This page is made by `python -m discovery.config_reference`.
"""


def example() -> str:
    """A configuration file that holds every setting with its default, described."""
    return _EXAMPLE_HEAD + "\n" + "\n".join(_example_section(TABLE, 0)) + "\n"


def _example_section(section: Section, depth: int) -> Iterator[str]:
    pad = "  " * depth
    for name, member in section.members.items():
        if depth == 0 and name != next(iter(section.members)):
            yield ""
        yield from textwrap.wrap(
            _comment(member),
            WIDTH,
            initial_indent=f"{pad}# ",
            subsequent_indent=f"{pad}# ",
            break_on_hyphens=False,
        )
        if isinstance(member, Section):
            yield f"{pad}{name}:"
            yield from _example_section(member, depth + 1)
        elif member.items is not None:
            yield f"{pad}{name}:"
            for element in cast(tuple[msgspec.Struct, ...], member.default):
                yield f"{pad}  -"
                yield from _example_section(_with_values(member.items, element), depth + 2)
        else:
            yield f"{pad}{name}: {_yaml(member.default)}"


def _with_values(section: Section, element: msgspec.Struct) -> Section:
    """The section with the element's values for its defaults: an element's name has none."""
    return msgspec.structs.replace(
        section,
        members={
            name: msgspec.structs.replace(member, default=getattr(element, name))
            for name, member in section.members.items()
        },
    )


def _comment(member: Setting | Section) -> str:
    text = member.description
    if isinstance(member, Setting) and member.items is None:
        value = expected(member.type)
        if value not in ("text", "true or false"):  # the default shows as much
            text += f" {value[0].upper()}{value[1:]}."
    return text


def reference() -> str:
    """The page that describes every setting, one table a section."""
    return _REFERENCE_HEAD + "".join(_reference_section(TABLE))


def _reference_section(section: Section) -> Iterator[str]:
    own = [member for member in section.members.values() if isinstance(member, Setting)]
    if section.key:
        yield f"\n## `{section.key}`\n\n{section.description}{_marked(section.marks)}\n"
    else:
        yield "\n## Top level\n"
    yield "\n| setting | default | value | meaning |\n| --- | --- | --- | --- |\n"
    for setting in own:
        default = "" if setting.required else f"`{_yaml(setting.default)}`"
        if setting.items is not None:
            default = "one zone, all its defaults"
        marks = _marked(setting.marks - section.marks)
        value = expected(setting.type)
        yield f"| `{setting.key}` | {default} | {value} | {setting.description}{marks} |\n"
    for member in section.members.values():
        inner = member.items if isinstance(member, Setting) else member
        if inner is not None:
            yield from _reference_section(inner)


def _marked(marks: frozenset[str]) -> str:
    words: Mapping[str, str] = {
        "reload": " **Reload.**",
        "secret": " Never shown.",
    }
    return "".join(text for mark, text in words.items() if mark in marks)


def _yaml(value: object) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(
        msgspec.to_builtins(value), default_flow_style=True, width=10_000, default_style=None, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()


def main() -> None:
    folder = Path(__file__).parent.parent / "deploy"
    for name, text in zip(FILES, (example(), reference()), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
        print(f"wrote {folder.name}/{name}")


if __name__ == "__main__":
    main()

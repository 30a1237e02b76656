"""YAML text that a person wrote, read so that every complaint can name the line.

Owns the reading of one document with PyYAML's safe loader, plus the two things it leaves out: which line each key
stands on, and an error for a key written twice (PyYAML keeps the last one silently). It never knows what the keys mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import msgspec
import yaml

from discovery.errors import ConfigError

Place = tuple[str | int, ...]  # keys and list positions from the top of the document


def dotted(place: Place) -> str:
    """A place as people write it: `zones[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


class Document(msgspec.Struct, frozen=True):
    """`value` is None for an empty text; `lines` maps the place of a key or element to its line, from 1."""

    label: str
    value: object
    lines: Mapping[Place, int]

    def at(self, place: Place) -> str:
        """Where a place is, as the start of an error line: `file:line`, or the label alone on a single line."""
        line = self.lines.get(place)
        return self.label if line is None else f"{self.label}:{line}"


def read(text: str, label: str, *, one_line: bool = False) -> Document:
    """Read one YAML document; `label` names it in errors, without line numbers when `one_line`.

    Raises ConfigError for text that is not YAML, for more than one document and for a key written twice.
    """
    lines: dict[Place, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _walk(node, (), lines, set(), label, one_line)
            value = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = label if one_line or mark is None else f"{label}:{mark.line + 1}"
        raise ConfigError(
            f"{where}: not valid YAML: {', '.join(filter(None, (error.context, error.problem)))}"
        ) from None
    except RecursionError:
        raise ConfigError(f"{label}: not valid YAML: nested too deeply") from None
    except (
        yaml.YAMLError,
        ValueError,
    ) as error:  # ValueError: a date or number that YAML's own rules let through
        raise ConfigError(f"{label}: not valid YAML: {' '.join(str(error).split())}") from None
    return Document(label, value, {} if one_line else lines)


def _walk(
    node: yaml.Node | None,
    place: Place,
    lines: dict[Place, int],
    seen: set[int],
    label: str,
    one_line: bool,
) -> None:
    """Note the lines of all keys below the node and refuse a key written twice; aliases are followed once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines[(*place, position)] = item.start_mark.line + 1
            _walk(item, (*place, position), lines, seen, label, one_line)
    elif isinstance(node, yaml.MappingNode):
        first: dict[Hashable, int] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                name = (key.tag, key.value)
                if name in first:
                    where = label if one_line else f"{label}:{line}"
                    also = "" if one_line else f" (first on line {first[name]})"
                    key_text = dotted((*place, key.value))
                    raise ConfigError(
                        f"{where}: {key_text}: the key is written twice{also}; keep one", field=key_text
                    )
                first[name] = line
                lines[(*place, key.value)] = line
                _walk(item, (*place, key.value), lines, seen, label, one_line)

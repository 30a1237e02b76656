"""Configuration: from file, environment and flags to one checked `Config`.

Owns where settings may come from and in what order (defaults < file < environment < flags), and the complaints about
keys and types. The table is `discovery.settings`, the rules beyond types are `discovery.config_rules`. It never opens
a socket.

How: each source is walked along `TABLE`; every leaf is converted by its type on its own, so an error names the
source, the key and what was expected. Later sources replace a leaf whole, lists and mappings too.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, cast

import msgspec

from discovery import yaml_source
from discovery.config_rules import DEFAULT, check, fail, parse_address
from discovery.errors import ConfigError
from discovery.settings import TABLE, Config, Section, Setting, ZoneConfig, expected
from discovery.yaml_source import Document, Place

__all__ = ["Config", "Loaded", "ZoneConfig", "load", "parse_address"]

_REPR = reprlib.Repr()
_REPR.maxstring = 60
SEARCH = (Path("discovery.yaml"), Path("/etc/discovery/discovery.yaml"))
PREFIX = "DISCOVERY_"
# Not settings: the file itself, and what the command line's client commands read.
OTHER_VARIABLES = frozenset(
    PREFIX + name for name in ("CONFIG", "NODE", "DNS", "ZONE", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY")
)
# Kubernetes gives every pod such variables for a Service whose name begins with "discovery".
KUBERNETES = re.compile(r"_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)\Z")


class Loaded(msgspec.Struct, frozen=True):
    """A configuration, and for every dotted key where its value came from.

    Origins read `default`, `FILE:LINE`, `$VARIABLE` or `--set KEY`. `path` is the file that was read, if any.
    """

    config: Config
    origins: Mapping[str, str]
    path: Path | None


def load(
    path: Path | None, environ: Mapping[str, str], sets: Sequence[str] = (), *, cwd: Path | None = None
) -> Loaded:
    """Read all sources. `path` (from `--config`) or `$DISCOVERY_CONFIG` must exist; the usual places need not.

    `sets` are the texts `KEY=VALUE` of `--set`; `cwd` is where relative paths begin (default: the process's).
    Raises ConfigError, one line that names the source, the key, what was expected and the nearest known key.
    """
    found: dict[str, object] = {}
    origins = {setting.key: DEFAULT for setting in TABLE.settings()}
    file, text = _find(path, environ, cwd or Path())
    if file is not None:
        document = yaml_source.read(text, str(file))
        _take(TABLE, document, found, origins)
    for variable in sorted(environ):
        if member := _variable(variable):
            _take(member, yaml_source.read(environ[variable], f"${variable}", one_line=True), found, origins)
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: expected KEY=VALUE, such as dns.payload_size=1232")
        label = f"--set {key}"
        _take(_member(key.split("."), label), yaml_source.read(value, label, one_line=True), found, origins)
    config = cast(Config, _build(TABLE, found))
    return Loaded(config=check(config, origins), origins=origins, path=file)


# ---------------------------------------------------------------- where settings come from


def _find(path: Path | None, environ: Mapping[str, str], cwd: Path) -> tuple[Path | None, str]:
    named = path or (Path(environ["DISCOVERY_CONFIG"]) if environ.get("DISCOVERY_CONFIG") else None)
    for candidate in (named,) if named else SEARCH:
        try:
            raw = (cwd / candidate).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            if named:
                raise _unreadable(candidate, error) from None
        except OSError as error:
            raise _unreadable(candidate, error) from None
        else:
            try:
                return candidate, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ConfigError(
                    f"{candidate}: not UTF-8 at byte {error.start}; save the file as UTF-8"
                ) from None
    return None, ""


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: the configuration file cannot be read: {error.strerror}")


def _variable(variable: str) -> Setting | Section | None:
    """What an environment variable sets; None when it is none of ours."""
    if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
        return None
    parts = variable.removeprefix(PREFIX).lower().split("__")
    if len(parts) == 1 and parts[0] not in TABLE.members and KUBERNETES.search(variable):
        return None
    return _member(parts, f"${variable}")


def _member(parts: Sequence[str], label: str) -> Setting | Section:
    here: Setting | Section = TABLE
    for part in parts:
        if isinstance(here, Setting):
            raise ConfigError(
                f"{label}: {here.key} is set as a whole: {expected(here.type)}", field=".".join(parts)
            )
        inner = here.members.get(part)
        if inner is None:
            _unknown(here, part, label)
        here = inner
    return here


# ---------------------------------------------------------------- from raw values to checked leaves


def _take(
    member: Setting | Section, document: Document, found: dict[str, object], origins: dict[str, str]
) -> None:
    """Take a document that is one setting, a section or everything."""

    def take(member: Setting | Section, raw: object, place: Place) -> None:
        if isinstance(member, Setting):
            found[member.key] = _convert(member, raw, place, document)
            origins[member.key] = document.at(place)
            return
        for name, value in _mapping(member, raw, place, document).items():
            take(member.members[name], value, (*place, name))

    take(member, document.value, ())


def _mapping(section: Section, raw: object, place: Place, document: Document) -> dict[str, object]:
    """The section's raw members. Nothing at all is an empty section: a file may have all its lines commented out."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        known = ", ".join(section.members)
        fail(document.at(place), section.key, f"expected a mapping with keys of {known}; got {_shown(raw)}")
    for name in raw:
        if name not in section.members:
            _unknown(section, name, document.at((*place, name)))
    return raw


def _convert(setting: Setting, raw: object, place: Place, document: Document) -> object:
    if setting.items is not None and isinstance(raw, list):
        for position, element in enumerate(raw):
            _check_element(setting, setting.items, position, element, (*place, position), document)
    try:
        return msgspec.convert(raw, setting.type)
    except msgspec.ValidationError:
        got = "a value that is not shown" if "secret" in setting.marks else _shown(raw)
        fail(document.at(place), setting.key, f"expected {expected(setting.type)}; got {got}")


def _check_element(
    setting: Setting, items: Section, position: int, element: object, place: Place, document: Document
) -> None:
    """One element of a list of sections, key by key, so that an error names the key and not only the list."""
    here = f"{setting.key}[{position}]"
    if element is None:
        element = {}
    numbered_items = msgspec.structs.replace(items, key=here)
    for name, value in _mapping(numbered_items, element, place, document).items():
        inner = items.members[name]
        if isinstance(inner, Setting):
            numbered = msgspec.structs.replace(inner, key=f"{here}.{name}")
            _convert(numbered, value, (*place, name), document)
    for name, inner in items.members.items():
        if isinstance(inner, Setting) and inner.required and name not in cast(dict[str, object], element):
            fail(document.at(place), f"{here}.{name}", f"missing; expected {expected(inner.type)}")


def _build(section: Section, found: Mapping[str, object]) -> msgspec.Struct:
    return section.cls(
        **{
            name: found.get(member.key, member.default)
            if isinstance(member, Setting)
            else _build(member, found)
            for name, member in section.members.items()
        }
    )


def _unknown(section: Section, name: object, where: str) -> NoReturn:
    key = f"{section.key}.{name}" if section.key else str(name)
    elsewhere = [setting.key for setting in TABLE.settings() if setting.key.split(".")[-1] == name]
    near = difflib.get_close_matches(str(name), section.members, n=1)
    if near:
        hint = f"did you mean {section.key}.{near[0]}?" if section.key else f"did you mean {near[0]}?"
    elif elsewhere:
        hint = f"did you mean {elsewhere[0]}?"
    else:
        hint = f"known here: {', '.join(section.members)}"
    fail(where, key, f"unknown setting; {hint}")


def _shown(raw: object) -> str:
    """A raw value on one short line; aliases may have made it endless or huge."""
    if raw is None:
        return "nothing"
    return str(raw).lower() if isinstance(raw, bool) else _REPR.repr(raw)

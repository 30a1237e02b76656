"""Options that several commands share.

Owns `--config` and `--set`, which may stand before or after the command's name, and `--node` and `--token`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from discovery.config import Loaded

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_NODE = "http://127.0.0.1:8053"
_PATH, _SETS = "discovery.config.path", "discovery.config.sets"


def config_options(command: Callable[P, R]) -> Callable[..., R]:
    """Give a command `--config` and `--set`; what is given before the command's name counts as well."""

    @click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Configuration file [default: $DISCOVERY_CONFIG, ./discovery.yaml, /etc/discovery/discovery.yaml].",
    )
    @click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="One setting, its value as YAML; repeatable.",
    )
    @functools.wraps(command)
    def wrapped(config_path: Path | None, sets: tuple[str, ...], *args: P.args, **kwargs: P.kwargs) -> R:
        meta = click.get_current_context().meta
        if config_path is not None:
            meta[_PATH] = config_path
        meta[_SETS] = (*meta.get(_SETS, ()), *sets)
        return command(*args, **kwargs)

    return wrapped


def config_loader() -> Callable[[], Loaded]:
    """What reads the running command's configuration, now and again for a reload; it raises ConfigError."""
    import os

    from discovery.config import load

    meta = click.get_current_context().meta
    return functools.partial(load, meta.get(_PATH), os.environ, meta[_SETS])


def node_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--node` and `--token`: which node to call, and how to prove who is calling."""
    command = click.option(
        "--token", envvar="DISCOVERY_TOKEN", metavar="TOKEN", help="Bearer token [default: $DISCOVERY_TOKEN]."
    )(command)
    return click.option(
        "--node",
        "node_url",
        envvar="DISCOVERY_NODE",
        default=DEFAULT_NODE,
        metavar="URL",
        help=f"The node to call [default: $DISCOVERY_NODE or {DEFAULT_NODE}].",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

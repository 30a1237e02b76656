"""Options that several commands share.

Owns `--config` and `--set`, which may stand before or after the command's name, `--node` with what proves to a node
who is calling and to the caller that it is the node (token, certificates), and those that describe an instance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from discovery.config import Loaded

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_NODE = "http://127.0.0.1:8053"
DEFAULT_SERVER = "127.0.0.1:1053"
_PATH, _SETS, _TLS = "discovery.config.path", "discovery.config.sets", "discovery.tls"


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
    return click.option(
        "--node",
        "node_url",
        envvar="DISCOVERY_NODE",
        default=DEFAULT_NODE,
        metavar="URL",
        help=f"The node to call [default: $DISCOVERY_NODE or {DEFAULT_NODE}].",
    )(proof_options(command))


def server_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--server`: which DNS server to ask."""
    return click.option(
        "--server",
        envvar="DISCOVERY_DNS",
        default=DEFAULT_SERVER,
        metavar="HOST:PORT",
        help=f"The server to ask [default: $DISCOVERY_DNS or {DEFAULT_SERVER}].",
    )(command)


def proof_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--token`, `--token-file`, `--ca`, `--cert` and `--key`. It gets the token; `tls_files` has the
    rest for the session to the node."""

    def keep(context: click.Context, option: click.Parameter, value: str | None) -> None:
        context.meta[f"{_TLS}.{option.name}"] = value

    for name, what in (
        ("key", "File of its key, where that is another"),
        ("cert", "File of a client certificate"),
        ("ca", "File of the CA that signs the nodes' certificates"),
    ):
        variable = f"DISCOVERY_{name.upper()}"
        command = click.option(
            f"--{name}",
            envvar=variable,
            metavar="FILE",
            expose_value=False,
            callback=keep,
            help=f"{what} [default: ${variable}].",
        )(command)
    command = click.option(
        "--token-file",
        envvar="DISCOVERY_TOKEN_FILE",
        metavar="FILE",
        expose_value=False,
        is_eager=True,
        callback=keep,
        help="File with the bearer token [default: $DISCOVERY_TOKEN_FILE].",
    )(command)
    return click.option(
        "--token",
        envvar="DISCOVERY_TOKEN",
        metavar="TOKEN",
        callback=_token,
        help="Bearer token; others on this machine may see it in the list of processes [default: $DISCOVERY_TOKEN].",
    )(command)


def _token(context: click.Context, option: click.Parameter, token: str | None) -> str | None:
    file = context.meta.get(f"{_TLS}.token_file")
    if token is not None or file is None:
        return token
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(
            f"--token-file: {file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None


def token_file() -> str | None:
    """The file `--token-file` of the running command."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(f"{_TLS}.token_file")


def tls_files() -> tuple[str | None, str | None, str | None]:
    """The files `--ca`, `--cert` and `--key` of the running command."""
    context = click.get_current_context(silent=True)
    meta = context.meta if context is not None else {}
    return meta.get(f"{_TLS}.ca"), meta.get(f"{_TLS}.cert"), meta.get(f"{_TLS}.key")


# An instance's fields, but for its id and its lease: (option, what click is told besides).
_FIELDS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (  # Any: click's parameters
    (("--host",), {"help": "Address or DNS name of the instance [default: the address the node sees]."}),
    (("--port",), {"type": click.IntRange(0, 65535), "help": "Port of the instance."}),
    (("--priority",), {"type": click.IntRange(0, 65535), "help": "SRV priority [default: the zone's]."}),
    (("--weight",), {"type": click.IntRange(0, 65535), "help": "SRV weight [default: the zone's]."}),
    (("--text",), {"help": "Text for TXT records."}),
    (("--mail",), {"is_flag": True, "help": "In MX records too."}),
    (
        ("--ttl",),
        {"type": click.IntRange(0), "help": "TTL of its DNS records in seconds [default: the zone's]."},
    ),
    (("--tag", "tags"), {"multiple": True, "metavar": "TAG", "help": "A tag to ask for; repeatable."}),
    (("--meta",), {"multiple": True, "metavar": "KEY=VALUE", "help": "A key and a short text; repeatable."}),
    (
        ("--named-port", "ports"),
        {"multiple": True, "metavar": "NAME=PORT", "help": "A named port; repeatable."},
    ),
    (
        ("--lease-ttl",),
        {"type": click.IntRange(0, 86400), "help": "Seconds to live without a heartbeat; 0: for ever."},
    ),
    (("--group",), {"help": "A label; DNS answers with the instances of one group."}),
    (
        ("--targetstrip",),
        {
            "type": int,
            "help": "Labels to take off the left of the names that are made for its address.",
        },
    ),
)


def instance_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of an instance; it gets `fields`, those that were given, as the API names them."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> R:  # Any: click's values
        names = ["host", "port", "priority", "weight", "text", "mail", "ttl", "tags", "meta", "ports"]
        found = {name: given.pop(name) for name in [*names, "lease_ttl", "group", "targetstrip"]}
        found["mail"] = found["mail"] or None
        found["tags"] = list(found["tags"]) or None
        found["meta"] = pairs(found["meta"], "--meta") or None
        found["ports"] = _ports(found["ports"]) or None
        fields = {name: value for name, value in found.items() if value is not None}
        return command(fields=fields, **given)

    decorated: Callable[..., R] = wrapped
    for words, told in reversed(_FIELDS):
        decorated = click.option(*words, **told)(decorated)
    return decorated


def pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """What `option` was given, each NAME=VALUE, as a mapping."""
    out = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint=option)
        if key in out:
            raise click.BadParameter(f"{key!r} is given twice", param_hint=option)
        out[key] = value
    return out


def _ports(texts: tuple[str, ...]) -> dict[str, int]:
    found = pairs(texts, "--named-port")
    try:
        return {name: int(port) for name, port in found.items()}
    except ValueError:
        raise click.BadParameter(
            "expected NAME=NUMBER, such as http=8080", param_hint="--named-port"
        ) from None

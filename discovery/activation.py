"""Sockets that the program which starts us has opened (systemd's socket activation, sd_listen_fds(3)).

Owns reading LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES, and which of our listeners each socket is for. The names, a
unit's FileDescriptorName=, are `dns` (UDP and TCP), `tls` (DNS over TLS) and `http`; without names all are `dns`.
Sockets that are given stand in for what the settings say of their kind. It opens nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import NamedTuple

from discovery.errors import ConfigError

FIRST = 3  # SD_LISTEN_FDS_START
NAMES = ("dns", "tls", "http")


class Given(NamedTuple):
    """Bound, non-blocking sockets; the streams listen."""

    udp: tuple[socket.socket, ...] = ()
    tcp: tuple[socket.socket, ...] = ()
    tls: tuple[socket.socket, ...] = ()
    http: tuple[socket.socket, ...] = ()


def take(environ: MutableMapping[str, str], pid: int, first: int = FIRST) -> Given:
    """The sockets for this process, numbered from `first` on; none when the variables are meant for another one.

    Takes the variables out of `environ`, so that no child of ours takes the sockets for its own. Raises ConfigError.
    """
    count, meant_for, names = (environ.pop(f"LISTEN_{each}", "") for each in ("FDS", "PID", "FDNAMES"))
    if not count or meant_for != str(pid):
        return Given()
    if not count.isascii() or not count.isdigit():
        raise ConfigError(f"LISTEN_FDS: expected a number of sockets; got {count!r}")
    named = names.split(":") if names else ["dns"] * int(count)
    if len(named) != int(count):
        raise ConfigError(f"LISTEN_FDNAMES: expected {count} names, as LISTEN_FDS says; got {names!r}")
    found: dict[str, list[socket.socket]] = {each: [] for each in Given._fields}
    kinds = [
        _kind(number, name) for number, name in enumerate(named, first)
    ]  # all are looked at before one is taken
    for number, kind in enumerate(kinds, first):
        found[kind].append(_socket(number))
    return Given(**{kind: tuple(sockets) for kind, sockets in found.items()})


def _socket(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    sock = socket.socket(fileno=number)
    sock.setblocking(False)
    return sock


def _kind(number: int, name: str) -> str:
    """The field of Given that a socket belongs to, by its name and type."""
    if name not in NAMES:
        raise ConfigError(
            f"socket {number} is named {name!r}; set FileDescriptorName= to one of {', '.join(NAMES)}"
        )
    try:
        probe = socket.socket(fileno=os.dup(number))
    except OSError as error:
        raise ConfigError(f"LISTEN_FDS: socket {number} ({name}) is not open: {error.strerror}") from error
    with probe:
        if probe.family not in (socket.AF_INET, socket.AF_INET6):
            raise ConfigError(
                f"socket {number} ({name}) is no Internet socket; listen on an address and port"
            )
        if name == "dns" and probe.type == socket.SOCK_DGRAM:
            return "udp"
        if probe.type == socket.SOCK_STREAM:
            if not probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ConfigError(f"socket {number} ({name}) does not listen; in a unit, set Accept=no")
            return "tcp" if name == "dns" else name
    raise ConfigError(f"socket {number} ({name}) is of a wrong type; {name} wants ListenStream=")

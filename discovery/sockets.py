"""Binding the sockets of a node.

Owns turning `HOST:PORT` into bound sockets and turning what can go wrong into one line that says what to change. A port
that another program has, a second node of ours too, is refused: UDP sockets are bound without SO_REUSEADDR, which
would let two programs share a port unseen.
"""

from __future__ import annotations

import errno
import socket

from discovery.config import parse_address
from discovery.errors import ConfigError

BACKLOG = 1024
PORT_TRIES = 50  # for port 0: TCP gives a port that UDP may not have free


def bind_dns(text: str) -> tuple[socket.socket, socket.socket]:
    """(UDP, TCP) on the same address and port, non-blocking; TCP listens. Raises ConfigError."""
    host, port = parse_address(text)
    for _ in range(PORT_TRIES):
        tcp = bind_tcp(text, "dns.listen")
        try:
            return _bind(host, tcp.getsockname()[1], socket.SOCK_DGRAM, "dns.listen", text), tcp
        except ConfigError:
            tcp.close()
            if port:
                raise
    raise ConfigError(f"dns.listen: {text}: found no port that is free for both UDP and TCP; name one")


def bind_tcp(text: str, setting: str) -> socket.socket:
    """A listening TCP socket for `setting`. Raises ConfigError."""
    host, port = parse_address(text)
    sock = _bind(host, port, socket.SOCK_STREAM, setting, text)
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _refused(error, setting, text, "TCP") from error
    return sock


def local_addresses() -> list[str]:
    """The addresses this machine would send from, IPv4 first. Asks the routing table; sends nothing."""
    found = []
    for family, beyond in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((beyond, 53))
                found.append(str(sock.getsockname()[0]))
        except OSError:  # no route for the family
            continue
    return found


def _bind(host: str, port: int, kind: socket.SocketKind, setting: str, text: str) -> socket.socket:
    protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV)
        family, _, _, _, address = found[0]
        sock = socket.socket(family, kind)
    except OSError as error:
        raise _refused(error, setting, text, protocol) from error
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise _refused(error, setting, text, protocol) from error
    return sock


def _refused(error: OSError, setting: str, text: str, protocol: str) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        reason = "is in use by another program, perhaps a second node; stop that or set another port"
    elif error.errno == errno.EACCES:
        reason = "needs a privilege: use a port above 1023, or give the program CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason = "is not an address of this machine; set one that is"
    else:
        reason = f"cannot be listened on: {error.strerror or error}"
    return ConfigError(f"{setting}: {text} ({protocol}) {reason}", field=setting)

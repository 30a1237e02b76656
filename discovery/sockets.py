"""Binding the sockets of a node.

Owns turning `HOST:PORT` into bound sockets and turning what can go wrong into one line that says what to change. A port
that another program has, a second node of ours too, is refused: a socket is bound for itself first, for with
SO_REUSEPORT two programs would share a port unseen. A UDP socket bound to a wildcard address answers from whatever
address routing prefers, not from the one asked, so each local address gets a socket of its own; the wildcard's is
left for addresses that come later or cannot be listed (all of 127.0.0.0/8), and costs more for each question.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from contextlib import ExitStack

import ifaddr

from discovery.activation import Given
from discovery.config import Config, parse_address
from discovery.dns.connections import BACKLOG
from discovery.errors import ConfigError

log = logging.getLogger(__name__)

PORT_TRIES = 50  # for port 0: TCP gives a port that UDP may not have free
MAX_OWN = 64  # local addresses with a socket of their own; further ones share the wildcard's
# Linux, <linux/in.h> and <linux/in6.h>: never let a forged ICMP message make answers go out in small fragments.
IP_MTU_DISCOVER, IP_PMTUDISC_OMIT, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT = 10, 5, 23, 5


def bind_all(config: Config, given: Given) -> Given:
    """Every socket of the node, bound as configured where none of its kind is `given`. Raises ConfigError."""
    with ExitStack() as stack:
        udp, tcp, tls, http = map(list, given)
        for sock in (*udp, *tcp, *tls, *http):
            stack.callback(sock.close)
        if not udp and not tcp:
            for text in config.dns.listen:
                several, one = bind_dns(text)
                udp += several
                tcp.append(one)
                for sock in (*several, one):
                    stack.callback(sock.close)
        elif not udp or not tcp:
            log.warning(
                "DNS was given no %s socket: give both, as clients need both", "TCP" if udp else "UDP"
            )
        for sock in http:
            if not config.http.open and not config.http.tokens and not _address(sock).is_loopback:
                raise ConfigError(
                    f"the HTTP socket on {_address(sock)} is not loopback, so anyone who reaches it could register; "
                    "set http.tokens, listen on loopback, or allow it with http.open: true",
                    field="http.open",
                )
        if not tls:
            for text in config.dns.tls_listen:
                tls.append(bind_tcp(text, "dns.tls_listen"))
                stack.callback(tls[-1].close)
        elif not config.dns.tls.cert:
            raise ConfigError(
                "a socket for DNS over TLS was given, but no certificate; set dns.tls.cert and dns.tls.key",
                field="dns.tls.cert",
            )
        if not http:
            for text in config.http.listen:
                http.append(bind_tcp(text, "http.listen"))
                stack.callback(http[-1].close)
        stack.pop_all()
    return Given(*map(tuple, (udp, tcp, tls, http)))


def bind_dns(text: str) -> tuple[list[socket.socket], socket.socket]:
    """(UDP, TCP) on the same address and port, non-blocking; TCP listens. Raises ConfigError.

    There are several UDP sockets when the address is a wildcard; the last of them is the wildcard's own.
    """
    host, port = parse_address(text)
    for _ in range(PORT_TRIES):
        tcp = bind_tcp(text, "dns.listen")
        try:
            return bind_udp(host, tcp.getsockname()[1], "dns.listen", text), tcp
        except ConfigError:
            tcp.close()
            if port:
                raise
    raise ConfigError(f"dns.listen: {text}: found no port that is free for both UDP and TCP; name one")


def bind_udp(host: str, port: int, setting: str, text: str) -> list[socket.socket]:
    """One socket; for a wildcard address one for each local address, and its own as the last. Raises ConfigError."""
    alone = _bind(host, port, socket.SOCK_DGRAM, setting, text)
    if not is_wildcard(alone):
        return [alone]
    family = alone.family
    alone.close()  # nobody else has the port
    local = interface_addresses(family)
    if len(local) > MAX_OWN:
        log.warning(
            "%s: %s: this machine has %d addresses; %d have a socket of their own, the others share a slower one",
            setting,
            text,
            len(local),
            MAX_OWN,
        )
    bound: list[socket.socket] = []
    with ExitStack() as stack:
        for each in (*local[:MAX_OWN], host):
            try:
                bound.append(_bind(each, port, socket.SOCK_DGRAM, setting, text, shared=True))
            except ConfigError as error:
                if each == host or getattr(error.__cause__, "errno", None) != errno.EADDRNOTAVAIL:
                    raise
                continue  # not usable yet, as an IPv6 address is for a moment: the wildcard's socket answers there
            stack.callback(bound[-1].close)
        stack.pop_all()
    return bound


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


def is_wildcard(sock: socket.socket) -> bool:
    return _address(sock).is_unspecified


def _address(sock: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(sock.getsockname()[0])


def interface_addresses(family: int) -> list[str]:
    """The addresses of this machine's interfaces in the family, but those that hold on one link only."""
    found = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            address = ipaddress.ip_address(text)
            if address.version == (6 if family == socket.AF_INET6 else 4) and not _is_on_one_link(address):
                found.append(text)
    return list(dict.fromkeys(found))


def _is_on_one_link(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.version == 6 and address.is_link_local


def share(first: socket.socket, count: int) -> list[socket.socket]:
    """`first` and more UDP sockets on its address, `count` in all, among which the kernel deals out the clients.

    Only `first` where its address can't be shared, as when another user's program has bound it for us. It was bound
    alone, so no other program was there; from now on programs of this user could join.
    """
    host, port = first.getsockname()[:2]
    found = [first]
    with ExitStack() as stack:
        try:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for _ in range(count - 1):
                found.append(_bind(host, port, socket.SOCK_DGRAM, "dns.listen", host, shared=True))
                stack.callback(found[-1].close)
        except (OSError, ConfigError) as error:
            log.info("the workers share one socket on %s: %s", host, error)
            return [first]
        stack.pop_all()
    return found


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


def _bind(
    host: str, port: int, kind: socket.SocketKind, setting: str, text: str, *, shared: bool = False
) -> socket.socket:
    """`shared`: with SO_REUSEPORT, beside others of ours on the same port."""
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
        elif family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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

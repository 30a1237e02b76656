"""The rules of a configuration that types cannot state.

Owns the one form of names and networks, what an address to listen on looks like, and the rules between settings.
It never reads a source: it is given a `Config` built from all of them, and where each value came from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

import msgspec

from discovery import names
from discovery.errors import ConfigError, InvalidField
from discovery.kv.etcd_urls import check_urls
from discovery.kv.member_plan import MemberSettings, check_settings
from discovery.settings import Config
from discovery.tokens import configured

OWN = "discovery"  # the first part of what nodes keep for themselves: members, tokens, cookies' secrets
DEFAULT = "default"  # the origin of a value that no source set


def fail(where: str, key: str, complaint: str) -> NoReturn:
    """Raise the one line about a setting: where it is written, its dotted key, what is wrong."""
    lead = where if where.endswith(f" {key}") or not key else f"{where}: {key}"
    raise ConfigError(f"{lead}: {complaint}", field=key or None)


def check(config: Config, origins: Mapping[str, str]) -> Config:
    """Bring names into one form and hold the rules between settings. Raises ConfigError."""
    config = _names(config, origins)
    listening = (
        ("dns.listen", config.dns.listen),
        ("dns.tls_listen", config.dns.tls_listen),
        ("http.listen", config.http.listen),
    )
    for key, addresses in listening:
        for text in addresses:
            try:
                parse_address(text)
            except ValueError as error:
                fail(origins[key], key, str(error))
        if covered := _covered(addresses):
            fail(origins[key], key, f"{covered[0]} is within {covered[1]}; leave one of them out")
    if config.dns.tls_listen and not config.dns.tls.cert:
        fail(
            origins["dns.tls_listen"],
            "dns.tls_listen",
            "needs a certificate; set dns.tls.cert and dns.tls.key",
        )
    if not config.http.tls.cert:
        for name in ("key", "client_ca"):
            if getattr(config.http.tls, name):
                key = f"http.tls.{name}"
                fail(origins[key], key, "there is no TLS without a certificate; set http.tls.cert")
    try:
        configured(config.http.tokens, names.from_text(config.zones[0].name))
    except ValueError as error:
        fail(origins["http.tokens"], "http.tokens", str(error))
    if not config.http.open and not config.http.tokens:
        for text in config.http.listen:
            if not _is_loopback(parse_address(text)[0]):
                fail(
                    origins["http.listen"],
                    "http.listen",
                    f"{text} is not loopback, so anyone who reaches it could register; "
                    "set http.tokens (`discovery token make --offline` makes one), listen on loopback, or allow it "
                    "with http.open: true",
                )
    _networks(config, origins)
    prefix = config.store.prefix
    if not re.fullmatch(r"(/[^/\s]+)+", prefix):
        complaint = f"expected parts that each follow a slash, such as /skydns; got {prefix!r}"
        fail(origins["store.prefix"], "store.prefix", complaint)
    if prefix.split("/")[1] == OWN:
        own = f"for the node's own keys are below /{OWN}, secrets among them"
        complaint = f"expected another first part, {own}; got {prefix!r}"
        fail(origins["store.prefix"], "store.prefix", complaint)
    _store(config, origins)
    low, default, high = config.leases.min_ttl, config.leases.default_ttl, config.leases.max_ttl
    if not low <= default <= high:
        keys = ("leases.default_ttl", "leases.min_ttl", "leases.max_ttl")
        key = next(key for key in keys if origins[key] != DEFAULT)
        fail(
            origins[key], key, f"expected min_ttl <= default_ttl <= max_ttl; got {low}, {default} and {high}"
        )
    if config.node.address:
        try:
            ipaddress.ip_address(config.node.address)
        except ValueError:
            fail(
                origins["node.address"],
                "node.address",
                f"expected an IP address; got {config.node.address!r}",
            )
    return config


def _store(config: Config, origins: Mapping[str, str]) -> None:
    if config.store.engine == "managed-etcd":
        try:
            check_settings(member_settings(config, config.node.name or "node"))
        except ConfigError as error:
            key = error.field or "store.member"
            fail(origins[key], key, error.detail.removeprefix(f"{key}: "))
    try:
        check_urls(config.store.etcd.endpoints)
    except ValueError as error:
        fail(origins["store.etcd.endpoints"], "store.etcd.endpoints", str(error))


def member_settings(config: Config, node_name: str) -> MemberSettings:
    """Of the member that engine `managed-etcd` runs; it has the node's name where it has none of its own.

    URLs come without a final slash: etcd compares them as text.
    """
    member = config.store.member
    named = {name: getattr(member, name).rstrip("/") for name in ("client", "peer", "join")}
    listed = {name: url.rstrip("/") for name, url in member.initial_cluster.items()}
    own = {"name": member.name or node_name, "initial_cluster": listed}
    return MemberSettings(**{**msgspec.structs.asdict(member), **named, **own})


def _networks(config: Config, origins: Mapping[str, str]) -> None:
    """Servers are addresses, for a name would have to be looked up by this very server; networks are networks."""
    listed = [("forward.upstreams", text) for text in config.forward.upstreams]
    listed += [("forward.zones", text) for servers in config.forward.zones.values() for text in servers]
    for key, text in listed:
        try:
            parse_server(text)
        except ValueError as error:
            fail(origins[key], key, str(error))
    for name, servers in config.forward.zones.items():
        try:
            _domain(name)
        except ValueError as error:
            fail(origins["forward.zones"], "forward.zones", str(error))
        if not servers:
            fail(origins["forward.zones"], "forward.zones", f"{name} has no server; name one or leave it out")
    clients = (
        ("forward.allow", config.forward.allow),
        ("dns.allow", config.dns.allow),
        ("dns.deny", config.dns.deny),
    )
    for key, texts in clients:
        for text in texts:
            try:
                networks(text)
            except ValueError as error:
                fail(origins[key], key, str(error))


def parse_server(text: str) -> tuple[str, int]:
    """The address and port of another name server: `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]:53`.

    Raises ValueError.
    """
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))), 53
    except ValueError:
        host, port = parse_address(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            f"expected the address of a name server, such as 192.0.2.1 or 192.0.2.1:53; got {text!r}"
        ) from None
    if not port:
        raise ValueError(f"expected a port from 1 to 65535; got {text!r}")
    return host, port


NETWORKS = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
}


def networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """A network in CIDR form or an address, or what `loopback` and `private` stand for. Raises ValueError."""
    try:
        return [ipaddress.ip_network(each) for each in NETWORKS.get(text, (text,))]
    except ValueError:
        raise ValueError(
            f"expected a network such as 10.0.0.0/8, loopback or private; got {text!r}"
        ) from None


def _names(config: Config, origins: Mapping[str, str]) -> Config:
    """All names in lower case with their final dot, none listed twice."""

    def domain(key: str, text: str) -> str:
        try:
            return _domain(text)
        except ValueError as error:
            fail(origins["zones"], key, str(error))

    zones = tuple(
        msgspec.structs.replace(
            zone,
            name=domain(f"zones[{position}].name", zone.name),
            hostmaster=zone.hostmaster and domain(f"zones[{position}].hostmaster", zone.hostmaster),
            local=zone.local and domain(f"zones[{position}].local", zone.local),
        )
        for position, zone in enumerate(config.zones)
    )
    if twice := _twice(zone.name for zone in zones):
        fail(origins["zones"], "zones", f"{twice} is listed twice; keep one")
    try:
        reverse_zones = tuple(map(_reverse_zone, config.reverse_zones))
    except ValueError as error:
        fail(origins["reverse_zones"], "reverse_zones", str(error))
    if twice := _twice(reverse_zones):
        fail(origins["reverse_zones"], "reverse_zones", f"{twice} is listed twice; keep one")
    if config.node.name:
        try:
            names.check_label(config.node.name, "node.name")
        except InvalidField as error:
            fail(origins["node.name"], "node.name", error.detail.removeprefix("node.name: "))
    return msgspec.structs.replace(config, zones=zones, reverse_zones=reverse_zones)


def parse_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:53`, `[::1]:53` or `name:53` as host (without brackets) and port, 0..65535.

    Raises ValueError, whose text says what was expected.
    """
    host, colon, port = text.rpartition(":")
    wrong = ValueError(f"expected HOST:PORT or [IPV6]:PORT with a port from 0 to 65535; got {text!r}")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise wrong
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port)
        except ValueError:
            raise wrong from None
    try:
        return str(ipaddress.IPv4Address(host)), int(port)
    except ValueError:
        pass
    try:
        names.host_path(host)
    except ValueError:
        raise wrong from None
    return host, int(port)


def _covered(addresses: Iterable[str]) -> tuple[str, str] | None:
    """An address to listen on that another one takes in, and that one: they could not both be bound."""
    seen: dict[tuple[str, int], str] = {}
    for text in addresses:
        host, port = parse_address(text)
        if port and (host, port) in seen:
            return text, seen[host, port]
        seen[host, port] = text
    for (host, port), text in seen.items():
        for wildcard in ("0.0.0.0", "::"):  # noqa: S104  # these are looked for, not listened on
            whole = seen.get((wildcard, port))
            if port and whole not in (None, text) and (":" in host) == (":" in wildcard):
                return text, str(whole)
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


def _domain(text: str) -> str:
    """A name in lower case with its final dot. Raises ValueError for the root and for what is no name."""
    bare = text.removesuffix(".")
    if not bare:
        raise ValueError(f"expected a domain name below the root; got {text!r}")
    try:
        path = tuple(names.check_label(label, "label") for label in reversed(bare.split(".")))
    except InvalidField as error:
        raise ValueError(f"{text!r}: {error.detail.removeprefix('label: ')}") from None
    if not names.is_name(path):
        raise ValueError(f"{text!r} is longer than a domain name can be")
    return names.to_text(path)


def _reverse_zone(text: str) -> str:
    """A network in CIDR form, or a name under in-addr.arpa or ip6.arpa with its final dot. Raises ValueError."""
    if "/" in text:
        return str(ipaddress.ip_network(text))
    name = _domain(text)
    octet, nibble = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.", r"[0-9a-f]\."
    if not re.fullmatch(rf"({octet}){{0,4}}in-addr\.arpa\.|({nibble}){{0,32}}ip6\.arpa\.", name):
        raise ValueError(f"expected a network such as 10.0.0.0/8, or 10.in-addr.arpa.; got {text!r}")
    return name


def _twice(texts: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            return text
        seen.add(text)
    return None

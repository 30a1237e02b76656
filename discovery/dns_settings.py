"""From the configuration to what answering is set up with.

Owns the mapping of settings to zones, reverse zones, this node's identity and the texts of class CH. It opens nothing:
host name and local addresses are arguments.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from discovery import __version__, names
from discovery.config_rules import networks, parse_address, parse_server
from discovery.dns.admission import Limits
from discovery.dns.counters import DnsCounters
from discovery.dns.forward import Routes
from discovery.dns.records import Node
from discovery.dns.rrl import Rates
from discovery.dns.server import DnsServer
from discovery.dns.synthesis import Settings
from discovery.dns.upstream import Server
from discovery.dns.zone import Zone, Zones
from discovery.names import Path
from discovery.settings import Config
from discovery.view import View


def dns_settings(config: Config, *, host_name: str, local_addresses: Sequence[str]) -> Settings:
    """`local_addresses`: this machine's own, the preferred one first; used where no listening address tells."""
    node = Node(node_label(config, host_name), node_addresses(config, local_addresses))
    zones = [
        Zone(
            apex=names.from_text(zone.name),
            ttl=zone.ttl,
            negative_ttl=zone.negative_ttl,
            priority=zone.priority,
            weight=zone.weight,
            hostmaster=names.from_text(zone.hostmaster) if zone.hostmaster else (),
            local=names.from_text(zone.local) if zone.local else None,
        )
        for zone in config.zones
    ]
    configured = {zone.apex for zone in zones}
    for apex in reverse_apexes(config):
        if apex not in configured:
            zones.append(Zone(apex=apex, ttl=zones[0].ttl, negative_ttl=zones[0].negative_ttl, reverse=True))
    return Settings(
        zones=Zones(zones),
        node=node,
        max_matched=config.dns.max_matched,
        round_robin=config.dns.round_robin,
        payload_size=config.dns.payload_size,
        chaos=_chaos(node.label) if config.dns.chaos else {},
        recursive=routes(config).any,
        nsid=node.label if config.dns.chaos else b"",
    )


def routes(config: Config) -> Routes:
    """Where names outside the zones are asked for, and for whom."""
    forward = config.forward
    return Routes(
        upstreams=tuple(Server(*parse_server(text)) for text in forward.upstreams),
        zones={
            names.from_text(name): tuple(Server(*parse_server(text)) for text in servers)
            for name, servers in forward.zones.items()
        },
        stubs=forward.stubs,
        allow=tuple(network for text in forward.allow for network in networks(text)),
        ndots=forward.ndots,
        cache_bytes=forward.cache_bytes,
    )


def limits(config: Config) -> Limits:
    """Who may ask, and how often. Of `dns.workers` each gets its share of a rate."""
    processes = max(1, config.dns.workers)
    rates = [each / processes for each in msgspec.structs.astuple(config.dns.rrl)]
    allow, deny = (
        tuple(network for text in texts for network in networks(text))
        for texts in (config.dns.allow, config.dns.deny)
    )
    return Limits(allow, deny, Rates(*rates))


V = TypeVar("V", bound=View)


def view_of(config: Config, kind: type[V]) -> V:
    """An empty view for that configuration."""
    return kind(
        config.store.prefix,
        apexes=zone_apexes(config),
        reverse=reverse_apexes(config),
        grace_of=grace_of(config),
    )


def dns_server(config: Config, view: View, settings: Settings, counters: DnsCounters) -> DnsServer:
    return DnsServer(
        view,
        settings,
        routes(config),
        counters,
        cache_bytes=config.dns.answer_cache_bytes,
        limits=limits(config),
    )


def zone_apexes(config: Config) -> list[Path]:
    return [names.from_text(zone.name) for zone in config.zones]


def reverse_apexes(config: Config) -> list[Path]:
    """The apexes of the reverse zones; a network is covered by the fewest names of whole octets or nibbles."""
    apexes: list[Path] = []
    for text in config.reverse_zones:
        if "/" not in text:
            apexes.append(names.from_text(text))
            continue
        network = ipaddress.ip_network(text)
        step = 8 if network.version == 4 else 4
        whole = -(-network.prefixlen // step) * step
        for subnet in network.subnets(new_prefix=whole):
            path = names.reverse_path(subnet.network_address.packed)
            apexes.append(path[: 2 + whole // step])
    return list(dict.fromkeys(apexes))


def grace_of(config: Config) -> Callable[[Path], float]:
    """The `negative_grace` of the zone that a name lies in; 0 outside every zone."""
    graces = dict.fromkeys(reverse_apexes(config), float(config.zones[0].negative_grace))
    graces |= {names.from_text(zone.name): float(zone.negative_grace) for zone in config.zones}

    def grace(path: Path) -> float:
        for length in range(len(path), 0, -1):
            found = graces.get(path[:length])
            if found is not None:
                return found
        return 0.0

    return grace


def node_label(config: Config, host_name: str) -> bytes:
    """This node's name below ns.dns.D: `node.name`, else the host name's first label, made legal."""
    if config.node.name:
        return config.node.name.lower().encode()
    label = re.sub(r"[^a-z0-9_-]", "-", host_name.partition(".")[0].lower()).strip("-")[: names.MAX_LABEL]
    return label.encode() or b"node"


def node_addresses(config: Config, local_addresses: Sequence[str]) -> tuple[bytes, ...]:
    """The address others reach this node at: never loopback or a wildcard unless nothing else is there."""
    if config.node.address:
        return (ipaddress.ip_address(config.node.address).packed,)
    listening = []
    for text in config.dns.listen:
        try:
            address = ipaddress.ip_address(parse_address(text)[0])
        except ValueError:  # a host name: it says nothing about which address others use
            continue
        listening.append(address)
    if any(address.is_unspecified for address in listening) or not listening:
        listening += [ipaddress.ip_address(text) for text in local_addresses]
    usable = [address for address in listening if not address.is_unspecified]
    beyond = [address for address in usable if not address.is_loopback]
    chosen = beyond or usable or [ipaddress.ip_address("127.0.0.1")]
    return tuple(dict.fromkeys(address.packed for address in chosen))


def _chaos(label: bytes) -> dict[bytes, bytes]:
    """Names in wire form to texts (RFC 4892 and the custom of BIND and NSD)."""
    version = f"discovery {__version__}".encode()
    texts = {"version.bind": version, "version.server": version, "hostname.bind": label, "id.server": label}
    return {_wire(name): text for name, text in texts.items()}


def _wire(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"

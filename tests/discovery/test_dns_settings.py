"""discovery.dns_settings: from the configuration to zones and this node's identity."""

from __future__ import annotations

import ipaddress

import pytest

from discovery import names
from discovery.dns.admission import NO_LIMITS
from discovery.dns.rrl import Rates
from discovery.dns_settings import dns_settings, grace_of, limits, node_addresses, node_label, reverse_apexes
from discovery.settings import Config, DnsConfig, NodeConfig, RrlConfig, ZoneConfig


def apex_texts(*networks: str) -> list[str]:
    return [names.to_text(apex) for apex in reverse_apexes(Config(reverse_zones=networks))]


def texts(addresses: tuple[bytes, ...]) -> list[str]:
    return [str(ipaddress.ip_address(address)) for address in addresses]


@pytest.mark.parametrize(
    ("network", "apexes"),
    [
        ("10.0.0.0/8", ["10.in-addr.arpa."]),
        ("192.168.4.0/23", ["4.168.192.in-addr.arpa.", "5.168.192.in-addr.arpa."]),
        ("172.16.0.0/12", [f"{octet}.172.in-addr.arpa." for octet in range(16, 32)]),
        ("2001:db8::/32", ["8.b.d.0.1.0.0.2.ip6.arpa."]),
        ("2001:db8::/31", ["8.b.d.0.1.0.0.2.ip6.arpa.", "9.b.d.0.1.0.0.2.ip6.arpa."]),
        ("0.10.in-addr.arpa.", ["0.10.in-addr.arpa."]),
    ],
)
def test_a_network_is_covered_by_whole_octets_or_nibbles(network: str, apexes: list[str]) -> None:
    assert apex_texts(network) == apexes


def test_a_zone_takes_its_settings() -> None:
    zone = ZoneConfig(name="a.test.", ttl=7, negative_ttl=3, hostmaster="hm.a.test.", local="x.a.test.")
    settings = dns_settings(Config(zones=(zone,)), host_name="node1.example", local_addresses=[])
    made = settings.zones.first
    assert (made.ttl, made.negative_ttl) == (7, 3)
    assert (made.rname, made.local) == (names.from_text("hm.a.test."), names.from_text("x.a.test."))
    assert settings.node.label == b"node1"
    assert settings.chaos[b"\x02id\x06server\0"] == b"node1"
    assert dns_settings(Config(dns=DnsConfig(chaos=False)), host_name="n", local_addresses=[]).chaos == {}


def test_the_node_is_never_reached_at_loopback_unless_nothing_else_is_there() -> None:
    def of(*listen: str, address: str = "") -> list[str]:
        config = Config(dns=DnsConfig(listen=listen), node=NodeConfig(address=address))
        return texts(node_addresses(config, ["192.0.2.7", "2001:db8::7"]))

    assert of("127.0.0.1:53", "192.0.2.1:53") == ["192.0.2.1"]
    assert of("0.0.0.0:53") == ["192.0.2.7", "2001:db8::7"]
    assert of("127.0.0.1:53") == ["127.0.0.1"]
    assert of("127.0.0.1:53", address="198.51.100.1") == ["198.51.100.1"]


def test_limits_are_off_by_default_and_workers_share_a_rate() -> None:
    assert limits(Config()) == NO_LIMITS
    dns = DnsConfig(workers=4, allow=("loopback", "10.0.0.0/8"), rrl=RrlConfig(answers=100, errors=2))
    made = limits(Config(dns=dns))
    assert made.rates == Rates(25.0, 0.0, 0.5)
    assert [str(network) for network in made.allow] == ["127.0.0.0/8", "::1/128", "10.0.0.0/8"]


def test_a_host_name_becomes_a_label() -> None:
    assert node_label(Config(), "Web_1.example.com") == b"web_1"
    assert node_label(Config(), "-ä.x") == b"node"
    assert node_label(Config(node=NodeConfig(name="N1")), "other") == b"n1"


def test_grace_is_the_closest_zones() -> None:
    zones = (ZoneConfig(name="a.test.", negative_grace=60), ZoneConfig(name="b.a.test.", negative_grace=5))
    grace = grace_of(Config(zones=zones))
    assert grace(names.from_text("x.a.test.")) == 60
    assert grace(names.from_text("x.b.a.test.")) == 5
    assert grace(names.from_text("x.test.")) == 0

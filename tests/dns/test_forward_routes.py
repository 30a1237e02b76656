"""dns.forward: whom to ask for a name, and which clients may."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

from discovery.dns.forward import Forwarder, Routes
from discovery.dns.source import Path
from discovery.dns.upstream import Server
from discovery.dns.zone import Zone
from discovery.names import from_text
from tests.support.clock import FakeClock
from tests.support.dns import APEX, Stored, World

WWW = from_text("www.example.com.")
UP, ZONE, INNER = Server("192.0.2.1", 53), Server("192.0.2.2", 53), Server("192.0.2.3", 53)


def routed(routes: Routes) -> Forwarder:
    world = World()
    return Forwarder(routes, world.view, world.settings.zones, world.counters, FakeClock())


def test_the_closest_configured_zone_goes_before_upstreams() -> None:
    zones: Mapping[Path, tuple[Server, ...]] = {
        from_text("corp.test."): (ZONE,),
        from_text("inner.corp.test."): (INNER, UP),
    }
    forwarder = routed(Routes(upstreams=(UP,), zones=zones))
    for name, servers in (
        ("corp.test.", (ZONE,)),
        ("www.corp.test.", (ZONE,)),
        ("xcorp.test.", (UP,)),
        ("a.b.inner.corp.test.", (INNER, UP)),
        ("test.", (UP,)),
        (".", (UP,)),
    ):
        assert forwarder.servers(from_text(name)) == servers, name
    assert routed(Routes(zones={(): (ZONE,)})).servers(WWW) == (ZONE,)
    assert routed(Routes()).servers(WWW) == ()


def stubs(stored: Stored) -> World:
    return World({f"{name}.stub.dns": content for name, content in stored.items()})


def forwarder_of(world: World, routes: Routes) -> Forwarder:
    return Forwarder(routes, world.view, world.settings.zones, world.counters, FakeClock())


def test_stub_zones_go_before_all_and_the_closest_one_before_others() -> None:
    world = stubs(
        {
            "a.example.com": {"host": "192.0.2.9", "port": 5353},
            "b.example.com": {"host": "2001:db8::9"},
            "a.sub.example.com": {"host": "192.0.2.8"},
        }
    )
    routes = Routes(upstreams=(UP,), zones={from_text("example.com."): (ZONE,)}, stubs=True)
    forwarder = forwarder_of(world, routes)
    two = (Server("192.0.2.9", 5353), Server("2001:db8::9", 53))
    for name, servers in (
        ("example.com.", two),
        ("www.example.com.", two),
        ("b.www.example.com.", two),
        ("sub.example.com.", (Server("192.0.2.8", 53),)),
        ("www.sub.example.com.", (Server("192.0.2.8", 53),)),
        ("example.org.", (UP,)),
        ("com.", (UP,)),
    ):
        assert forwarder.servers(from_text(name)) == servers, name
    assert forwarder_of(world, Routes(upstreams=(UP,))).servers(WWW) == (UP,)


def test_a_stub_server_is_one_label_with_an_address() -> None:
    world = stubs(
        {
            "name.example.com": {"host": "ns.example.net"},
            "text.example.com": {"host": "", "text": "hello"},
            "bad.example.com": b"{",
            "a.two.labels.example.org": {"host": "192.0.2.9"},
            "leaf": {"host": "192.0.2.9"},
        }
    )
    forwarder = forwarder_of(world, Routes(stubs=True))
    assert forwarder.servers(WWW) == ()
    assert forwarder.servers(from_text("example.org.")) == ()
    assert forwarder.servers(from_text("two.labels.example.org.")) == (Server("192.0.2.9", 53),)
    assert forwarder.servers(from_text("www.leaf.")) == ()


def test_stub_zones_are_changed_while_running() -> None:
    world = World()
    forwarder = forwarder_of(world, Routes(upstreams=(UP,), stubs=True))
    assert forwarder.servers(WWW) == (UP,)
    world.put("a.example.com.stub.dns", {"host": "192.0.2.9"})
    assert forwarder.servers(WWW) == (Server("192.0.2.9", 53),)
    world.put("a.example.com.stub.dns", {"host": "192.0.2.10", "port": 54})
    assert forwarder.servers(WWW) == (Server("192.0.2.10", 54),)
    world.delete("a.example.com.stub.dns")
    assert forwarder.servers(WWW) == (UP,)


def test_every_zone_may_hold_stub_zones() -> None:
    zones = [Zone(apex=APEX), Zone(apex=from_text("second.test."))]
    world = World({"a.example.com.stub.dns.second.test.": {"host": "192.0.2.9"}}, zones=zones)
    assert forwarder_of(world, Routes(stubs=True)).servers(WWW) == (Server("192.0.2.9", 53),)
    world.put("a.com.stub.dns.second.test.", {"host": "192.0.2.8"})
    world.put("a.www.example.com.stub.dns", {"host": "192.0.2.7"})
    assert forwarder_of(world, Routes(stubs=True)).servers(WWW) == (Server("192.0.2.7", 53),)


def test_only_clients_of_the_networks_allowed() -> None:
    allow = tuple(map(ip_network, ("127.0.0.0/8", "10.1.0.0/16", "fe80::/10", "2001:db8::/32")))
    forwarder = routed(Routes(allow=allow))
    for client in ("127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "fe80::1%eth0", "2001:db8::1"):
        assert forwarder.allowed(client), client
        assert forwarder.allowed(client), client
    for client in ("10.2.0.1", "::ffff:10.2.0.1", "::1", "2001:db9::1"):
        assert not forwarder.allowed(client), client
        assert not forwarder.allowed(client), client
    assert not routed(Routes()).allowed("127.0.0.1")


def test_what_is_remembered_of_clients_is_bounded() -> None:
    forwarder = routed(Routes())
    for number in range(10_100):
        forwarder.allowed(f"10.0.{number >> 8}.{number & 255}")
    assert len(forwarder._allowed) <= 10_001

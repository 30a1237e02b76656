"""dns.export: a zone as a master file, read back by another implementation."""

from __future__ import annotations

import dns.rdatatype
import dns.zone

from discovery import names
from discovery.dns.export import export
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World

STORED = {
    "i1.web.prod": {"host": "10.0.0.1", "port": 80, "text": 'a "quoted" \\ text', "mail": True},
    "i2.web.prod": {"host": "2001:db8::2", "port": 80, "meta": {"k": "v"}},
    "alias": {"host": "web.prod.d.test"},
    "out": {"host": "www.example.com"},
    "out2": {"host": "www.example.com", "port": 443},
    "a.many": {"host": "x.example.com"},
    "b.many": {"host": "y.example.com"},
    "bad": b"{",
    "_http._tcp.sub": {"host": "10.0.0.3"},
}


def master_file(world: World, zone: Zone) -> str:
    return "".join(export(zone, world.view, world.settings))


def test_another_implementation_reads_what_dns_answers() -> None:
    zone = Zone(apex=APEX)
    world = World(STORED, zones=[zone])
    read = dns.zone.from_text(master_file(world, zone), origin="d.test.", relativize=False, check_origin=True)
    seen = 0
    for owner, rdataset in read.iterate_rdatasets():
        answer = world.ask(owner.to_text(), dns.rdatatype.to_text(rdataset.rdtype), tcp=True)
        own = [rrset for rrset in answer.answer if (rrset.name, rrset.rdtype) == (owner, rdataset.rdtype)]
        assert {item for rrset in own for item in rrset} == set(rdataset), owner
        assert {rrset.ttl for rrset in own} == {rdataset.ttl}
        seen += 1
    assert seen >= 20
    assert read.get_rdataset("alias.d.test.", "CNAME") is not None
    assert read.get_rdataset("out2.d.test.", "CNAME") is None
    assert read.get_rdataset("out2.d.test.", "SRV") is not None
    assert read.get_node("bad.d.test.") is None


def test_a_zone_within_a_zone_is_left_to_itself() -> None:
    outer, inner = Zone(apex=APEX), Zone(apex=(*APEX, b"inner"))
    world = World(
        {"i1.web.inner": {"host": "10.0.0.1"}, "i1.web": {"host": "10.0.0.2"}}, zones=[outer, inner]
    )
    assert "inner.d.test." not in master_file(world, outer)
    assert "10.0.0.1" in master_file(world, inner)


def test_a_reverse_zone_holds_the_pointers_of_services() -> None:
    forward = Zone(apex=APEX)
    reverse = Zone(apex=names.from_text("10.in-addr.arpa."), reverse=True)
    world = World({"i1.web": {"host": "10.0.0.1"}}, zones=[forward, reverse])
    assert "1.0.0.10.in-addr.arpa. 5 IN PTR i1.web.d.test." in master_file(world, reverse)


def test_stored_pointers_stand_and_a_name_server_is_no_alias() -> None:
    forward = Zone(apex=APEX)
    reverse = Zone(apex=names.from_text("10.in-addr.arpa."), reverse=True)
    stored = {
        "/skydns/arpa/in-addr/10/2/2/2": {"host": "web.d.test"},
        "a.ns.dns": {"host": "al.d.test"},
        "al": {"host": "h.d.test"},
        "h": {"host": "10.0.0.3"},
        "i1.*.st": {"host": "10.0.0.4"},
    }
    world = World(stored, zones=[forward, reverse])
    assert "2.2.2.10.in-addr.arpa. 5 IN PTR web.d.test." in master_file(world, reverse)
    assert "CNAME" not in master_file(world, reverse)
    text = master_file(world, forward)
    assert "d.test. 5 IN NS al.d.test." in text
    assert "al.d.test. 5 IN A 10.0.0.3" in text
    assert "\nal.d.test. 5 IN CNAME" not in text
    assert not [line for line in text.splitlines() if "*" in line.split(" ")[0]]

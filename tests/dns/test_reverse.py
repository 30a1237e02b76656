"""PTR: stored ones, and those that reverse zones have by themselves. Records are zone-file lines relative to d.test."""

from __future__ import annotations

from discovery import names
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World

WEB = {"1.web": {"host": "10.0.0.1", "port": 80}, "2.web": {"host": "10.0.0.2", "port": 81}}
REVERSE = Zone(apex=names.from_text("10.in-addr.arpa."), reverse=True)
REVERSE6 = Zone(apex=names.from_text("8.b.d.0.1.0.0.2.ip6.arpa."), reverse=True)


def test_stored_ptr_outside_every_zone_is_answered_with_authority_and_nothing_else_is() -> None:
    world = World(
        {
            "/skydns/arpa/in-addr/10/0/0/1": {"host": "a.example.com", "targetstrip": 1},
            "/skydns/arpa/in-addr/10/0/0/2": {"host": "10.9.9.9"},
        }
    )
    name = "1.0.0.10.in-addr.arpa."
    assert world.says(name, "PTR") == [f"{name} 5 PTR a.example.com."]
    for other, rtype in ((name, "A"), ("0.0.10.in-addr.arpa.", "PTR"), ("2.0.0.10.in-addr.arpa.", "PTR")):
        assert world.ask(other, rtype).rcode() == 5


def test_ptr_by_themselves_in_reverse_zones() -> None:
    world = World(
        {
            "1.web": {"host": "10.0.0.1", "ttl": 44},
            "2.web": {"host": "2001:db8::1"},
            "1.away.other.": {"host": "10.0.0.1"},
            "x.example.stub.dns": {"host": "10.0.0.7"},
            "/skydns/arpa/in-addr/10/0/0/3": {"host": "stored.d.test"},
            "3.web": {"host": "10.0.0.3"},
            "/skydns/arpa/in-addr/10/0/0/4": {"host": "10.0.0.5"},
            "4.web": {"host": "10.0.0.4"},
        },
        zones=[Zone(apex=APEX), REVERSE, REVERSE6],
    )
    assert world.says("1.0.0.10.in-addr.arpa.", "PTR") == ["1.0.0.10.in-addr.arpa. 44 PTR 1.web"]
    six = "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa."
    assert world.says(six, "PTR") == [f"{six} 5 PTR 2.web"]
    assert world.says("3.0.0.10.in-addr.arpa.", "PTR") == ["3.0.0.10.in-addr.arpa. 5 PTR stored"]
    assert world.says("4.0.0.10.in-addr.arpa.", "PTR") == ["NODATA"]
    assert world.says("5.0.0.10.in-addr.arpa.", "PTR") == ["NXDOMAIN"]
    assert world.says("7.0.0.10.in-addr.arpa.", "PTR") == ["NXDOMAIN"]


def test_names_above_an_address_are_empty_non_terminals_and_below_it_there_is_nothing() -> None:
    world = World(WEB, zones=[Zone(apex=APEX), REVERSE])
    for name in ("0.10.in-addr.arpa.", "0.0.10.in-addr.arpa."):
        assert world.says(name, "PTR") == ["NODATA"]
    assert world.says("1.0.0.10.in-addr.arpa.", "A") == ["NODATA"]
    assert world.says("1.10.in-addr.arpa.", "PTR") == ["NXDOMAIN"]
    assert world.says("x.1.0.0.10.in-addr.arpa.", "PTR") == ["NXDOMAIN"]
    assert world.says("10.in-addr.arpa.", "SOA")[0].startswith(
        "10.in-addr.arpa. 5 SOA ns.dns.10.in-addr.arpa. "
    )


def test_at_most_eight_ptr_in_key_order() -> None:
    world = World(
        {f"{n}.web": {"host": "10.0.0.1"} for n in range(9, 0, -1)}, zones=[Zone(apex=APEX), REVERSE]
    )
    assert world.says("1.0.0.10.in-addr.arpa.", "PTR") == [
        f"1.0.0.10.in-addr.arpa. 5 PTR {n}.web" for n in range(1, 9)
    ]


def test_a_reverse_zones_serial_moves_with_an_address_in_it() -> None:
    stored = WEB | {"/skydns/arpa/in-addr/10/0/0/1": {"host": "one.d.test"}}
    world = World(stored, zones=[Zone(apex=APEX), REVERSE])
    assert " 1 3600 " in world.says("10.in-addr.arpa.", "SOA")[0]
    world.put("9.web", {"host": "192.0.2.1"})
    assert " 1 3600 " in world.says("10.in-addr.arpa.", "SOA")[0]
    world.put("9.web", {"host": "10.7.7.7"})
    assert " 3 3600 " in world.says("10.in-addr.arpa.", "SOA")[0]
    world.delete("9.web")
    assert " 4 3600 " in world.says("10.in-addr.arpa.", "SOA")[0]


def test_names_of_addresses_have_pointers_alone() -> None:
    reverse = Zone(apex=names.from_text("10.in-addr.arpa."), reverse=True)
    stored = {"/skydns/arpa/in-addr/10/2/2/2": {"host": "web.d.test"}, "web": {"host": "10.0.0.9"}}
    world = World(stored, zones=[Zone(apex=APEX), reverse])
    owner = "2.2.2.10.in-addr.arpa."
    assert world.says(owner, "PTR") == [f"{owner} 5 PTR web"]
    for rtype in ("A", "CNAME", "SRV", "TXT"):
        assert world.says(owner, rtype) == ["NODATA"]
        assert world.says("2.2.10.in-addr.arpa.", rtype) == ["NODATA"]

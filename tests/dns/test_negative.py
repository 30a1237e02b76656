"""dns.synthesis where there is no record to give: negative answers, ANY, types that are none, names outside."""

from __future__ import annotations

import pytest

from discovery import names
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World

WEB = {"1.web": {"host": "10.0.0.1", "port": 80}, "2.web": {"host": "10.0.0.2", "port": 81}}
REVERSE = Zone(apex=names.from_text("10.in-addr.arpa."), reverse=True)


@pytest.mark.parametrize(("ttl", "negative", "seen"), [(60, 9, 9), (5, 9, 5)])
def test_a_negative_answer_has_the_soa_with_the_smaller_ttl(ttl: int, negative: int, seen: int) -> None:
    world = World(WEB, zones=[Zone(apex=APEX, ttl=ttl, negative_ttl=negative)])
    for name, rtype, rcode in (("web", "MX", 0), ("x", "A", 3)):
        response = world.ask(name, rtype)
        assert response.rcode() == rcode
        assert [(rrset.name.to_text(), rrset.ttl) for rrset in response.authority] == [("d.test.", seen)]


def test_an_empty_non_terminal_is_nodata_and_below_it_nothing_is() -> None:
    world = World({"1.web.prod": {"host": "10.0.0.1"}})
    assert world.says("prod", "MX") == ["NODATA"]
    assert world.says("x.1.web.prod", "A") == ["NXDOMAIN"]


def test_an_unreadable_value_makes_its_name_exist_and_spoils_nothing() -> None:
    world = World({"1.web": b"{", "2.web": {"host": "10.0.0.2"}, "bad": {"host": "not a host"}})
    assert world.says("web", "A") == ["web 5 A 10.0.0.2"]
    assert world.says("1.web", "A") == ["NODATA"]
    assert world.says("bad", "A") == ["NODATA"]


def test_a_key_that_is_no_name_makes_no_name_exist() -> None:
    world = World(
        {"/skydns/test/d//web": {"host": "10.0.0.1"}, f"/skydns/test/d/{'x' * 64}/web": {"text": "a"}}
    )
    assert len(world.view.unreadable) == 2
    assert world.says("web", "A") == ["NXDOMAIN"]


def test_a_name_that_lost_all_services_stays_nodata_for_the_grace() -> None:
    world = World({"1.web.prod": {"host": "10.0.0.1", "tags": ["a"], "ports": {"http": 80}}}, grace=60)
    world.delete("1.web.prod")
    for name in ("1.web.prod", "web.prod", "prod", "_http._tcp.web.prod", "a.tag.web.prod", "tag.web.prod"):
        assert world.says(name, "SRV") == ["NODATA"], name
    assert world.says("2.web.prod", "A") == ["NXDOMAIN"]
    assert world.view.sweep(59.9) == 60.0
    assert world.says("web.prod", "A") == ["NODATA"]
    world.view.sweep(60.0)
    for name in ("1.web.prod", "web.prod", "prod", "_http._tcp.web.prod", "a.tag.web.prod", "tag.web.prod"):
        assert world.says(name, "SRV") == ["NXDOMAIN"], name


def test_any_is_one_hinfo() -> None:
    world = World(WEB, zones=[Zone(apex=APEX, ttl=60), REVERSE])
    assert world.says("web", "ANY") == ['web 60 HINFO "RFC8482" ""']
    assert world.says("", "ANY") == ['@ 60 HINFO "RFC8482" ""']
    assert world.says("x", "ANY") == ["NXDOMAIN"]
    assert world.says("1.0.0.10.in-addr.arpa.", "ANY") == ['1.0.0.10.in-addr.arpa. 5 HINFO "RFC8482" ""']


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR", "MAILA", "MAILB"])
def test_transfers_are_refused(rtype: str) -> None:
    assert World(WEB).ask("", rtype).rcode() == 5
    assert World(WEB).ask("", rtype, tcp=True).rcode() == 5


def test_opt_as_a_question_is_a_format_error() -> None:
    assert World(WEB).ask("web", "OPT").rcode() == 1


@pytest.mark.parametrize("rtype", ["TYPE0", "TYPE65280", "NAPTR", "DS", "HTTPS"])
def test_other_types_are_negative(rtype: str) -> None:
    assert World(WEB).says("web", rtype) == ["NODATA"]
    assert World(WEB).says("x", rtype) == ["NXDOMAIN"]


def test_outside_our_zones_and_at_their_parents_is_refused() -> None:
    world = World({"1.web.other.": {"host": "10.0.0.1"}, **WEB})
    for name in ("web.other.", "test.", ".", "example.com.", "xd.test."):
        response = world.ask(name, "A")
        assert (response.rcode(), bool(response.flags & 0x0400)) == (5, False), name

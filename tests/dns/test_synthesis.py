"""Names and types to records: a test a rule of names.md. Records are zone-file lines relative to d.test."""

from __future__ import annotations

import pytest

from discovery import names
from discovery.dns.records import Node
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World

WEB = {"1.web": {"host": "10.0.0.1", "port": 80}, "2.web": {"host": "10.0.0.2", "port": 81}}
REVERSE = Zone(apex=names.from_text("10.in-addr.arpa."), reverse=True)


# ---------------------------------------------------------------- A and AAAA


def test_addresses_of_the_family_each_once_under_the_question() -> None:
    world = World(
        {
            "1.web": {"host": "10.0.0.1", "port": 1},
            "2.web": {"host": "10.0.0.1", "port": 2},
            "3.web": {"host": "2001:db8::1"},
            "4.web": {"host": "::ffff:10.0.0.4"},
        }
    )
    assert world.says("web", "A") == ["web 5 A 10.0.0.1", "web 5 A 10.0.0.4"]
    assert world.says("web", "AAAA") == ["web 5 AAAA 2001:db8::1"]
    assert world.adds("web", "A") == []


def test_all_records_of_the_answer_share_the_least_ttl() -> None:
    world = World({"1.web": {"host": "10.0.0.1", "ttl": 90}, "2.web": {"host": "10.0.0.2", "ttl": 30}})
    assert world.says("web", "A") == ["web 30 A 10.0.0.1", "web 30 A 10.0.0.2"]
    assert world.adds("web", "SRV") == ["1.web 90 A 10.0.0.1", "2.web 30 A 10.0.0.2"]


def test_the_leases_ttl_limits_the_records() -> None:
    world = World()
    world.put("1.web", {"host": "10.0.0.1", "ttl": 90, "lease_ttl": 20}, lease=7)
    assert world.says("web", "A") == ["web 20 A 10.0.0.1"]


def test_a_foreign_leases_ttl_counts_once_it_is_known() -> None:
    stored = {"/skydns/arpa/in-addr/10/0/0/2": {"host": "two.d.test"}}
    world = World(stored, zones=[Zone(apex=APEX, ttl=60), REVERSE])
    world.put("1.web", {"host": "10.0.0.1"}, lease=7)
    assert world.says("web", "A") == ["web 60 A 10.0.0.1"]
    assert world.says("1.0.0.10.in-addr.arpa.", "PTR") == ["1.0.0.10.in-addr.arpa. 60 PTR 1.web"]
    world.view.learn_lease(7, 9)
    assert world.says("web", "A") == ["web 9 A 10.0.0.1"]
    assert world.says("1.0.0.10.in-addr.arpa.", "PTR") == ["1.0.0.10.in-addr.arpa. 9 PTR 1.web"]


def test_ttl_zero_is_the_zones_default() -> None:
    world = World({"1.web": {"host": "10.0.0.1", "ttl": 0}}, zones=[Zone(apex=APEX, ttl=77)])
    assert world.says("web", "A") == ["web 77 A 10.0.0.1"]


def test_a_zone_may_have_ttl_zero() -> None:
    world = World({"1.web": {"host": "10.0.0.1"}}, zones=[Zone(apex=APEX, ttl=0)])
    assert world.says("web", "A") == ["web 0 A 10.0.0.1"]


# ---------------------------------------------------------------- SRV


def test_a_weight_is_the_share_in_percent_of_its_priority() -> None:
    world = World(
        {
            "1.web": {"host": "10.0.0.1", "weight": 1},
            "2.web": {"host": "10.0.0.2", "weight": 999},
            "3.web": {"host": "10.0.0.3", "priority": 20, "weight": 2},
            "4.web": {"host": "10.0.0.4", "priority": 20},
        }
    )
    assert world.says("web", "SRV") == [
        "web 5 SRV 10 1 0 1.web",
        "web 5 SRV 10 99 0 2.web",
        "web 5 SRV 20 1 0 3.web",
        "web 5 SRV 20 98 0 4.web",
    ]


def test_equal_services_are_one_before_weights_are_counted_and_text_does_not_count_in_srv() -> None:
    world = World(
        {
            "1.web": {"host": "10.0.0.1", "port": 80, "text": "a"},
            "2.web": {"host": "::ffff:10.0.0.1", "port": 80, "text": "b", "priority": 10, "weight": 100},
            "3.web": {"host": "10.0.0.3", "port": 80},
        }
    )
    assert world.says("web", "SRV") == ["web 5 SRV 10 50 80 1.web", "web 5 SRV 10 50 80 3.web"]


def test_hosts_fold_before_they_are_compared() -> None:
    world = World({"1.web": {"host": "A.example.com"}, "2.web": {"host": "a.EXAMPLE.com."}})
    assert world.says("web", "SRV") == ["web 5 SRV 10 100 0 a.example.com."]


def test_text_alone_is_no_srv() -> None:
    world = World({"1.web": {"text": "a", "port": 80}})
    assert world.says("web", "SRV") == ["NODATA"]


@pytest.mark.parametrize(
    ("strip", "target"),
    [
        (1, "web.prod"),
        (2, "prod"),
        (3, "@"),
        (4, "1.web.prod"),
        (5, "1.web.prod"),
        (-1, "1.web.prod"),
        (99, "1.web.prod"),
    ],
)
def test_targetstrip_never_leaves_fewer_labels_than_the_zone_has(strip: int, target: str) -> None:
    world = World({"1.web.prod": {"host": "10.0.0.1", "targetstrip": strip}})
    assert world.says("web.prod", "SRV") == [f"web.prod 5 SRV 10 100 0 {target}"]
    assert world.adds("web.prod", "SRV") == [f"{target} 5 A 10.0.0.1"]


def test_targetstrip_of_an_outside_host_leaves_a_label() -> None:
    world = World(
        {
            "1.a": {"host": "x.example.com", "targetstrip": 2, "mail": True},
            "1.b": {"host": "x.example.com", "targetstrip": 3},
        }
    )
    assert world.says("a", "SRV") == ["a 5 SRV 10 100 0 com."]
    assert world.says("a", "MX") == ["a 5 MX 10 com."]
    assert world.says("b", "SRV") == ["b 5 SRV 10 100 0 x.example.com."]
    assert world.says("1.a", "CNAME") == ["1.a 5 CNAME x.example.com."]


def test_inside_targets_bring_addresses_and_aliases_and_outside_ones_nothing() -> None:
    world = World(
        {
            "1.web": {"host": "alias.d.test", "port": 1},
            "2.web": {"host": "www.example.com", "port": 2},
            "3.web": {"host": "stored.example.org", "port": 3},
            "alias": {"host": "real.d.test", "ttl": 30},
            "1.real": {"host": "10.0.0.1", "ttl": 40},
            "2.real": {"host": "2001:db8::1"},
            "stored.example.org.": {"host": "192.0.2.9"},
        }
    )
    assert world.adds("web", "SRV") == [
        "alias 30 CNAME real",
        "real 40 A 10.0.0.1",
        "real 5 AAAA 2001:db8::1",
        "stored.example.org. 5 A 192.0.2.9",
    ]


def test_additional_follows_an_alias_back_to_the_question() -> None:
    world = World(
        {"1.web": {"host": "www.d.test"}, "2.web": {"host": "10.0.0.2"}, "www": {"host": "web.d.test"}}
    )
    assert world.adds("web", "SRV") == ["www 5 CNAME web", "web 5 A 10.0.0.2", "2.web 5 A 10.0.0.2"]


def test_an_rrset_in_additional_has_its_least_ttl_and_no_double() -> None:
    world = World(
        {
            "1.web": {"host": "10.0.0.1", "port": 1, "targetstrip": 1, "ttl": 50},
            "2.web": {"host": "10.0.0.2", "port": 2, "targetstrip": 1, "ttl": 40},
            "3.web": {"host": "10.0.0.1", "port": 3, "targetstrip": 1, "ttl": 60},
        }
    )
    assert world.adds("web", "SRV") == ["web 40 A 10.0.0.1", "web 40 A 10.0.0.2"]


def test_targets_made_from_keys_are_lower_case() -> None:
    world = World({"/skydns/test/d/Web/ONE": {"host": "10.0.0.1"}})
    assert world.says("WEB", "SRV") == ["WEB 5 SRV 10 100 0 one.web"]


# ---------------------------------------------------------------- MX, TXT


def test_mx_are_the_services_with_mail_and_the_owner_is_stripped_too() -> None:
    world = World(
        {
            "1.mail": {"host": "10.0.0.1", "mail": True, "priority": 5, "targetstrip": 1},
            "2.mail": {"host": "mx.example.com", "mail": True},
            "3.mail": {"host": "10.0.0.3"},
        }
    )
    assert world.says("mail", "MX") == ["mail 5 MX 5 mail", "mail 5 MX 10 mx.example.com."]
    assert world.adds("mail", "MX") == ["mail 5 A 10.0.0.1"]
    assert world.says("3.mail", "MX") == ["NODATA"]


def test_no_section_holds_a_record_twice() -> None:
    world = World(
        {
            "1.mail": {"host": "mx.d.test", "mail": True, "text": "a"},
            "2.mail": {"host": "mx.d.test", "mail": True, "text": "b"},
            "a.txt": {"text": "same"},
            "b.txt": {"text": "same"},
        }
    )
    assert world.says("mail", "MX") == ["mail 5 MX 10 mx"]
    assert world.says("txt", "TXT") == ['txt 5 TXT "same"']


def test_txt_as_stored_in_strings_of_255_bytes_in_key_order() -> None:
    world = World({"b.txt": {"text": "x" * 510}, "a.txt": {"text": 'back\\slash "q"', "host": "10.0.0.1"}})
    assert world.says("txt", "TXT") == [
        'txt 5 TXT "back\\\\slash \\"q\\""',
        f'txt 5 TXT "{"x" * 255}" "{"x" * 255}"',
    ]


def test_meta_is_one_further_record_an_instance_in_byte_order_of_the_key() -> None:
    world = World({"1.web": {"text": "t", "meta": {"zone": "a=b", "Az": "", "a": "1"}}})
    assert world.says("web", "TXT") == ['web 5 TXT "t"', 'web 5 TXT "Az=" "a=1" "zone=a=b"']


def test_a_text_too_long_for_a_record_spoils_nothing_else() -> None:
    world = World({"1.txt": {"text": "x" * 65281}, "2.txt": {"text": "ok"}, "3.txt": {"text": "y" * 65000}})
    assert b"/skydns/test/d/txt/1" in world.view.unreadable
    assert len(world.view.unreadable) == 1
    assert world.counters.failed == 0
    assert world.says("2.txt", "TXT") == ['2.txt 5 TXT "ok"']
    assert len(world.says("3.txt", "TXT")[0]) > 65000


# ---------------------------------------------------------------- CNAME and the apex


def test_cname_is_the_key_at_exactly_the_name() -> None:
    world = World(
        {
            "www": {"host": "www.example.com", "port": 80},
            "1.www": {"host": "10.0.0.1"},
            "addr": {"host": "10.0.0.2"},
        }
    )
    assert world.says("www", "CNAME") == ["www 5 CNAME www.example.com."]
    assert world.says("1.www", "CNAME") == ["NODATA"]
    assert world.says("*", "CNAME") == ["NODATA"]
    assert world.says("none", "CNAME") == ["NXDOMAIN"]


def test_the_apex_answers_from_apex_dns_alone_and_never_with_a_cname() -> None:
    stored = {"1.web": {"host": "10.0.0.1", "text": "t", "mail": True}}
    for rtype in ("A", "AAAA", "SRV", "TXT", "MX", "CNAME", "PTR", "HINFO"):
        assert World(stored).says("", rtype) == ["NODATA"], rtype
    more = stored | {"apex.dns": {"host": "www.example.com"}}
    assert World(more).says("", "A") == ["NODATA"]
    assert World(more).says("", "CNAME") == ["NODATA"]
    more = stored | {"x.apex.dns": {"host": "10.0.0.9", "mail": True, "text": "apex"}}
    assert World(more).says("", "A") == ["@ 5 A 10.0.0.9"]
    assert World(more).says("", "MX") == ["@ 5 MX 10 x.apex.dns"]
    assert World(more).says("", "TXT") == ['@ 5 TXT "apex"']
    assert World(more).says("*", "A") == ["* 5 A 10.0.0.9", "* 5 A 10.0.0.1"]


def test_a_host_that_is_the_apex_leads_to_what_the_apex_answers() -> None:
    stored = {"www": {"host": "d.test"}, "1.web": {"host": "10.0.0.1"}}
    assert World(stored).says("www", "A") == ["NODATA"]
    stored["1.apex.dns"] = {"host": "10.0.0.9"}
    assert World(stored).says("www", "A") == ["www 5 CNAME @", "@ 5 A 10.0.0.9"]
    stored["1.apex.dns"] = {"host": "www.example.com"}
    assert World(stored).says("www", "A") == ["NODATA"]


def test_a_key_at_the_apex_itself_is_not_answered_there() -> None:
    assert World({"": {"host": "10.0.0.1"}}).says("", "A") == ["NODATA"]


# ---------------------------------------------------------------- NS and SOA


def test_without_stored_name_servers_the_node_is_one() -> None:
    world = World(zones=[Zone(apex=APEX, ttl=60)])
    assert world.says("", "NS") == ["@ 60 NS ns.dns"]
    assert world.adds("", "NS") == ["ns.dns 60 A 192.0.2.53"]
    assert world.says("ns.dns", "A") == ["ns.dns 60 A 192.0.2.53"]
    assert world.says("n1.ns.dns", "A") == ["n1.ns.dns 60 A 192.0.2.53"]
    assert world.says("ns.dns", "AAAA") == ["NODATA"]
    for rtype in ("SRV", "MX", "TXT", "CNAME", "NS", "SOA"):
        assert world.says("ns.dns", rtype) == ["NODATA"], rtype
        assert world.says("dns", rtype) == ["NODATA"], rtype
    assert world.says("n2.ns.dns", "A") == ["NXDOMAIN"]
    assert world.says("x.n1.ns.dns", "A") == ["NXDOMAIN"]


def test_a_node_without_an_address_still_is_the_zones_name_server() -> None:
    assert World(node=Node(b"n1")).says("", "NS") == ["@ 5 NS ns.dns"]
    assert World(node=Node(b"n1")).says("ns.dns", "A") == ["NODATA"]


def test_the_live_nodes_of_a_cluster_are_the_name_servers() -> None:
    world = World()
    world.view.set_nodes(
        [(b"n1", (bytes((192, 0, 2, 53)),)), (b"n2", (bytes((192, 0, 2, 54)), bytes(15) + b"\1"))]
    )
    assert world.says("", "NS") == ["@ 5 NS n1.ns.dns", "@ 5 NS n2.ns.dns"]
    assert sorted(world.adds("", "NS")) == [
        "n1.ns.dns 5 A 192.0.2.53",
        "n2.ns.dns 5 A 192.0.2.54",
        "n2.ns.dns 5 AAAA ::1",
    ]
    assert sorted(world.says("ns.dns", "A")) == ["ns.dns 5 A 192.0.2.53", "ns.dns 5 A 192.0.2.54"]
    assert world.says("n2.ns.dns", "A") == ["n2.ns.dns 5 A 192.0.2.54"]
    assert world.says("n3.ns.dns", "A") == ["NXDOMAIN"]
    world.view.set_nodes([(b"n2", (bytes((192, 0, 2, 54)),))])
    assert world.says("", "NS") == ["@ 5 NS n2.ns.dns"]  # no answer of before is kept
    assert world.says("n1.ns.dns", "A") == ["NXDOMAIN"]
    world.put("ns1.ns.dns", {"host": "192.0.2.1"})
    assert world.says("", "NS") == ["@ 5 NS ns1.ns.dns"]  # what is stored goes before


def test_text_below_ns_dns_does_not_replace_the_node() -> None:
    world = World({"note.ns.dns": {"text": "hello"}})
    assert world.says("ns.dns", "A") == ["ns.dns 5 A 192.0.2.53"]
    assert world.says("ns.dns", "TXT") == ['ns.dns 5 TXT "hello"']
    assert world.says("", "NS") == ["@ 5 NS ns.dns"]


def test_stored_name_servers_are_named_by_their_keys_or_their_hosts() -> None:
    world = World(
        {
            "a.ns.dns": {"host": "10.0.0.1"},
            "b.ns.dns": {"host": "ns.example.com", "targetstrip": 1},
            "x.c.ns.dns": {"host": "10.0.0.3", "targetstrip": 1},
        }
    )
    assert world.says("", "NS") == ["@ 5 NS a.ns.dns", "@ 5 NS ns.example.com.", "@ 5 NS c.ns.dns"]
    assert world.adds("", "NS") == ["a.ns.dns 5 A 10.0.0.1", "c.ns.dns 5 A 10.0.0.3"]
    assert world.says("n1.ns.dns", "A") == ["NXDOMAIN"]
    assert world.says("ns.dns", "A") == ["ns.dns 5 A 10.0.0.1", "ns.dns 5 A 10.0.0.3"]


def test_ns_and_soa_elsewhere_are_negative() -> None:
    world = World(WEB)
    assert world.says("web", "NS") == ["NODATA"]
    assert world.says("web", "SOA") == ["NODATA"]
    assert world.says("x", "NS") == ["NXDOMAIN"]


def test_the_soa_has_the_zones_ttl_and_the_revision_that_touched_it() -> None:
    other = Zone(apex=names.from_text("other.test."))
    world = World(WEB, zones=[Zone(apex=APEX, ttl=60, negative_ttl=9), other])
    assert world.says("", "SOA") == ["@ 60 SOA ns.dns hostmaster 1 3600 600 604800 9"]
    world.put("1.web", {"host": "10.0.0.9"})
    world.put("1.web.other.test.", {"host": "10.0.0.9"})
    assert world.says("", "SOA") == ["@ 60 SOA ns.dns hostmaster 2 3600 600 604800 9"]
    assert " 3 3600 " in world.says("other.test.", "SOA")[0]
    world.delete("1.web")
    assert " 4 3600 " in world.says("", "SOA")[0]


def test_the_serial_is_taken_modulo_32_bits() -> None:
    world = World()
    world.revision = (1 << 32) + 4
    world.put("1.web", {"host": "10.0.0.1"})
    assert " 5 3600 " in world.says("", "SOA")[0]


def test_the_hostmaster_may_be_set() -> None:
    world = World(zones=[Zone(apex=APEX, hostmaster=names.from_text("admin.example.com"))])
    assert world.says("", "SOA") == ["@ 5 SOA ns.dns admin.example.com. 1 3600 600 604800 2"]


# ---------------------------------------------------------------- zones in zones


def test_a_question_belongs_to_the_closest_zone_and_inner_keys_lie_below_the_outer_too() -> None:
    inner = Zone(apex=names.from_text("in.d.test."), ttl=60, priority=3)
    world = World(
        {"1.web.in": {"host": "10.0.0.1"}, "1.web": {"host": "10.0.0.2"}},
        zones=[Zone(apex=APEX, ttl=30), inner],
    )
    assert world.says("web.in", "SRV") == ["web.in 60 SRV 3 100 0 1.web.in"]
    assert world.says("in", "SOA")[0].startswith("in 60 SOA ns.dns.in hostmaster.in 1 ")
    assert world.says("in", "A") == ["NODATA"]
    assert world.says("*", "A") == ["* 30 A 10.0.0.1", "* 30 A 10.0.0.2"]


def test_defaults_outside_every_zone_are_the_first_zones() -> None:
    world = World(
        {"www": {"host": "web.other"}, "web.other.": {"host": "10.0.0.1"}},
        zones=[Zone(apex=APEX, ttl=44), Zone(apex=names.from_text("e.test."), ttl=11)],
    )
    assert world.says("www", "A") == ["www 44 CNAME web.other.", "web.other. 44 A 10.0.0.1"]


def test_the_root_may_be_the_zone() -> None:
    world = World({"1.web.": {"host": "10.0.0.1", "targetstrip": 2}}, zones=[Zone(apex=())])
    assert world.says("web.", "SRV") == ["web. 5 SRV 10 100 0 1.web."]
    assert world.says(".", "NS") == [". 5 NS ns.dns."]
    assert world.says("x.", "A") == ["NXDOMAIN"]


# ---------------------------------------------------------------- local


def test_local_is_answered_as_the_local_name_under_the_owner_asked() -> None:
    zone = Zone(apex=APEX, local=names.from_text("1.web.d.test"))
    world = World(WEB, zones=[zone])
    assert world.says("local.dns", "A") == ["local.dns 5 A 10.0.0.1"]
    assert world.says("local.dns", "SRV") == ["local.dns 5 SRV 10 100 80 1.web"]
    assert world.says("local.dns", "CNAME") == ["NODATA"]
    assert World(WEB).says("local.dns", "A") == ["NXDOMAIN"]


def test_a_host_that_is_local_dns_is_followed_to_the_local_name() -> None:
    zone = Zone(apex=APEX, local=names.from_text("1.web.d.test"))
    world = World({**WEB, "me": {"host": "local.dns.d.test"}}, zones=[zone])
    assert world.says("me", "A") == ["me 5 CNAME local.dns", "local.dns 5 A 10.0.0.1"]


def test_local_that_is_an_alias_gives_its_cname() -> None:
    zone = Zone(apex=APEX, local=names.from_text("me.d.test"))
    world = World({"me": {"host": "1.web.d.test"}, **WEB}, zones=[zone])
    assert world.says("local.dns", "CNAME") == ["local.dns 5 CNAME 1.web"]
    assert world.says("local.dns", "A") == ["local.dns 5 CNAME 1.web", "1.web 5 A 10.0.0.1"]


# ---------------------------------------------------------------- very many


def test_at_most_max_matched_services_first_in_key_order_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World({f"{n}.web": {"host": f"10.0.0.{n}"} for n in range(1, 10)}, max_matched=3)
    assert world.says("web", "A") == ["web 5 A 10.0.0.1", "web 5 A 10.0.0.2", "web 5 A 10.0.0.3"]
    assert world.counters.cut == 1
    assert "web.d.test.: more than 3 services" in caplog.text


def test_exactly_max_matched_is_not_cut() -> None:
    world = World(WEB, max_matched=2)
    assert len(world.says("web", "A")) == 2
    assert world.counters.cut == 0


# ---------------------------------------------------------------- TTLs of what is stale or not known


def test_a_stale_view_answers_with_at_most_30_seconds() -> None:
    world = World(
        {"1.web": {"host": "10.0.0.1", "ttl": 300}}, zones=[Zone(apex=APEX, ttl=300, negative_ttl=300)]
    )
    world.view.stale = True
    world.view.new_epoch()
    assert world.says("web", "A") == ["web 30 A 10.0.0.1"]
    assert world.adds("web", "SRV") == ["1.web 30 A 10.0.0.1"]
    assert world.ask("x", "A").authority[0].ttl == 30


def test_a_foreign_lease_of_unknown_ttl_gives_no_more_than_the_zones_ttl() -> None:
    world = World({}, zones=[Zone(apex=APEX, ttl=30)])
    world.put("a", {"host": "10.0.0.1", "ttl": 3600}, lease=9)
    world.put("b", {"host": "10.0.0.2", "ttl": 20}, lease=9)
    assert world.says("a", "A") == ["a 30 A 10.0.0.1"]
    assert world.says("b", "A") == ["b 20 A 10.0.0.2"]
    world.view.learn_lease(9, 600)
    assert world.says("a", "A") == ["a 600 A 10.0.0.1"]

"""What a name stands for: subtrees, wildcards, tags, named ports, groups."""

from __future__ import annotations

import pytest

from discovery import names
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World

EAST = {
    "1.web.prod.east": {"host": "10.0.0.1", "port": 80, "tags": ["v1", "Blue"], "ports": {"http": 8080}},
    "2.web.prod.east": {"host": "10.0.0.2", "port": 80, "tags": ["v2", "blue"], "ports": {"dns/udp": 53}},
    "1.db.prod.east": {"host": "10.0.0.3", "port": 5432, "ports": {"HTTP/tcp": 9000}},
    "1.web.test.west": {"host": "10.0.0.4", "port": 80},
}


def addresses(world: World, name: str, rtype: str = "A") -> list[str]:
    """The last word of every record, or the negative answer's kind."""
    return [line.split()[-1] for line in world.says(name, rtype)]


def tails(world: World, name: str) -> list[str]:
    return [line.split(" ", 6)[-2] + " " + line.split()[-1] for line in world.says(name, "SRV")]


# ---------------------------------------------------------------- subtrees


def test_a_name_stands_for_every_service_at_or_below_it_in_key_order() -> None:
    world = World(EAST | {"web.prod.east": {"host": "10.0.0.9"}})
    assert addresses(world, "east") == ["10.0.0.3", "10.0.0.9", "10.0.0.1", "10.0.0.2"]
    assert addresses(world, "web.prod.east") == ["10.0.0.9", "10.0.0.1", "10.0.0.2"]


def test_matching_goes_by_whole_labels() -> None:
    world = World({"mx": {"host": "10.0.0.1"}, "mx1": {"host": "10.0.0.2"}, "1.mx": {"host": "10.0.0.3"}})
    assert addresses(world, "mx") == ["10.0.0.1", "10.0.0.3"]


def test_keys_and_questions_match_without_regard_to_case() -> None:
    world = World(
        {"/skydns/test/D/Web/1": {"host": "10.0.0.1"}, "/skydns/test/d/wEB/1": {"host": "10.0.0.2"}}
    )
    assert addresses(world, "weB") == ["10.0.0.1", "10.0.0.2"]
    assert world.says("1.WEB", "A") == ["1.WEB 5 A 10.0.0.1", "1.WEB 5 A 10.0.0.2"]


def test_only_ascii_letters_fold() -> None:
    world = World({"/skydns/test/d/ä": {"host": "10.0.0.1"}})
    assert addresses(world, "\\195\\164") == ["10.0.0.1"]
    assert addresses(world, "\\195\\132") == ["NXDOMAIN"]


def test_a_label_with_a_slash_matches_no_key() -> None:
    world = World({"1.web": {"host": "10.0.0.1"}})
    assert addresses(world, "web/1") == ["NXDOMAIN"]


def test_a_label_with_a_dot_is_one_label() -> None:
    world = World({"1.web": {"host": "10.0.0.1"}, "/skydns/test/d/a.b": {"host": "10.0.0.2"}})
    assert addresses(world, "1\\.web") == ["NXDOMAIN"]
    assert addresses(world, "a\\.b") == ["10.0.0.2"]


# ---------------------------------------------------------------- wildcards


@pytest.mark.parametrize("star", ["*", "any", "ANY"])
def test_a_wildcard_matches_any_one_label_and_the_key_may_be_longer(star: str) -> None:
    world = World(EAST | {"short": {"host": "10.0.0.8"}})
    assert addresses(world, f"web.{star}.east") == ["10.0.0.1", "10.0.0.2"]
    assert addresses(world, f"{star}.{star}.east") == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    assert addresses(world, f"prod.{star}") == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    assert addresses(world, f"{star}.short") == ["NODATA"]


def test_a_star_inside_a_label_is_an_ordinary_letter() -> None:
    world = World(EAST)
    assert addresses(world, "pr*.east") == ["NXDOMAIN"]
    assert addresses(world, "*.pr*.east") == ["NXDOMAIN"]


def test_the_name_above_the_first_wildcard_decides_between_nxdomain_and_nodata() -> None:
    world = World(EAST)
    assert addresses(world, "*.north") == ["NXDOMAIN"]
    assert addresses(world, "x.*.east") == ["NODATA"]
    assert addresses(world, "x.*") == ["NODATA"]
    assert addresses(World(), "*") == ["NODATA"]
    assert addresses(World(), "*.dns") == ["NODATA"]
    assert addresses(World(), "*.ns.dns") == ["NODATA"]


def test_a_wildcard_below_a_name_that_exists_virtually_is_nodata() -> None:
    world = World(EAST)
    for name in ("*.tag.web.prod.east.x", "*.v9.tag.web.prod.east"):
        assert addresses(world, name) == ["NXDOMAIN"], name
    for name in ("*.v1.tag.web.prod.east", "*._tcp.web.prod.east", "*._http._tcp.web.prod.east"):
        assert addresses(world, name) == ["NODATA"], name


def test_wildcards_never_reach_the_zones_own_labels() -> None:
    assert World(EAST).ask("web.prod.east.*.test.", "A").rcode() == 5


def test_a_key_with_a_star_is_only_matched_never_a_pattern() -> None:
    world = World({"/skydns/test/d/*": {"host": "www.example.com"}})
    assert world.says("*", "A") == ["* 5 CNAME www.example.com."]
    assert world.says("x", "A") == ["NXDOMAIN"]
    assert world.says("*", "CNAME") == ["NODATA"]


# ---------------------------------------------------------------- tags


def test_a_tag_chooses_the_instances_that_carry_it() -> None:
    world = World(EAST)
    assert addresses(world, "v1.tag.web.prod.east") == ["10.0.0.1"]
    assert addresses(world, "BLUE.tag.east") == ["10.0.0.1", "10.0.0.2"]
    assert addresses(world, "blue.tag") == ["10.0.0.1", "10.0.0.2"]
    assert addresses(world, "v3.tag.web.prod.east") == ["NXDOMAIN"]
    assert addresses(world, "v1.tag.nosuch") == ["NXDOMAIN"]


def test_several_tags_are_anded() -> None:
    world = World(EAST)
    assert addresses(world, "v2.tag.blue.tag.web.prod.east") == ["10.0.0.2"]
    assert addresses(world, "v1.tag.v2.tag.web.prod.east") == ["NXDOMAIN"]


def test_tags_answer_every_type_but_cname() -> None:
    world = World({"web": {"host": "x.example.com", "text": "t", "tags": ["a"], "mail": True}})
    assert world.says("a.tag.web", "TXT") == ['a.tag.web 5 TXT "t"']
    assert world.says("a.tag.web", "MX") == ["a.tag.web 5 MX 10 x.example.com."]
    assert world.says("a.tag.web", "SRV") == ["a.tag.web 5 SRV 10 100 0 x.example.com."]
    assert world.says("a.tag.web", "CNAME") == ["NODATA"]
    assert world.says("a.tag.web", "ANY") == ['a.tag.web 5 HINFO "RFC8482" ""']


def test_under_a_wildcard_service_a_tag_that_nobody_carries_is_nodata() -> None:
    world = World(EAST)
    assert addresses(world, "v1.tag.*.prod.east") == ["10.0.0.1"]
    assert addresses(world, "v9.tag.*.prod.east") == ["NODATA"]
    assert addresses(world, "v9.tag.*.nosuch") == ["NXDOMAIN"]


@pytest.mark.parametrize("label", ["*", "any"])
def test_a_tag_is_never_a_wildcard(label: str) -> None:
    world = World(EAST)
    assert addresses(world, f"{label}.tag.web.prod.east") == ["NXDOMAIN"]
    world.put("3.web.prod.east", {"host": "10.0.0.7", "tags": [label]})
    assert addresses(world, f"{label}.tag.web.prod.east") == ["10.0.0.7"]


def test_stored_keys_answer_before_tags() -> None:
    world = World(EAST | {"/skydns/test/d/east/prod/web/tag/v1": {"host": "10.9.9.9"}})
    world.put("/skydns/test/d/east/prod/web/tag/any", {"host": "10.9.9.8"})
    assert addresses(world, "v1.tag.web.prod.east") == ["10.9.9.9"]
    assert addresses(world, "any.tag.web.prod.east") == ["10.9.9.8"]
    assert addresses(world, "v2.tag.web.prod.east") == ["10.0.0.2"]


def test_a_stored_key_that_is_gone_no_longer_hides_the_tag_or_the_port() -> None:
    world = World(EAST, grace=60)
    for name in ("/skydns/test/d/east/prod/web/tag/v1", "/skydns/test/d/east/prod/web/_tcp/_http"):
        world.put(name, {"host": "10.9.9.9"})
        world.delete(name)
    assert addresses(world, "v1.tag.web.prod.east") == ["10.0.0.1"]
    assert tails(world, "_http._tcp.web.prod.east") == ["8080 1.web.prod.east"]


def test_a_stored_key_that_is_gone_leaves_nodata_where_nothing_else_has_the_name() -> None:
    world = World(EAST, grace=60)
    for name in ("/skydns/test/d/east/prod/web/tag/v9", "/skydns/test/d/east/prod/web/_tcp/_x"):
        world.put(name, {"host": "10.9.9.9"})
        world.delete(name)
    assert addresses(world, "v9.tag.web.prod.east") == ["NODATA"]
    assert addresses(world, "_x._tcp.web.prod.east", "SRV") == ["NODATA"]
    world.view.sweep(60)
    assert addresses(world, "v9.tag.web.prod.east") == ["NXDOMAIN"]


@pytest.mark.parametrize("label", ["tag", "_tcp", "_udp"])
def test_empty_non_terminals_stand_wherever_the_service_does(label: str) -> None:
    world = World(EAST)
    for service in ("web.prod.east", "east", "1.web.prod.east", "v1.tag.web.prod.east", "dns", "ns.dns"):
        assert addresses(world, f"{label}.{service}") == ["NODATA"], service
    assert addresses(world, label) == ["NODATA"]
    assert addresses(world, f"{label}.nosuch") == ["NXDOMAIN"]
    assert addresses(world, f"{label}.v9.tag.web.prod.east") == ["NXDOMAIN"]


# ---------------------------------------------------------------- named ports


def test_a_named_port_gives_srv_with_that_port() -> None:
    world = World(EAST)
    assert tails(world, "_http._tcp.web.prod.east") == ["8080 1.web.prod.east"]
    assert tails(world, "_HTTP._TCP.prod.east") == ["9000 1.db.prod.east", "8080 1.web.prod.east"]
    assert tails(world, "_dns._udp.web.prod.east") == ["53 2.web.prod.east"]
    assert addresses(world, "_dns._tcp.web.prod.east", "SRV") == ["NXDOMAIN"]
    assert addresses(world, "_http._udp.web.prod.east", "SRV") == ["NXDOMAIN"]
    assert addresses(world, "_http._sctp.web.prod.east", "SRV") == ["NXDOMAIN"]


def test_named_ports_are_srv_only() -> None:
    world = World(EAST)
    for rtype in ("A", "AAAA", "TXT", "MX", "CNAME"):
        assert addresses(world, "_http._tcp.web.prod.east", rtype) == ["NODATA"], rtype
        assert addresses(world, "_web._tcp.prod.east", rtype) == ["NODATA"], rtype


def test_a_named_port_also_means_the_service_of_that_name_either_protocol() -> None:
    world = World(EAST)
    expected = ["80 1.web.prod.east", "80 2.web.prod.east"]
    assert tails(world, "_web._tcp.prod.east") == expected
    assert tails(world, "_web._udp.prod.east") == expected
    assert addresses(world, "_nosuch._tcp.prod.east", "SRV") == ["NXDOMAIN"]


def test_the_service_of_that_name_is_never_a_wildcard() -> None:
    world = World(EAST)
    for name in ("_any._tcp.prod.east", "_*._tcp.prod.east", "_._tcp.prod.east"):
        assert addresses(world, name, "SRV") == ["NXDOMAIN"], name


def test_the_first_that_exists_answers_alone() -> None:
    world = World({"1.http.web": {"host": "10.0.0.1", "port": 1}})
    assert tails(world, "_http._tcp.web") == ["1 1.http.web"]
    world.put("1.web", {"host": "10.0.0.2", "ports": {"http": 2}})
    assert tails(world, "_http._tcp.web") == ["2 1.web"]
    world.put("/skydns/test/d/web/_tcp/_http/x", {"host": "10.0.0.3", "port": 3})
    assert tails(world, "_http._tcp.web") == ["3 x._http._tcp.web"]


def test_named_ports_of_tagged_instances_and_tags_of_named_ports() -> None:
    world = World(EAST)
    assert tails(world, "_http._tcp.v1.tag.web.prod.east") == ["8080 1.web.prod.east"]
    assert addresses(world, "_http._tcp.v2.tag.web.prod.east", "SRV") == ["NXDOMAIN"]
    assert tails(world, "v1.tag._http._tcp.web.prod.east") == ["8080 1.web.prod.east"]


def test_named_ports_under_a_wildcard_service() -> None:
    world = World(EAST)
    assert tails(world, "_http._tcp.*.prod.east") == ["9000 1.db.prod.east", "8080 1.web.prod.east"]
    assert addresses(world, "_x._tcp.*.prod.east", "SRV") == ["NODATA"]


# ---------------------------------------------------------------- groups


def group(*services: tuple[str, str]) -> World:
    hosts = (f"10.0.0.{number}" for number in range(1, 99))
    stored = {key: {"host": host, "group": name} for (key, name), host in zip(services, hosts, strict=False)}
    return World(stored)


def test_the_first_ones_group_applies_and_those_without_one_come_too() -> None:
    world = group(("1.a.web", "g1"), ("1.b.x.web", "g2"), ("1.c.web", ""))
    assert addresses(world, "web") == ["10.0.0.1", "10.0.0.3"]


def test_a_shorter_key_with_a_group_replaces_it() -> None:
    world = group(("1.x.a.web", "g1"), ("b.web", "g2"), ("1.c.web", "g2"))
    assert addresses(world, "web") == ["10.0.0.2", "10.0.0.3"]


def test_a_shorter_key_without_a_group_ends_the_walk() -> None:
    world = group(("1.y.a.web", "g1"), ("1.b.web", ""), ("c.web", "g2"))
    assert addresses(world, "web") == ["10.0.0.1", "10.0.0.2"]


def test_a_key_as_long_without_a_group_does_not_end_the_walk() -> None:
    world = group(("1.a.web", "g1"), ("2.a.web", ""), ("b.web", "g2"))
    assert addresses(world, "web") == ["10.0.0.2", "10.0.0.3"]


def test_no_group_in_force_returns_all() -> None:
    world = group(("1.a.web", ""), ("1.b.web", "g1"))
    assert addresses(world, "web") == ["10.0.0.1", "10.0.0.2"]


def test_two_groups_at_the_level_in_force_return_all() -> None:
    world = group(("1.web", "g1"), ("2.web", "g2"), ("x.3.web", "g3"))
    assert addresses(world, "web") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_groups_compare_exactly() -> None:
    world = group(("1.web", "G"), ("x.2.web", "g"))
    assert addresses(world, "web") == ["10.0.0.1"]


def test_groups_count_before_weights_and_for_mx_and_txt_too() -> None:
    world = World(
        {
            "1.web": {"host": "10.0.0.1", "group": "a", "mail": True, "text": "one"},
            "x.2.web": {"host": "10.0.0.2", "group": "b", "mail": True, "text": "two"},
        }
    )
    assert world.says("web", "SRV") == ["web 5 SRV 10 100 0 1.web"]
    assert world.says("web", "MX") == ["web 5 MX 10 1.web"]
    assert world.says("web", "TXT") == ['web 5 TXT "one"']


def test_a_service_of_another_type_still_sets_the_group() -> None:
    world = World(
        {
            "1.web": {"text": "only text", "group": "a"},
            "x.2.web": {"host": "10.0.0.2", "group": "b"},
            "x.3.web": {"host": "10.0.0.3", "group": "a"},
        }
    )
    assert addresses(world, "web") == ["10.0.0.3"]


def test_groups_are_applied_after_tags_and_named_ports() -> None:
    world = World(
        {
            "1.web": {"host": "10.0.0.1", "group": "a"},
            "x.2.web": {"host": "10.0.0.2", "group": "b", "tags": ["t"], "ports": {"http": 80}},
        }
    )
    assert addresses(world, "web") == ["10.0.0.1"]
    assert addresses(world, "t.tag.web") == ["10.0.0.2"]
    assert tails(world, "_http._tcp.web") == ["80 x.2.web"]


def test_groups_are_applied_after_max_matched() -> None:
    stored = {
        "1.a.web": {"host": "10.0.0.1", "group": "a"},
        "1.b.web": {"host": "10.0.0.2", "group": "a"},
        "c.web": {"host": "10.0.0.3", "group": "c"},
    }
    assert addresses(World(stored), "web") == ["10.0.0.3"]
    assert addresses(World(stored, max_matched=2), "web") == ["10.0.0.1", "10.0.0.2"]


def test_max_matched_counts_after_every_tag() -> None:
    stored = {
        f"{n}.web": {"host": f"10.0.0.{n}", "tags": ["a", "b"] if n > 7 else ["a"]} for n in range(1, 10)
    }
    world = World(stored, max_matched=2)
    assert addresses(world, "b.tag.a.tag.web") == ["10.0.0.8", "10.0.0.9"]
    assert world.counters.cut == 0


def test_unreadable_services_count_for_nothing() -> None:
    world = World({"1.web": b"[]", "2.web": {"host": "10.0.0.2"}}, max_matched=1)
    assert addresses(world, "web") == ["10.0.0.2"]
    assert world.counters.cut == 0


def test_a_name_of_many_labels_costs_little() -> None:
    """Nested tags, ports and wildcards recurse once a label."""
    world = World(EAST)
    for label in ("a.tag", "_a._tcp", "_._tcp", "*", "tag", "_tcp", "__a._tcp._tcp"):
        name = f"{label}." * (200 // (len(label) + 1)) + "east"
        assert addresses(world, name, "SRV")[0] in ("NODATA", "NXDOMAIN")


def test_parents_of_a_zone_do_not_stand_for_what_is_in_it() -> None:
    world = World(
        {"1.web": {"host": "10.0.0.1"}, "www": {"host": "test."}},
        zones=[Zone(apex=APEX), Zone(apex=names.from_text("e.test."))],
    )
    assert world.says("www", "A") == ["www 5 CNAME test."]
    world.put("x.f.test.", {"host": "10.0.0.9"})
    assert world.says("www", "A") == ["www 5 CNAME test.", "test. 5 A 10.0.0.9"]


def test_stored_special_labels_answer_first_below_a_wildcard_too() -> None:
    world = World(
        {
            "i1._http._tcp.web.prod": {"host": "10.0.0.9", "port": 81},
            "i2.a.tag.db.prod": {"host": "10.0.0.8"},
            "i3.cache.prod": {"host": "10.0.0.7", "tags": ["b"]},
        }
    )
    assert world.says("_http._tcp.*.prod", "SRV") == [
        "_http._tcp.*.prod 5 SRV 10 100 81 i1._http._tcp.web.prod"
    ]
    assert world.says("a.tag.*.prod", "A") == ["a.tag.*.prod 5 A 10.0.0.8"]
    assert world.says("b.tag.*.prod", "A") == ["b.tag.*.prod 5 A 10.0.0.7"]

"""Where hosts lead: aliases, flattening, loops, the outside."""

from __future__ import annotations

import pytest

from tests.support.dns import World

OUT = "www.example.com"


def test_a_bare_alias_is_a_cname_and_what_it_leads_to() -> None:
    world = World(
        {"www": {"host": "web.d.test."}, "1.web": {"host": "10.0.0.1"}, "2.web": {"host": "10.0.0.2"}}
    )
    assert world.says("www", "A") == ["www 5 CNAME web", "web 5 A 10.0.0.1", "web 5 A 10.0.0.2"]
    assert world.says("www", "AAAA") == ["NODATA"]
    assert world.says("www", "SRV") == ["www 5 SRV 10 100 0 web"]


@pytest.mark.parametrize(
    "more",
    [{"port": 80}, {"text": "t"}, {"mail": True}, {"meta": {"a": "b"}}],
    ids=lambda more: next(iter(more)),
)
def test_a_service_with_more_than_a_host_is_flattened(more: dict[str, object]) -> None:
    world = World({"www": {"host": "web.d.test.", **more}, "1.web": {"host": "10.0.0.1"}})
    assert world.says("www", "A") == ["www 5 A 10.0.0.1"]


@pytest.mark.parametrize(
    "more", [{"ttl": 5}, {"weight": 3}, {"tags": ["a"]}, {"group": "g"}, {"priority": 1}]
)
def test_other_fields_leave_it_bare(more: dict[str, object]) -> None:
    world = World({"www": {"host": "web.d.test.", **more}, "1.web": {"host": "10.0.0.1"}})
    assert world.says("www", "A") == ["www 5 CNAME web", "web 5 A 10.0.0.1"]


def test_an_alias_with_something_below_it_or_beside_it_is_flattened() -> None:
    stored = {"www": {"host": "web.d.test"}, "1.web": {"host": "10.0.0.1"}}
    assert World(stored | {"x.www": {"text": "t"}}).says("www", "A") == ["www 5 A 10.0.0.1"]
    assert World(stored | {"/skydns/test/d/WWW": {"host": OUT}}).says("www", "A") == ["www 5 A 10.0.0.1"]
    assert World(stored | {"x.web": {"host": "10.0.0.2"}}).says("*.web", "A") == [
        "*.web 5 A 10.0.0.1",
        "*.web 5 A 10.0.0.2",
    ]


def test_a_name_above_an_alias_is_flattened() -> None:
    world = World({"1.www": {"host": "web.d.test"}, "1.web": {"host": "10.0.0.1"}})
    assert world.says("www", "A") == ["www 5 A 10.0.0.1"]


def test_the_order_of_a_chain_is_every_cname_before_its_target() -> None:
    world = World(
        {
            "a": {"host": "b.d.test"},
            "b": {"host": "c.other"},
            "c.other.": {"host": "e.d.test"},
            "e": {"host": "10.0.0.1"},
        }
    )
    assert world.says("a", "A") == [
        "a 5 CNAME b",
        "b 5 CNAME c.other.",
        "c.other. 5 CNAME e",
        "e 5 A 10.0.0.1",
    ]


def chain(links: int) -> dict[str, object]:
    stored: dict[str, object] = {f"n{at}": {"host": f"n{at + 1}.d.test"} for at in range(links)}
    return stored | {f"n{links}": {"host": "10.0.0.1"}}


def test_at_most_eleven_links_of_aliases() -> None:
    assert len(World(chain(11)).says("n0", "A")) == 12
    assert World(chain(12)).says("n0", "A") == ["NODATA"]
    assert len(World(chain(12)).says("n1", "A")) == 12


def test_at_most_eleven_links_when_flattened() -> None:
    for links, expected in ((10, ["q 5 A 10.0.0.1"]), (11, ["NODATA"])):
        world = World({"1.q": {"host": "n0.d.test", "port": 1}, **chain(links)})
        assert world.says("q", "A") == expected


@pytest.mark.parametrize(
    "stored",
    [
        {"a": {"host": "a.d.test"}},
        {"a": {"host": "b.d.test"}, "b": {"host": "a.d.test"}},
        {"1.a": {"host": "a.d.test"}, "2.a": {"host": "b.d.test"}, "b": {"host": "a.d.test", "port": 1}},
        {"a": {"host": "b.d.test"}, "b": {"host": "c.d.test"}, "c": {"host": "b.d.test"}},
        {"a": {"host": "*.d.test"}, "b": {"host": "any.d.test"}},
    ],
)
def test_loops_leave_the_service_out(stored: dict[str, object]) -> None:
    assert World(stored).says("a", "A") == ["NODATA"]
    assert World(stored).adds("a", "SRV") == []


def test_a_loop_spoils_nothing_beside_it() -> None:
    world = World({"1.a": {"host": "a.d.test"}, "2.a": {"host": "10.0.0.2"}})
    assert world.says("a", "A") == ["a 5 A 10.0.0.2"]


def test_a_flattened_record_takes_the_least_ttl_on_its_way() -> None:
    world = World(
        {
            "1.a": {"host": "b.d.test", "port": 1, "ttl": 70},
            "b": {"host": "c.d.test", "ttl": 50},
            "c": {"host": "10.0.0.1", "ttl": 60},
        }
    )
    assert world.says("a", "A") == ["a 50 A 10.0.0.1"]


def test_each_name_is_resolved_once_and_each_address_given_once() -> None:
    world = World(
        {
            "1.a": {"host": "b.d.test", "port": 1},
            "2.a": {"host": "b.d.test", "port": 2},
            "3.a": {"host": "10.0.0.1"},
            "b": {"host": "10.0.0.1"},
        }
    )
    assert world.says("a", "A") == ["a 5 A 10.0.0.1"]


def test_an_inside_end_without_an_address_leaves_the_service_out() -> None:
    world = World({"www": {"host": "nosuch.d.test"}, "txt": {"host": "t.d.test"}, "t": {"text": "x"}})
    assert world.says("www", "A") == ["NODATA"]
    assert world.says("txt", "A") == ["NODATA"]


# ---------------------------------------------------------------- outside


def test_an_outside_alias_is_the_cname_alone() -> None:
    world = World({"www": {"host": OUT}, "a": {"host": "www.d.test"}})
    assert world.says("www", "A") == ["www 5 CNAME www.example.com."]
    assert world.says("a", "AAAA") == ["a 5 CNAME www", "www 5 CNAME www.example.com."]


def test_an_outside_name_is_looked_up_in_the_store_first() -> None:
    world = World({"www": {"host": OUT}, "1.www.example.com.": {"host": "192.0.2.1"}})
    assert world.says("www", "A") == ["www 5 CNAME www.example.com.", "www.example.com. 5 A 192.0.2.1"]
    assert world.says("www", "AAAA") == ["NODATA"]


def test_an_outside_name_of_which_the_store_has_only_text_is_unknown() -> None:
    world = World({"www": {"host": OUT}, "www.example.com.": {"text": "t"}})
    assert world.says("www", "A") == ["www 5 CNAME www.example.com."]


def test_outside_names_give_a_lone_cname_only_when_nothing_leads_to_an_address_of_either_family() -> None:
    stored = {
        "2.a": {"host": "b.example.com", "ttl": 5},
        "1.a": {"host": "z.example.com", "ttl": 90, "port": 1},
    }
    assert World(stored).says("a", "A") == ["a 90 CNAME z.example.com."]
    assert World(stored | {"3.a": {"host": "10.0.0.1"}}).says("a", "A") == ["a 5 A 10.0.0.1"]
    assert World(stored | {"3.a": {"host": "10.0.0.1"}}).says("a", "AAAA") == ["NODATA"]


def test_the_first_outside_name_is_first_in_key_order_however_far_away() -> None:
    world = World(
        {
            "1.a": {"host": "b.d.test", "port": 1},
            "2.a": {"host": "near.example.com"},
            "1.b": {"host": "z.example.com", "ttl": 90},
            "2.b": {"host": "c.example.com", "ttl": 1},
        }
    )
    assert world.says("a", "A") == ["a 5 CNAME z.example.com."]


def test_an_owner_never_holds_a_cname_beside_other_records() -> None:
    world = World({"1.a": {"host": OUT, "port": 1, "text": "t"}, "2.a": {"host": "10.0.0.1"}})
    assert world.says("a", "A") == ["a 5 A 10.0.0.1"]
    assert world.says("a", "TXT") == ['a 5 TXT "t"']
    assert world.adds("a", "SRV") == ["2.a 5 A 10.0.0.1"]


# ---------------------------------------------------------------- names with a meaning


def test_a_host_may_be_a_wildcard() -> None:
    world = World({"all": {"host": "*.prod.d.test", "port": 1}, "1.web.prod": {"host": "10.0.0.1"}})
    assert world.says("all", "A") == ["all 5 A 10.0.0.1"]


def test_a_host_may_be_a_tag() -> None:
    world = World(
        {
            "blue": {"host": "blue.tag.web.d.test"},
            "1.web": {"host": "10.0.0.1", "tags": ["blue"]},
            "2.web": {"host": "10.0.0.2"},
        }
    )
    assert world.says("blue", "A") == ["blue 5 CNAME blue.tag.web", "blue.tag.web 5 A 10.0.0.1"]


def test_a_host_that_is_a_named_port_has_no_address() -> None:
    world = World(
        {"a": {"host": "_http._tcp.web.d.test"}, "1.web": {"host": "10.0.0.1", "ports": {"http": 1}}}
    )
    assert world.says("_http._tcp.web", "A") == ["NODATA"]
    assert world.says("a", "A") == ["NODATA"]
    assert world.adds("a", "SRV") == []


def test_a_host_that_is_the_zones_own_name_server() -> None:
    world = World({"a": {"host": "ns.dns.d.test"}})
    assert world.says("a", "A") == ["a 5 CNAME ns.dns", "ns.dns 5 A 192.0.2.53"]


def test_groups_hold_in_names_that_are_followed() -> None:
    world = World(
        {
            "a": {"host": "web.d.test"},
            "1.web": {"host": "10.0.0.1", "group": "g"},
            "x.2.web": {"host": "10.0.0.2", "group": "h"},
        }
    )
    assert world.says("a", "A") == ["a 5 CNAME web", "web 5 A 10.0.0.1"]


# ---------------------------------------------------------------- bounds


def test_behind_names_max_matched_services_are_looked_at_in_all() -> None:
    """Many names may lead to the same many services; the work must not multiply."""
    stored: dict[str, object] = {f"{n}.big": {"host": f"10.0.{n}.1"} for n in range(50)}
    stored |= {f"{n}.a": {"host": f"{'any.' * n}d.test", "port": n} for n in range(1, 40)}
    world = World(stored, max_matched=60)
    assert len(world.says("a", "A")) <= 61
    assert world.counters.cut == 1


def test_targets_in_additional_are_followed_once_each() -> None:
    stored: dict[str, object] = {f"{n}.a": {"host": "b.d.test", "port": n} for n in range(1, 4)}
    world = World(stored | {"b": {"host": "10.0.0.1"}})
    assert world.adds("a", "SRV") == ["b 5 A 10.0.0.1"]

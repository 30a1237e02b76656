"""dns.explain: what an answer left out, and by which rule."""

from __future__ import annotations

from discovery import names
from discovery.dns import text
from discovery.dns.explain import explain, ttl_of
from discovery.dns.zone import Zone
from tests.support.dns import APEX, World, full


def why(world: World, name: str, rtype: str) -> dict[str, str]:
    """Key below the zone -> the reason ("" when it is used)."""
    found = explain(names.from_text(full(name)), text.TYPES[rtype], world.view, world.settings)
    return {note.record.key.decode().removeprefix("/skydns/test/d/"): note.why for note in found.notes}


def remarks(world: World, name: str, rtype: str) -> list[str]:
    return explain(names.from_text(full(name)), text.TYPES[rtype], world.view, world.settings).remarks


def test_an_unreadable_key_is_named_with_its_reason() -> None:
    world = World({"a.x": {"host": "10.0.0.1"}, "b.x": b"{", "c.x": {"host": "10.0.0.2", "port": "80"}})
    found = why(world, "x", "A")
    assert found["x/a"] == ""
    assert found["x/b"].startswith("unreadable: not JSON")
    assert found["x/c"] == "unreadable: port is not an integer"


def test_groups_families_and_doubles() -> None:
    world = World(
        {
            "a.x": {"host": "10.0.0.1", "group": "g1"},
            "b.x.sub": {"host": "10.0.0.9"},
            "c.d.x": {"host": "10.0.0.2", "group": "g2"},
            "e.f.x": {"host": "10.0.0.1", "group": "g1"},
            "g.x": {"host": "2001:db8::1"},
            "h.x": {"text": "only text"},
        }
    )
    assert why(world, "x", "A") == {
        "x/a": "",
        "x/d/c": "its group is 'g2'; the group in force here is 'g1'",
        "x/f/e": "its address is in the answer already",
        "x/g": "its address is of the other family",
        "x/h": "it has no host: it gives only TXT",
    }
    assert why(world, "x", "SRV")["x/f/e"] == "it is equal to /skydns/test/d/x/a"
    assert why(world, "x", "TXT")["x/a"] == "it has neither text nor meta"
    assert why(world, "x", "MX")["x/a"] == "it is not set to take mail"


def test_links_that_lead_nowhere() -> None:
    world = World(
        {
            "a.loop": {"host": "b.loop.d.test", "port": 1},
            "b.loop": {"host": "a.loop.d.test", "port": 1},
            "x.none": {"host": "missing.d.test", "port": 1},
        }
    )
    assert "loop" in why(world, "a.loop", "A")["loop/b"]
    assert why(world, "x.none", "A")["none/x"] == "the name it points to has no address here"


def test_tags_and_ports_that_are_not_there() -> None:
    world = World(
        {"a.x": {"host": "10.0.0.1", "tags": ["t"], "ports": {"http": 80}}, "b.x": {"host": "10.0.0.2"}}
    )
    assert why(world, "t.tag.x", "A") == {"x/a": "", "x/b": "it has no tag 't'"}
    assert why(world, "_http._tcp.x", "SRV") == {"x/a": "", "x/b": "it has no named port 'http'"}


def test_what_is_true_of_the_whole_answer() -> None:
    world = World({"a.x": {"host": "10.0.0.1"}, "b.x": {"host": "10.0.0.2"}}, max_matched=1)
    assert remarks(world, "x", "A") == [
        "more than 1 services match (dns.max_matched): the first of them are used"
    ]
    assert remarks(world, "y", "A") == ["no key is stored at the name or below it"]
    assert remarks(world, "x", "TXT")[-1].startswith("the name exists")
    assert remarks(world, "example.com.", "A") == ["the name lies in none of this node's zones"]
    world.view.stale = True
    assert "stale" in remarks(world, "x", "A")[-1]


def test_where_a_ttl_comes_from() -> None:
    world = World(
        {"a.x": {"host": "10.0.0.1"}, "b.x": {"host": "10.0.0.2", "ttl": 60}}, zones=[Zone(APEX, ttl=30)]
    )
    world.put("c.x", {"host": "10.0.0.3", "ttl": 60, "lease_ttl": 20}, lease=7)
    found = explain(names.from_text(full("x")), text.TYPES["A"], world.view, world.settings)
    assert [ttl_of(note.record, world.settings.zones) for note in found.notes] == [
        (30, "zone"),
        (60, "record"),
        (20, "lease"),
    ]


def test_taking_notes_changes_no_answer() -> None:
    world = World(
        {"a.x": {"host": "10.0.0.1", "group": "g"}, "b.x": {"host": "y.d.test"}, "y": {"host": "10.0.0.2"}}
    )
    for rtype in ("A", "SRV", "TXT", "MX"):
        found = explain(names.from_text(full("x")), text.TYPES[rtype], world.view, world.settings).answer
        said = [line.split(" ", 1)[1] for line in world.says("x", rtype) if " " in line]
        assert len(said) == len(found.first) + len(found.rotating)


def test_a_type_that_services_do_not_give_uses_none_of_them() -> None:
    world = World({"a.x": {"host": "10.0.0.1"}, "y": {"host": "z.d.test"}, "b.y": {"host": "10.0.0.2"}})
    for rtype in ("SOA", "NS", "PTR"):
        assert all(why(world, "x", rtype).values())
    assert all(why(world, "x", "CNAME").values())
    assert {key for key, reason in why(world, "y", "CNAME").items() if not reason} == {"y"}


def test_pointers_name_their_services() -> None:
    reverse = Zone(apex=names.from_text("10.in-addr.arpa."), reverse=True)
    stored: dict[str, object] = {f"i{n}.web": {"host": "10.0.0.1"} for n in range(10)}
    stored["/skydns/arpa/in-addr/10/0/0/2"] = {"host": "10.0.0.9"}
    world = World(stored, zones=[Zone(apex=APEX), reverse])
    found = why(world, "1.0.0.10.in-addr.arpa.", "PTR")
    assert len([key for key, reason in found.items() if not reason]) == 8
    assert found["web/i9"] == "8 names are given at the most"
    assert list(why(world, "2.0.0.10.in-addr.arpa.", "PTR").values()) == ["its host is no name"]

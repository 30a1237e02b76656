"""An answer is kept exactly as long as what it was made from stands, and within its bytes."""

from __future__ import annotations

import dns.edns
import pytest

from discovery.dns.cache import OVERHEAD, STAMP, Cache
from discovery.dns.source import Branch
from discovery.tree import Branch as TreeBranch
from tests.support.dns import World, query

STORED = {
    "1.web.prod": {"host": "10.0.0.1"},
    "1.db.prod": {"host": "10.0.0.2"},
    "1.web.test": {"host": "10.0.0.3"},
    "www": {"host": "db.prod.d.test"},
}


def kept(world: World, name: str, rtype: str = "A") -> bool:
    """Whether the answer to a question that was asked before came from the raw cache."""
    before = world.counters.hits_raw
    world.ask(name, rtype)
    return world.counters.hits_raw > before


def asked(world: World, *names: str) -> None:
    for name in names:
        world.ask(name, "A")
        world.ask(name, "A")  # who is asked again enters the raw level
        assert kept(world, name), name


def test_a_change_elsewhere_costs_an_entry_nothing() -> None:
    world = World(STORED)
    asked(world, "web.prod", "1.web.test", "x.db.prod", "www")
    world.put("2.web.test", {"host": "10.0.0.9"})
    world.delete("1.web.test")
    assert kept(world, "web.prod")
    assert kept(world, "x.db.prod")
    assert kept(world, "www")
    assert not kept(world, "1.web.test")


@pytest.mark.parametrize("changed", ["web.prod", "1.web.prod", "2.web.prod", "x.y.web.prod"])
def test_a_change_at_or_below_the_name_drops_it_and_those_above(changed: str) -> None:
    world = World(STORED)
    asked(world, "web.prod", "prod", "*", "db.prod")
    world.put(changed, {"host": "10.0.0.9"})
    for name in ("web.prod", "prod", "*"):
        assert not kept(world, name), name
    assert kept(world, "db.prod")


def test_a_name_that_begins_to_exist_drops_its_nxdomain() -> None:
    world = World(STORED)
    asked(world, "new.prod", "a.new.prod")
    world.put("1.new.prod", {"host": "10.0.0.9"})
    assert world.says("new.prod", "A") == ["new.prod 5 A 10.0.0.9"]
    assert not kept(world, "a.new.prod")


def test_a_name_that_goes_drops_its_answer() -> None:
    world = World(STORED)
    asked(world, "web.prod", "1.web.prod", "prod")
    world.delete("1.web.prod")
    assert world.ask("web.prod", "A").rcode() == 3
    assert world.ask("1.web.prod", "A").rcode() == 3
    assert len(world.ask("prod", "A").answer) == 1


def test_the_end_of_the_grace_drops_the_nodata() -> None:
    world = World(STORED, grace=60)
    world.delete("1.web.prod")
    asked(world, "web.prod", "x.web.prod")
    world.view.sweep(60)
    assert world.ask("web.prod", "A").rcode() == 3


def test_what_was_followed_is_stamped_too() -> None:
    world = World(STORED)
    asked(world, "www")
    world.put("2.db.prod", {"host": "10.0.0.9"})
    assert not kept(world, "www")


def test_a_reload_that_changes_nothing_but_the_epoch_drops_all_and_one_more_question_keeps_again() -> None:
    world = World(STORED)
    asked(world, "web.prod")
    world.view.new_epoch()
    assert not kept(world, "web.prod")
    asked(world, "web.prod")


def test_refusals_outside_are_kept_until_the_epoch_moves() -> None:
    world = World(STORED)
    asked(world, "example.com.")
    world.put("2.web.prod", {"host": "10.0.0.9"})
    assert kept(world, "example.com.")
    world.view.new_epoch()
    assert not kept(world, "example.com.")


def test_mixed_case_and_options_never_enter_the_raw_level_but_share_the_prepared_one() -> None:
    world = World(STORED)
    for name in ("wEb.prod", "web.PROD", "WEB.prod"):
        world.ask(name, "A")
        assert not kept(world, name)
    assert (world.counters.misses, world.counters.hits_prepared) == (1, 5)
    message = query("web.prod", "A")
    message.use_edns(0, options=[dns.edns.GenericOption("COOKIE", b"12345678")])
    for _ in range(2):
        world.udp.respond(message.to_wire())
    assert (world.counters.hits_raw, world.counters.hits_prepared) == (0, 7)


# ---------------------------------------------------------------- the cache itself


def branch(version: int = 1) -> TreeBranch:
    made = TreeBranch(b"x", None)
    made.version = version
    return made


def stamp(*branches: Branch) -> tuple[tuple[Branch, int], ...]:
    return tuple((each, each.version) for each in branches)


def test_all_stamps_and_the_epoch_must_hold() -> None:
    cache: Cache[str, str] = Cache(1 << 20)
    one, two = branch(), branch()
    cache.put("k", "v", stamp(one, two), 5, 1)
    assert cache.get("k", 5) == "v"
    assert cache.get("k", 6) is None
    two.version = 2
    assert cache.get("k", 5) is None
    cache.put("k", "w", stamp(one, two), 5, 1)
    one.version = 2
    assert cache.get("k", 5) is None


def test_the_cache_never_holds_more_than_its_bytes_and_drops_the_oldest_first() -> None:
    cache: Cache[int, str] = Cache(10 * (OVERHEAD + 100))
    for number in range(25):
        cache.put(number, "v", stamp(branch()), 0, 100)
        assert cache.bytes <= cache.limit
    assert list(cache.entries) == list(range(15, 25))
    assert cache.bytes == sum(entry.size for entry in cache.entries.values())


def test_putting_a_key_again_frees_what_it_held() -> None:
    cache: Cache[int, str] = Cache(1 << 20)
    for size in (100, 5000, 7):
        cache.put(1, "v", stamp(branch()), 0, size)
        assert cache.bytes == size + OVERHEAD


def test_what_is_larger_than_a_quarter_is_not_kept_and_drops_its_older_self() -> None:
    cache: Cache[int, str] = Cache(40_000)
    cache.put(1, "v", stamp(branch()), 0, 100)
    cache.put(1, "v", stamp(branch()), 0, 10_000)
    assert (cache.get(1, 0), cache.bytes, len(cache.entries)) == (None, 0, 0)


def test_stamps_count_as_bytes() -> None:
    cache: Cache[int, str] = Cache(1 << 20)
    cache.put(1, "v", stamp(*(branch() for _ in range(11))), 0, 100)
    assert cache.bytes == 100 + OVERHEAD + 10 * STAMP


def test_what_passes_fills_a_quarter_and_drives_out_only_its_own_kind() -> None:
    cache: Cache[int, str] = Cache(100 * (OVERHEAD + 100))
    for number in range(70):
        cache.put(number, "lasting", stamp(branch()), 0, 100)
    for number in range(1000, 1200):
        cache.put(number, "passing", stamp(branch()), 0, 100, passing=True)
        assert cache.passing_bytes * 4 <= cache.limit
    assert list(cache.entries) == [*range(70), *range(1175, 1200)]
    for number in range(100, 140):
        cache.put(number, "lasting", stamp(branch()), 0, 100)
        assert cache.bytes <= cache.limit
    assert list(cache.entries) == [*range(10, 70), *range(100, 140)]
    assert (cache.passing_bytes, cache.bytes) == (0, sum(entry.size for entry in cache.entries.values()))


def test_a_key_may_change_its_kind_for_ever() -> None:
    cache: Cache[int, str] = Cache(100 * (OVERHEAD + 100))
    for turn in range(1000):
        cache.put(turn % 3, "v", stamp(branch()), 0, 100, passing=turn % 2 == 0)
        assert len(cache._lasting) + len(cache._passing) < 200
    assert cache.bytes == 3 * (OVERHEAD + 100)
    assert cache.passing_bytes == sum(entry.size for entry in cache.entries.values() if entry.passing)
    for number in range(200):
        cache.put(number + 10, "v", stamp(branch()), 0, 100)
    assert list(cache.entries) == list(range(110, 210))


def test_an_entry_that_grows_drives_out_others() -> None:
    cache: Cache[int, str] = Cache(10 * (OVERHEAD + 100))
    for number in range(10):
        cache.put(number, "v", stamp(branch()), 0, 100)
    cache.grow(cache.entries[5], 2 * OVERHEAD)
    assert list(cache.entries) == list(range(2, 10))
    cache.grow(cache.entries[5], -2 * OVERHEAD)
    assert cache.bytes == 8 * (OVERHEAD + 100)

"""The view: diffs, versions, ghosts, serials, leases, and a model it must equal."""

from __future__ import annotations

import random

import pytest

from discovery import names
from discovery.kv.contract import KV, Event
from discovery.names import Path
from discovery.tree import Branch
from discovery.view import View
from tests.support.dns import World, kv

APEX = names.from_text("d.test")
OTHER = names.from_text("other.test")
REVERSE = names.from_text("10.in-addr.arpa")
HOST = {"host": "10.0.0.1"}


def path(name: str) -> Path:
    return names.from_text(f"{name}.d.test")


def view(grace: float = 0.0) -> View:
    return View("/skydns", apexes=[APEX, OTHER], reverse=[REVERSE], grace_of=lambda path: grace)


def put(
    view: View, name: str, revision: int, content: object = None, now: float = 0.0, lease: int = 0
) -> None:
    view.apply([Event(kv(name, HOST if content is None else content, revision, lease))], revision, now)


def delete(view: View, name: str, revision: int, now: float = 0.0) -> None:
    view.apply([Event(KV(kv(name, HOST).key, b"", 0, revision, 0), deleted=True)], revision, now)


def exists(view: View, name: str) -> bool:
    return view.find(path(name)) is not None


def versions(view: View) -> dict[int, int]:
    """Branch by identity -> version, of the whole tree."""
    seen: dict[int, int] = {}
    stack = [view.root]
    while stack:
        branch = stack.pop()
        seen[id(branch)] = branch.version
        stack.extend(branch.children.values())
    return seen


# ---------------------------------------------------------------- tags and ports


def test_it_knows_which_tags_and_ports_there_are() -> None:
    """Through a change, another record with the same, a reload and the end."""
    tree = view()
    blue = {**HOST, "tags": ["blue", "both"], "ports": {"http": 80}}
    put(tree, "1.web", 2, blue)
    put(tree, "2.web", 3, {**HOST, "tags": ["both"], "ports": {"dns/udp": 53}})
    assert [tree.has_tag(tag) for tag in ("blue", "both", "red")] == [True, True, False]
    assert [tree.has_port(name) for name in ("http", "dns/udp", "dns")] == [True, True, False]
    put(tree, "1.web", 4, {**HOST, "tags": ["red"]})
    assert [tree.has_tag(tag) for tag in ("blue", "both", "red")] == [False, True, True]
    assert not tree.has_port("http")
    tree.restore([kv("1.web", blue, 5)], 5, 0.0)
    assert [tree.has_tag(tag) for tag in ("blue", "both", "red")] == [True, True, False]
    assert not tree.has_port("dns/udp")
    delete(tree, "1.web", 6)
    assert not any(tree.has_tag(tag) for tag in ("blue", "both", "red"))
    assert not tree.has_port("http")


# ---------------------------------------------------------------- versions


def test_a_change_moves_the_versions_from_the_name_to_the_root_and_no_other() -> None:
    tree = view()
    for revision, name in enumerate(("1.web.prod", "1.db.prod", "1.web.test"), 2):
        put(tree, name, revision)
    before = versions(tree)
    put(tree, "1.web.prod", 5, {"host": "10.0.0.2"})
    moved = {key for key, version in versions(tree).items() if before[key] != version}
    on_path = [tree.find(path("1.web.prod")[:length]) for length in range(6)]
    assert moved == {id(branch) for branch in on_path}


def test_versions_move_before_a_branch_is_unlinked() -> None:
    tree = view()
    put(tree, "1.web.prod", 2)
    on_path = [
        branch for length in range(6) if (branch := tree.find(path("1.web.prod")[:length])) is not None
    ]
    before = [branch.version for branch in on_path]
    delete(tree, "1.web.prod", 3)
    assert not exists(tree, "prod")
    assert all(branch.version > old for branch, old in zip(on_path, before, strict=True))


def test_a_name_that_comes_back_is_another_branch_with_a_higher_version() -> None:
    tree = view()
    put(tree, "1.web", 2)
    old = tree.find(path("1.web"))
    delete(tree, "1.web", 3)
    put(tree, "1.web", 4)
    new = tree.find(path("1.web"))
    assert old is not None
    assert new is not None
    assert new is not old
    assert new.version > old.version


# ---------------------------------------------------------------- restore


def test_a_restore_moves_only_what_changed() -> None:
    tree = view()
    kvs = [kv(name, HOST, 2) for name in ("1.web.prod", "1.db.prod", "1.web.test", "1.old.test")]
    tree.restore(kvs, 5, 0.0)
    before = versions(tree)
    epoch = tree.epoch.version
    same = [each for each in kvs if b"/old" not in each.key and b"/db" not in each.key]
    tree.restore([*same, kv("1.db.prod", {"host": "10.0.0.9"}, 7), kv("1.new.test", HOST, 8)], 9, 0.0)
    after = versions(tree)
    unmoved = [tree.find(path(name)) for name in ("web.prod", "1.web.prod", "web.test", "1.web.test")]
    assert all(branch is not None and after[id(branch)] == before[id(branch)] for branch in unmoved)
    moved = [tree.find(path(name)) for name in ("db.prod", "prod", "test", "1.new.test")]
    assert all(branch is not None and after[id(branch)] != before.get(id(branch)) for branch in moved)
    assert not exists(tree, "old.test")
    assert tree.epoch.version > epoch
    assert tree.revision == 9


def test_a_restore_marks_ready() -> None:
    tree = view()
    assert not tree.ready
    tree.restore([], 1, 0.0)
    assert tree.ready


def test_what_a_restore_takes_away_has_its_grace() -> None:
    tree = view(grace=60)
    tree.restore([kv("1.web", HOST, 2)], 2, 0.0)
    tree.restore([], 3, 10.0)
    assert tree.sweep(69.0) == 70.0
    assert exists(tree, "web")
    assert tree.sweep(70.0) is None
    assert not exists(tree, "web")


# ---------------------------------------------------------------- negative_grace


def test_a_name_and_those_above_it_stay_for_the_grace() -> None:
    tree = view(grace=60)
    put(tree, "1.web.prod", 2)
    put(tree, "1.db", 3)
    delete(tree, "1.web.prod", 4, now=100.0)
    assert tree.sweep(159.9) == 160.0
    assert [exists(tree, name) for name in ("1.web.prod", "web.prod", "prod")] == [True] * 3
    assert tree.sweep(160.0) is None
    assert [exists(tree, name) for name in ("1.web.prod", "web.prod", "prod", "db")] == [
        False,
        False,
        False,
        True,
    ]


def test_names_above_that_still_have_services_stay_when_the_grace_ends() -> None:
    tree = view(grace=60)
    put(tree, "1.web.prod", 2)
    put(tree, "1.db.prod", 3)
    delete(tree, "1.web.prod", 4, now=0.0)
    tree.sweep(60.0)
    assert [exists(tree, name) for name in ("web.prod", "prod", "1.db.prod")] == [False, True, True]


def test_a_service_that_comes_back_within_the_grace_keeps_its_name() -> None:
    tree = view(grace=60)
    put(tree, "1.web", 2)
    delete(tree, "1.web", 3, now=0.0)
    put(tree, "1.web", 4, now=30.0)
    tree.sweep(61.0)
    assert exists(tree, "1.web")
    delete(tree, "1.web", 5, now=70.0)
    tree.sweep(129.0)
    assert exists(tree, "1.web")
    tree.sweep(130.0)
    assert not exists(tree, "web")


def test_the_last_grace_of_nested_names_counts() -> None:
    tree = view(grace=60)
    put(tree, "web", 2)
    put(tree, "1.web", 3)
    delete(tree, "1.web", 4, now=0.0)
    delete(tree, "web", 5, now=30.0)
    tree.sweep(60.0)
    assert [exists(tree, "1.web"), exists(tree, "web")] == [False, True]
    tree.sweep(90.0)
    assert not exists(tree, "web")


def test_without_a_grace_a_name_goes_at_once() -> None:
    tree = view()
    put(tree, "1.web.prod", 2)
    delete(tree, "1.web.prod", 3)
    assert tree.root.children == {}
    assert tree.addresses.children == {}


# ---------------------------------------------------------------- serials


def test_a_serial_is_the_revision_that_touched_the_zone() -> None:
    tree = view()
    tree.restore([kv("1.web", HOST, 2)], 5, 0.0)
    assert [tree.serial(apex) for apex in (APEX, OTHER, REVERSE)] == [5, 5, 5]
    put(tree, "2.web", 6, {"host": "192.0.2.1"})
    assert [tree.serial(apex) for apex in (APEX, OTHER, REVERSE)] == [6, 5, 5]
    put(tree, "1.x.other.test.", 7, {"host": "10.1.1.1"})
    assert [tree.serial(apex) for apex in (APEX, OTHER, REVERSE)] == [6, 7, 7]
    delete(tree, "1.x.other.test.", 8)
    assert [tree.serial(apex) for apex in (APEX, OTHER, REVERSE)] == [6, 8, 8]
    delete(tree, "nosuch", 9)
    assert tree.serial(APEX) == 6


def test_a_serial_never_goes_back() -> None:
    tree = view()
    tree.restore([kv("1.web", HOST, 90)], 100, 0.0)
    tree.restore([kv("1.web", {"host": "10.0.0.2"}, 3)], 5, 0.0)
    assert tree.serial(APEX) == tree.serial(REVERSE) == 100
    put(tree, "1.web", 6)
    assert tree.serial(APEX) == 100
    put(tree, "1.web", 101)
    assert tree.serial(APEX) == 101


# ---------------------------------------------------------------- unreadable


def test_unreadable_values_and_keys_are_told_once() -> None:
    tree = view()
    bad = [kv("1.web", b"{", 2), KV(b"/skydns/test//x", b"{}", 2, 2, 1)]
    tree.restore([*bad, kv("2.web", HOST, 2)], 3, 0.0)
    assert [key for key, _ in tree.newly_unreadable] == [each.key for each in bad]
    assert set(tree.unreadable) == {each.key for each in bad}
    tree.newly_unreadable.clear()
    tree.restore(bad, 4, 0.0)
    assert tree.newly_unreadable == []
    put(tree, "1.web", 5)
    assert set(tree.unreadable) == {bad[1].key}
    tree.apply([Event(KV(bad[1].key, b"", 0, 6, 0), deleted=True)], 6, 0.0)
    assert tree.unreadable == {}
    put(tree, "1.web", 7, b"{")
    assert len(tree.newly_unreadable) == 1


def test_a_reload_forgets_unreadable_keys_that_are_gone() -> None:
    tree = view()
    tree.restore([kv("1.web", b"{", 2), KV(b"/skydns/test//x", b"{}", 2, 2, 1)], 3, 0.0)
    tree.restore([], 4, 0.0)
    assert tree.unreadable == {}


def test_an_unreadable_record_says_why() -> None:
    tree = view()
    put(tree, "1.web", 2, {"port": "x"})
    record = tree.record(path("1.web"))
    assert record is not None
    assert (record.fields, record.reason) == (None, "port is not an integer")


# ---------------------------------------------------------------- reading


def test_of_keys_that_differ_in_case_the_lower_case_one_is_the_names_record() -> None:
    tree = view()
    put(tree, "/skydns/test/d/WEB", 2)
    assert tree.record(path("web")) is not None
    put(tree, "/skydns/test/d/web", 3)
    put(tree, "/skydns/test/d/Web", 4)
    record = tree.record(path("web"))
    assert record is not None
    assert record.key == b"/skydns/test/d/web"
    branch = tree.find(path("web"))
    assert branch is not None
    assert [each.key[-3:] for each in branch.records] == [b"WEB", b"Web", b"web"]
    assert branch.count == 3
    assert tree.record(path("nosuch")) is None


def test_services_are_the_names_with_records_directly_below_them() -> None:
    tree = view(grace=60)
    for revision, name in enumerate(("1.web.prod", "2.web.prod", "1.db.prod", "alone", "1.gone"), 2):
        put(tree, name, revision)
    delete(tree, "1.gone", 9)
    assert list(tree.services(APEX)) == [(APEX, 1), (path("db.prod"), 1), (path("web.prod"), 2)]


# ---------------------------------------------------------------- leases


def test_foreign_leases_are_asked_for_until_they_are_told() -> None:
    tree = view()
    put(tree, "1.web", 2, lease=7)
    put(tree, "2.web", 3, lease=7)
    put(tree, "3.web", 4, {"host": "10.0.0.3", "lease_ttl": 9}, lease=8)
    assert tree.unknown_leases == {7}
    branch = tree.find(path("1.web"))
    assert branch is not None
    before = branch.version
    tree.learn_lease(7, 30)
    assert tree.unknown_leases == set()
    assert branch.version > before
    ttls = [record.lease_ttl for record in tree.root.walk()]
    assert ttls == [30, 30, 9]
    put(tree, "4.web", 5, lease=7)
    assert tree.unknown_leases == set()
    assert [record.lease_ttl for record in tree.root.walk()] == [30, 30, 9, 30]


def test_a_lease_without_records_is_forgotten() -> None:
    tree = view()
    put(tree, "1.web", 2, lease=7)
    put(tree, "2.web", 3, lease=8)
    tree.learn_lease(8, 30)
    put(tree, "1.web", 4)
    delete(tree, "2.web", 5)
    assert tree.unknown_leases == set()
    put(tree, "2.web", 6, lease=8)
    assert tree.unknown_leases == {8}


# ---------------------------------------------------------------- a model


def check(branch: Branch, at: Path, model: dict[bytes, bytes], now: float) -> int:
    """Compares a branch with the model and returns how many records it holds."""
    expected = sorted(key for key in model if names.path_of(key, "/skydns") == at)
    assert sorted(record.key for record in branch.records) == expected
    assert [child.label for child in branch.ordered()] == sorted(branch.children)
    count = len(expected) + sum(
        check(child, (*at, child.label), model, now) for child in branch.children.values()
    )
    assert branch.count == count
    assert count or not at or any_ghost(branch, now)
    return count


def any_ghost(branch: Branch, now: float) -> bool:
    return branch.ghost_until > now or any(any_ghost(child, now) for child in branch.children.values())


@pytest.mark.parametrize("grace", [0.0, 4.0])
def test_random_changes_against_a_dict(grace: float, rng: random.Random) -> None:
    labels = ("a", "A", "b", "c-d", "c")
    for _ in range(6):
        tree, model, now = view(grace), dict[bytes, bytes](), 0.0
        for revision in range(2, 80):
            now += rng.choice((0.0, 1.0))
            key = "/skydns/test/d/" + "/".join(rng.choice(labels) for _ in range(rng.randint(1, 3)))
            act = rng.random()
            if act < 0.55:
                content = kv(key, {"host": f"10.0.0.{rng.randint(1, 3)}"}, revision)
                tree.apply([Event(content)], revision, now)
                model[content.key] = content.value
            elif act < 0.9:
                tree.apply([Event(KV(key.encode(), b"", 0, revision, 0), deleted=True)], revision, now)
                model.pop(key.encode(), None)
            else:
                model = {key: value for key, value in model.items() if rng.random() < 0.8}
                tree.restore([KV(key, value, 1, 1, 1) for key, value in model.items()], revision, now)
            tree.sweep(now)
            check(tree.root, (), model, now)
            assert tree.root.services == len(list(tree.services(())))
            walked = [record.key for record in tree.root.walk()]
            order = sorted(
                model, key=lambda each: names.key_order(each, names.path_of(each, "/skydns") or ())
            )
            assert walked == order
            by_address = sorted(record.key for record in tree.addresses.walk())
            assert by_address == sorted(model)
            assert tree.addresses.count == len(model)


def test_gathering_is_walking_up_to_so_many_readable_ones(rng: random.Random) -> None:
    stored = {
        ".".join(rng.choice("abc") for _ in range(rng.randint(1, 4))): b"{"
        if rng.random() < 0.3
        else {"host": "::1"}
        for _ in range(60)
    }
    root = World(stored).view.root
    walked = list(root.walk())
    for limit in range(1, 70):
        gathered = root.gather(limit)
        assert gathered == walked[: len(gathered)]
        readable = [record for record in gathered if record.fields is not None]
        assert len(readable) == limit if len(gathered) < len(walked) else len(readable) <= limit

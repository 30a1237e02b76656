"""A worker's view equals the main one, whatever the main one is told and whenever the worker joins."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from discovery import names
from discovery.kv.contract import KV, Event
from discovery.tree import Branch
from discovery.view import View
from discovery.workers import messages, published
from discovery.workers.messages import HEADER, Batch, Records, Told, frame
from discovery.workers.published import PIECE, PublishedView, follow, whole
from tests.support.dns import kv

APEX = names.from_text("d.test")
OTHER = names.from_text("other.test")
REVERSE = names.from_text("10.in-addr.arpa")
HOST = {"host": "10.0.0.1"}
V = TypeVar("V", bound=View)


def view_of(kind: type[V]) -> V:
    return kind("/skydns", apexes=[APEX, OTHER], reverse=[REVERSE], grace_of=lambda path: 10.0)


class Worker:
    """A view at the other end of a stream; `loads` are told one message at a time."""

    def __init__(self, main: View) -> None:
        self.view = view_of(View)
        self.loads = [whole(main)]

    def take(self, message: Told) -> None:
        follow(self.view, messages.told(frame(message)[HEADER:]))

    def load_some(self) -> bool:
        """Whether there was something left."""
        while self.loads:
            for message in self.loads[0]:
                self.take(message)
                return True
            del self.loads[0]
        return False


class Workers:
    """The audience: all that have joined."""

    def __init__(self) -> None:
        self.all: list[Worker] = []
        self.told: list[Told] = []

    def tell(self, message: Told) -> None:
        self.told.append(message)
        for worker in self.all:
            worker.take(message)

    def load(self, telling: Callable[[], Iterator[Told]]) -> None:
        for worker in self.all:
            worker.loads.append(telling())


def main_view() -> tuple[PublishedView, Workers]:
    view = view_of(PublishedView)
    view.audience = workers = Workers()
    return view, workers


def content(view: View) -> object:
    """All that answers can depend on."""
    return (
        tree(view.root),
        tree(view.addresses),
        [view.serial(apex) for apex in (APEX, OTHER, REVERSE)],
        (view.revision, view.ready, view.stale),
        view.standing().ghosts and sorted(view.standing().ghosts),
    )


def tree(branch: Branch) -> object:
    records = [(each.copy(), each.lease_ttl) for each in branch.records]
    return branch.count, records, {label: tree(child) for label, child in sorted(branch.children.items())}


def test_views_are_equal_after_anything_whenever_a_worker_joins(rng: random.Random) -> None:
    for _ in range(60):
        run(random.Random(rng.random()))


def run(rng: random.Random) -> None:
    main, workers = main_view()
    held: dict[str, KV] = {}
    revision, now = 1, 0.0
    for _ in range(rng.randrange(5, 60)):
        revision += 1
        now += rng.random() * 4
        name = f"{rng.randrange(3)}.web{rng.randrange(3)}"
        match rng.choice(
            ["put", "put", "put", "delete", "delete", "load", "sweep", "lease", "stale", "nodes", "join"]
        ):
            case "put" if main.ready:
                fields = rng.choice(
                    [HOST, {"host": f"10.0.0.{rng.randrange(9)}", "tags": ["a"]}, {"port": "x"}]
                )
                lease = rng.choice([0, 5, 6])
                held[name] = kv(name, fields, revision, lease)
                main.apply([Event(held[name])], revision, now)
            case "delete" if main.ready and name in held:
                gone = KV(held.pop(name).key, b"", 0, revision, 0)
                main.apply([Event(gone, deleted=True)], revision, now)
            case "load":
                for other in rng.sample(sorted(held), len(held) // 2):
                    del held[other]
                for number in range(rng.randrange(4)):
                    held[f"new{number}"] = kv(f"new{number}", HOST, revision)
                main.restore(list(held.values()), revision, now)
            case "sweep":
                main.sweep(now)
            case "lease":
                main.learn_lease(rng.choice([5, 6]), rng.randrange(1, 99))
            case "stale":
                main.stale = not main.stale
                main.new_epoch()
            case "nodes":
                main.set_nodes([(b"n1", (bytes(4),)), (b"n2", ())][: rng.randrange(3)])
            case "join":
                workers.all.append(Worker(main))
        for worker in workers.all:
            if rng.random() < 0.5:
                worker.load_some()
    for worker in workers.all:
        while worker.load_some():
            pass
        assert content(worker.view) == content(main)
        for later in (now + 5, now + 20):
            main.sweep(later)
            assert content(worker.view) == content(main)


def test_the_walk_survives_what_changes_beneath_it(rng: random.Random) -> None:
    """Pieces of one record, and a change between every two."""
    main, workers = main_view()
    main.restore([kv(f"{number:03}.web", HOST, 2) for number in range(200)], 2, 0.0)
    worker = Worker(main)
    workers.all.append(worker)
    pieces = published.PIECE
    try:
        published.PIECE = 1
        revision = 2
        while worker.load_some():
            revision += 1
            name = f"{rng.randrange(250):03}.web"
            if rng.random() < 0.5:
                main.apply([Event(kv(name, {"host": "10.0.0.2"}, revision))], revision, 0.0)
            else:
                gone = KV(kv(name, HOST).key, b"", 0, revision, 0)
                main.apply([Event(gone, deleted=True)], revision, 0.0)
    finally:
        published.PIECE = pieces
    assert revision > 150
    assert content(worker.view) == content(main)


def test_a_view_is_told_from_where_it_was_told_to_without_a_look_at_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a piece takes what a piece takes, however much there is; several records of one name stay together."""
    monkeypatch.setattr(published, "PIECE", 3)
    main, _ = main_view()
    same = [kv(f"/skydns/test/d/two/{label}", HOST, 2) for label in ("A", "a")]
    main.restore([*same, *(kv(f"{number}.web", HOST, 2) for number in range(5))], 2, 0.0)
    told = whole(main)
    first = next(told)
    assert isinstance(first, Records)
    main.apply([Event(kv("9.web", HOST, 3))], 3, 0.0)
    gone = KV(kv("0.web", HOST).key, b"", 0, 4, 0)
    main.apply([Event(gone, deleted=True)], 4, 0.0)
    keys = [copy.key for copy in first.copies]
    for message in told:
        if isinstance(message, Records):
            keys += [copy.key for copy in message.copies]
    assert sorted(keys) == sorted(
        {each.key for each in same} | {kv(f"{n}.web", HOST).key for n in (*range(5), 9)}
    )


def test_a_worker_knows_nothing_before_the_main_view_does() -> None:
    main, workers = main_view()
    workers.all.append(Worker(main))
    while workers.all[0].load_some():
        pass
    assert not workers.all[0].view.ready
    main.restore([kv("1.web", HOST, 2)], 2, 0.0)
    assert not workers.all[0].view.ready
    while workers.all[0].load_some():
        pass
    assert content(workers.all[0].view) == content(main)


def test_a_worker_that_is_being_loaded_is_not_ready_by_a_load_of_the_main_view() -> None:
    main, workers = main_view()
    main.restore([kv("1.web", HOST, 2), kv("2.web", HOST, 2)], 2, 0.0)
    worker = Worker(main)
    workers.all.append(worker)
    main.restore([kv("1.web", HOST, 2)], 3, 0.0)
    assert not worker.view.ready
    while worker.load_some():
        pass
    assert content(worker.view) == content(main)


def test_a_load_tells_only_what_differs_in_pieces() -> None:
    main, workers = main_view()
    first = [kv(f"{number}.web", HOST, 2) for number in range(10)]
    main.restore(first, 2, 0.0)
    workers.told.clear()
    main.restore([*first[1:], kv("new", HOST, 5)], 5, 0.0)
    batches = [message for message in workers.told if isinstance(message, Batch)]
    assert [(each.kv.key, each.deleted) for message in batches for each in message.events] == [
        (kv("new", HOST).key, False),
        (first[0].key, True),
    ]
    workers.told.clear()
    main.restore([kv(f"{number}.db", HOST, 6) for number in range(PIECE + 1)], 6, 0.0)
    assert max(len(message.events) for message in workers.told if isinstance(message, Batch)) == PIECE


def test_a_sweep_that_ends_nothing_is_not_told() -> None:
    main, workers = main_view()
    main.restore([kv("1.web", HOST, 2)], 2, 0.0)
    main.apply([Event(KV(kv("1.web", HOST).key, b"", 0, 3, 0), deleted=True)], 3, 0.0)
    workers.told.clear()
    main.sweep(9.0)
    assert workers.told == []
    main.sweep(11.0)
    assert len(workers.told) == 1

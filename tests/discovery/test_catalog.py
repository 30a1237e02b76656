"""The catalog of services, against the view walked anew; and what is found by which words."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import TypeVar

import pytest

from discovery import names
from discovery.catalog import Catalog, Found, line_of, listed, words_of
from discovery.kv.contract import KV, Event
from discovery.tree import Record
from discovery.view import View
from tests.support.dns import kv

T = TypeVar("T")


def driven(work: Generator[None, None, T]) -> tuple[T, int]:
    """What it returns, and how often it stopped."""
    stops = 0
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result, stops
        stops += 1


def view() -> View:
    return View("/skydns", apexes=[names.from_text("d.test")], grace_of=lambda path: 0.0)


def put(view: View, name: str, revision: int, **content: object) -> None:
    view.apply([Event(kv(name, {"host": "10.0.0.1", **content}, revision))], revision, 0.0)


def delete(view: View, name: str, revision: int) -> None:
    view.apply([Event(KV(kv(name, {}).key, b"", 0, revision, 0), deleted=True)], revision, 0.0)


def find(catalog: Catalog, text: str, limit: int = 10) -> Found:
    driven(catalog.refresh())
    return driven(catalog.find(words_of(text), limit))[0]


def services(found: Found) -> list[str]:
    return [service.name.decode() for service in found.services]


def instances(records: Sequence[Record]) -> list[str]:
    return sorted(names.to_text(record.path) for record in records)


@pytest.fixture
def there() -> tuple[View, Catalog]:
    made = view()
    put(made, "i1.web.prod", 2, tags=["blue"], ports={"metrics": 9100})
    put(made, "i2.web.prod", 3, host="10.0.0.2", meta={"Rack": "R7"})
    put(made, "i1.db.prod", 4, host="db7.example.org", port=5432)
    return made, Catalog(made.root)


@pytest.mark.parametrize(
    ("text", "wanted_services", "wanted_instances"),
    [
        ("", ["db.prod.d.test", "web.prod.d.test"], []),
        ("web", ["web.prod.d.test"], []),
        ("WEB.prod.d.test.", ["web.prod.d.test"], []),
        ("prod", ["db.prod.d.test", "web.prod.d.test"], []),
        ("blue", [], ["i1.web.prod.d.test."]),
        ("web 10.0.0.2", [], ["i2.web.prod.d.test."]),
        ("db 10.0.0.2", [], []),
        ("i1", [], ["i1.db.prod.d.test.", "i1.web.prod.d.test."]),
        ("i1.web.prod", [], ["i1.web.prod.d.test."]),
        ("rack=r7", [], ["i2.web.prod.d.test."]),
        ("metrics blue", [], ["i1.web.prod.d.test."]),
        ("5432", [], ["i1.db.prod.d.test."]),
        ("example.org i1", [], ["i1.db.prod.d.test."]),
        ("1\ni2", [], ["i2.web.prod.d.test."]),
        ("nothing", [], []),
    ],
)
def test_what_is_found_by_which_words(
    there: tuple[View, Catalog], text: str, wanted_services: list[str], wanted_instances: list[str]
) -> None:
    found = find(there[1], text)
    assert (services(found), instances(found.records), found.more) == (
        wanted_services,
        wanted_instances,
        False,
    )


def test_no_more_than_the_limit_and_that_there_are_more(there: tuple[View, Catalog]) -> None:
    found = find(there[1], "i", limit=2)
    assert (len(found.records), found.more) == (2, True)
    assert not find(there[1], "i", limit=3).more


def test_unreadable_records_are_counted_and_not_found(there: tuple[View, Catalog]) -> None:
    made, catalog = there
    made.apply([Event(KV(b"/skydns/test/d/prod/web/i9", b"no JSON", 9, 9, 1))], 9, 0.0)
    (web,) = find(catalog, "web").services
    assert (len(web.records), web.unreadable) == (2, 1)
    assert find(catalog, "i9").records == []


def test_it_follows_the_view_and_keeps_what_did_not_change(rng: random.Random) -> None:
    made = view()
    catalog = Catalog(made.root)
    held: set[str] = set()
    for revision in range(2, 400):
        name = f"i{rng.randrange(5)}.{rng.choice(['web', 'db', 'api.web'])}.{rng.choice(['prod', 'test'])}"
        if name in held and rng.random() < 0.5:
            delete(made, name, revision)
            held.discard(name)
        else:
            put(made, name, revision, port=revision)
            held.add(name)
        before = {service.path: service for service in catalog.services}
        driven(catalog.refresh())
        paths = {names.from_text(f"{each}.d.test") for each in held}
        assert [service.path for service in catalog.services] == sorted({path[:-1] for path in paths})
        assert {record.path for service in catalog.services for record in service.records} == paths
        changed = names.from_text(f"{name}.d.test")[:-1]
        for service in catalog.services:
            if service.path != changed and changed[: len(service.path)] != service.path:
                assert service is before[service.path]
        found = driven(catalog.find(words_of(f"{revision}"), 100))[0]
        assert instances(found.records) == sorted(
            names.to_text(record.path)
            for service in catalog.services
            for record in service.records
            if str(revision).encode() in line_of(record)
        )


def test_what_moves_while_it_is_taken_in_is_taken_in_the_next_time() -> None:
    made = view()
    for number in range(1000):
        put(made, f"i{number}.web", 2 + number)
    catalog = Catalog(made.root)
    work = catalog.refresh()
    next(work)
    put(made, "late.web", 2000)
    delete(made, "i999.web", 2001)
    _, stops = driven(work)
    assert stops >= 5, "it stops often enough for others"
    found = find(catalog, "late")
    assert instances(found.records) == ["late.web.d.test."]
    assert len(catalog.services[0].records) == 1000


def test_a_long_search_stops_for_others() -> None:
    made = view()
    for number in range(1000):
        put(made, f"i{number}.web", 2 + number)
    catalog = Catalog(made.root)
    driven(catalog.refresh())
    _, first = driven(catalog.find([b"i999"], 10))
    assert first >= 5, "the lines are made bit by bit"
    _, second = driven(catalog.find([b"i", b"nowhere"], 10))
    assert second == 0, "then a word that stands nowhere costs one look"
    _, third = driven(catalog.find([b"10.0.0.1", b"i999"], 10))
    assert third >= 5, "a word that stands everywhere is looked at line by line"


def test_many_small_services_stop_as_often_as_one_large() -> None:
    made = view()
    for number in range(1000):
        put(made, f"i{number}.web{number // 4}", 2 + number)
    catalog = Catalog(made.root)
    _, refreshed = driven(catalog.refresh())
    _, searched = driven(catalog.find([b"i999"], 10))
    assert min(refreshed, searched) >= 250
    _, again = driven(catalog.refresh())
    assert again == 0


def test_the_instances_of_one_service(there: tuple[View, Catalog]) -> None:
    _, catalog = there
    driven(catalog.refresh())

    def within(text: str, path: str = "web.prod.d.test") -> list[str]:
        service, records = driven(catalog.within(names.from_text(path), words_of(text)))[0]
        assert service is None or service.path == names.from_text(path)
        return [names.to_text(record.path) for record in records]

    assert within("") == within("web") == ["i1.web.prod.d.test.", "i2.web.prod.d.test."]
    assert within("blue") == ["i1.web.prod.d.test."]
    assert within("5432") == []
    assert within("", "nothing.d.test") == []


def test_instances_that_are_out_of_dns_are_found_beside_the_others(there: tuple[View, Catalog]) -> None:
    _, catalog = there
    driven(catalog.refresh())
    away = [
        Record(names.from_text(f"{name}.d.test"), kv(name, {"host": "10.0.0.9", "tags": ["away"]}, 9))
        for name in ("i7.web.prod", "i1.old")
    ]
    extra, numbers = listed(away, catalog.services)
    assert numbers == {record.path[:-1]: 1 for record in away}
    everything = driven(catalog.find([], 10, extra))[0]
    assert [(each.name, len(each.records)) for each in everything.services] == [
        (b"old.d.test", 1),
        (b"db.prod.d.test", 1),
        (b"web.prod.d.test", 3),
    ]
    found = driven(catalog.find([b"away"], 10, extra))[0]
    assert instances(found.records) == ["i1.old.d.test.", "i7.web.prod.d.test."]

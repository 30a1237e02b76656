"""What `list` and `show` print, and what the live table makes of events."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from discovery.cli.listing import Followed
from discovery.client import Event, Instance
from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode


def put(service: str, instance: str) -> Event:
    name = f"{instance}.{service}.test."
    return Event(
        type="put",
        revision=1,
        instance=Instance(service=service, instance=instance, name=name, host="10.0.0.1"),
    )


def delete(service: str, instance: str) -> Event:
    name = f"{instance}.{service}.test."
    return Event(type="delete", revision=2, instance=Instance(service=service, instance=instance, name=name))


class TestFollowed:
    def test_services_with_how_many_each_has(self) -> None:
        followed = Followed(None, False, "")
        for event in (put("b", "1"), put("a", "1"), put("a", "2"), put("a", "2"), delete("b", "1")):
            followed.take(event)
        before = followed.synced
        followed.take(Event(type="synced", revision=3))
        assert (before, followed.synced) == (False, True)
        assert followed.table(wide=False, limit=9) == (1, (("service", "instances"), [("a", 2)]))

    def test_only_those_that_begin_so(self) -> None:
        followed = Followed(None, False, "we")
        for event in (put("web", "1"), put("db", "1")):
            followed.take(event)
        assert followed.table(wide=False, limit=9) == (1, (("service", "instances"), [("web", 1)]))

    def test_instances_of_one_service(self) -> None:
        followed = Followed("web", False, "")
        for event in (put("web", "2"), put("web", "1")):
            followed.take(event)
        number, (columns, rows) = followed.table(wide=False, limit=9)
        assert number == 2
        assert followed.table(wide=False, limit=1)[1][1] == rows[:1]
        assert columns[:2] == ("instance", "host")
        assert [row[:2] for row in rows] == [["1", "10.0.0.1"], ["2", "10.0.0.1"]]


@pytest.fixture
def url(run: Run) -> Iterator[str]:
    with HttpNode() as node:
        run("register", "web", "i1", "--host", "10.0.0.1", "--meta", "zone=a", "--node", node.url)
        yield node.url


def test_wide_has_more_columns(run: Run, url: str) -> None:
    head, row = run("list", "web", "-o", "wide", "--node", url).out.splitlines()
    assert {"META", "TTL", "ENDS"} <= set(head.split())
    assert "zone=a" in row


def test_yaml_says_what_json_says(run: Run, url: str) -> None:
    as_json = json.loads(run("list", "web", "-o", "json", "--node", url).out)
    assert yaml.safe_load(run("list", "web", "-o", "yaml", "--node", url).out) == as_json
    assert json.loads(run("list", "web", "--json", "--node", url).out) == as_json


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("list --subtree", "--subtree needs a service"),
        ("list web --prefix w", "leave SERVICE out"),
        ("list --watch", "draws on a terminal"),
        ("list --watch --json", "`discovery watch --output json`"),
        ("list --json -o yaml", "--json and --output yaml: give one of them"),
        ("list -o xml", "'xml' is not one of"),
    ],
)
def test_wrong_usage(run: Run, arguments: str, complaint: str) -> None:
    status, out, err = run(*arguments.split())
    assert (status, out) == (2, "")
    assert complaint in err


def test_times_are_as_seen_now_and_exact_in_json(run: Run) -> None:
    time = "2020-01-01T00:00:00.000Z"
    one = {"name": "i1.web.test.", "tags": ["a", "b"], "meta": {}, "mail": True, "drained_at": time}
    with HttpNode() as node:
        node.answers["GET", "/v1/services/web/i1"] = one
        out = run("show", "web", "i1", "--node", node.url).out
        assert out.splitlines()[1:5] == [
            "name        i1.web.test.",
            "tags        a b",
            "meta",
            "mail        yes",
        ]
        assert f"drained_at  {time} (" in out
        assert out.rstrip().endswith("d ago)")
        assert json.loads(run("show", "web", "i1", "-o", "json", "--node", node.url).out) == one

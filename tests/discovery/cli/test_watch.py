"""What `discovery watch` prints, and what it refuses; the stream is tested with the client, breaks in tests/e2e."""

from __future__ import annotations

import json

import pytest

from discovery.cli.watch import _line, _words
from discovery.client import Event, Instance
from tests.discovery.cli.conftest import Run

ONE = Instance(service="web", instance="i1", name="i1.web.test.", revision=7, host="10.0.0.1", port=80)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Event(type="put", revision=7, instance=ONE), "put     i1.web.test.  10.0.0.1:80"),
        (Event(type="delete", revision=8, instance=ONE, reason="expired"), "delete  i1.web.test.  expired"),
        (Event(type="delete", revision=8, instance=ONE), "delete  i1.web.test."),
        (Event(type="synced", revision=9), "synced  revision 9"),
    ],
)
def test_a_line_for_people(event: Event, words: str) -> None:
    assert _words(event) == words


def test_a_line_of_json() -> None:
    line = json.loads(_line(Event(type="delete", revision=8, instance=ONE, reason="expired")))
    assert (line["type"], line["revision"], line["instance"], line["reason"]) == (
        "delete",
        8,
        "i1",
        "expired",
    )
    assert json.loads(_line(Event(type="synced", revision=9))) == {"type": "synced", "revision": 9}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--subtree",), "--subtree needs a service"),
        (("",), "SERVICE is empty"),
        (("--since", "-1"), "is not in the range"),
        (("--node", "ftp://h"), "is not the address of a node"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    ran = run("watch", *arguments)
    assert ran.status == 2
    assert complaint in ran.err

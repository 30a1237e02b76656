"""A watch goes on where it was: lines in, events out."""

from __future__ import annotations

import json

import pytest

from discovery.client.watched import Broken, Watched

Told = list[tuple[str, int, str]]


def line(kind: str, revision: int, instance: str = "", **more: object) -> bytes:
    fields = {"service": "web", "instance": instance, "name": f"{instance}.web.test."} if instance else {}
    return json.dumps({"type": kind, "revision": revision, **fields, **more}).encode()


def told(watched: Watched, *lines: bytes) -> Told:
    return [
        (event.type, event.revision, event.instance.instance if event.instance else "")
        for each in lines
        for event in watched.read(each)
    ]


def test_it_begins_with_what_is_there() -> None:
    watched = Watched(None)
    watched.connected()
    assert told(watched, line("put", 3, "a"), line("put", 5, "b")) == [("put", 3, "a"), ("put", 5, "b")]
    assert told(watched, line("synced", 7)) == [("synced", 7, "")]
    assert watched.since == 7
    assert told(watched, b"", line("put", 8, "c")) == [("put", 8, "c")]
    assert watched.since == 8


def test_a_revision_is_told_when_it_is_whole_and_else_told_again_whole() -> None:
    watched = Watched(4)
    watched.connected()
    assert told(watched, line("put", 5, "a", more=True)) == []
    assert watched.since == 4
    watched.connected()
    assert told(watched, line("put", 5, "a", more=True), line("delete", 5, "b")) == [
        ("put", 5, "a"),
        ("delete", 5, "b"),
    ]
    assert watched.since == 5


def test_a_new_beginning_tells_only_what_differs() -> None:
    watched = Watched(None)
    watched.connected()
    told(watched, line("put", 1, "same"), line("put", 2, "other"), line("put", 3, "gone"), line("synced", 4))
    watched.forget()
    watched.connected()
    lines = [line("put", 1, "same"), line("put", 9, "other"), line("put", 8, "new"), line("synced", 9)]
    assert told(watched, *lines) == [
        ("put", 9, "other"),
        ("put", 8, "new"),
        ("delete", 9, "gone"),
        ("synced", 9, ""),
    ]


def test_another_store_with_the_same_revisions_is_told_by_what_it_holds() -> None:
    watched = Watched(None)
    watched.connected()
    told(watched, line("put", 1, "same", port=80), line("put", 2, "other", port=80), line("synced", 2))
    watched.forget()
    watched.connected()
    lines = [line("put", 1, "same", port=80), line("put", 2, "other", port=81), line("synced", 2)]
    assert told(watched, *lines) == [("put", 2, "other"), ("synced", 2, "")]


def test_a_beginning_that_breaks_is_begun_again_without_telling_twice() -> None:
    watched = Watched(None)
    watched.connected()
    assert told(watched, line("put", 1, "a")) == [("put", 1, "a")]
    assert watched.since is None  # so that it begins again
    watched.connected()
    assert told(watched, line("put", 1, "a"), line("put", 2, "b"), line("synced", 2)) == [
        ("put", 2, "b"),
        ("synced", 2, ""),
    ]


def test_a_delete_says_what_is_gone_and_why() -> None:
    watched = Watched(None)
    watched.connected()
    told(watched, line("put", 1, "a", host="10.0.0.1"), line("synced", 1))
    (event,) = watched.read(line("delete", 2, "a", reason="expired"))
    assert event.instance is not None
    assert (event.instance.host, event.reason) == ("10.0.0.1", "expired")


@pytest.mark.parametrize("bad", [line("lagged", 0), b"<html>", b"\xff", b"[]", line("put", 1, "a", port="x")])
def test_what_ends_it(bad: bytes) -> None:
    watched = Watched(1)
    watched.connected()
    with pytest.raises(Broken):
        watched.read(bad)


def test_kinds_that_it_does_not_know_are_left_out() -> None:
    watched = Watched(1)
    watched.connected()
    assert told(watched, line("keep-alive", 9)) == []
    assert watched.since == 1

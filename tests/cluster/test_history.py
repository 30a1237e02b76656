"""The checker of chaos runs: it finds each violation, and none in what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.cluster.history import (
    ANSWER,
    ELECTION,
    HANDED,
    LINGER,
    REVOKING,
    SLACK,
    STEP_DOWN,
    History,
    Query,
    Request,
    Seen,
    Span,
    excused,
    gone_by,
    judged_dead,
    last_effect,
    violations,
)

TTL = 6
ALLOWED = TTL + ELECTION + SLACK


def request(verb: str, sent: float, status: int = 200, *, revision: int = 5, ttl: int = TTL) -> Request:
    """To i1 through n1, answered a tenth of a second later; status 0: never."""
    answered = sent + 0.1 if status else None
    return Request("i1", verb, "n1", ttl, sent, answered, status, revision, status == 503)  # type: ignore[arg-type]


def sound() -> History:
    """One instance that is registered at 10, beaten until 20, and runs out; one leader, one node, all well."""
    return History(
        requests=[request("register", 10, 201), *(request("beat", 10 + 2 * n) for n in range(1, 6))],
        seen=[Seen("i1", 5, False, 10.05), Seen("i1", 9, True, 27.0)],
        queries=[Query("web.", "n1", 15.0, 15.01)],
        led=[Span(0.0)],
        up={"n1": [Span(1.0)]},
        end=100.0,
        views={"n1": frozenset()},
    )


def rules(history: History) -> set[str]:
    return {violation.rule for violation in violations(history)}


def test_a_sound_history_has_no_violation() -> None:
    assert violations(sound()) == []
    assert judged_dead(sound()) == 1


def removed_at(when: float) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.seen[1] = replace(history.seen[1], at=when)

    return change


def beaten_again(sent: float, status: int) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.requests.append(request("beat", sent, status))

    return change


def asked(query: Query) -> Callable[[History], None]:
    return lambda history: history.queries.append(query)


def never_stored(history: History) -> None:
    history.seen[0] = replace(history.seen[0], revision=6)


def deregistration_that_removed_nothing(history: History) -> None:
    history.requests.append(request("deregister", 21, 204, revision=8))


def never_removed(history: History) -> None:
    del history.seen[1]
    history.store = frozenset({"i1"})
    history.views["n1"] = frozenset({"i1"})


def registered_anew_too_early(history: History) -> None:
    history.requests.append(request("register", 21, 201, revision=12))
    history.seen[1:] = [Seen("i1", 12, False, 21.05), Seen("i1", 14, True, 28.0)]


def another_view(history: History) -> None:
    history.views["n1"] = frozenset({"i7"})


def lost_in_the_end(history: History) -> None:
    history.end = 21.0
    del history.seen[1]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (never_stored, "registration lost"),
        (deregistration_that_removed_nothing, "deregistration lost"),
        (removed_at(20 + TTL - ELECTION - 0.1), "alive, but expired"),
        (beaten_again(24.5, 404), "alive, but gone"),
        (registered_anew_too_early, "alive, but gone"),
        (lost_in_the_end, "alive, but gone"),
        (removed_at(20.1 + ALLOWED + 0.1), "dead, but alive"),
        (never_removed, "dead, but alive"),
        (asked(Query("web.", "n1", 15.0)), "unanswered"),
        (asked(Query("web.", "n1", 15.0, 15.0 + ANSWER + 0.1)), "answered too late"),
        (asked(Query("web.", "n1", 15.0, 15.1, 2, (14,))), "SERVFAIL"),
        (another_view, "views differ"),
        (beaten_again(30, 500), "unexpected answer"),
    ],
)
def test_each_violation_is_found_alone(change: Callable[[History], None], rule: str) -> None:
    history = sound()
    change(history)
    assert rules(history) == {rule}


def test_a_503_must_say_when_to_try_again() -> None:
    history = sound()
    beaten_again(19, 503)(history)
    assert rules(history) == set()
    history.requests[-1] = replace(history.requests[-1], retry_after=False)
    assert rules(history) == {"unexpected answer"}


@pytest.mark.parametrize(
    "change",
    [
        removed_at(20 + TTL - ELECTION + 0.1),
        removed_at(20.1 + ALLOWED - 0.1),
        beaten_again(25.5, 404),
        asked(Query("web.", "n1", 0.5)),
        asked(Query("web.", "n1", 100 - ANSWER / 2)),
        asked(Query("web.", "n1", 0.9, 1.1, 2, (14,))),
    ],
)
def test_what_is_just_allowed_is_no_violation(change: Callable[[History], None]) -> None:
    history = sound()
    change(history)
    assert rules(history) == set()


def test_after_a_deregistration_was_sent_nothing_is_promised() -> None:
    history = sound()
    history.requests.append(request("deregister", 20.5, 204, revision=9))
    removed_at(20.6)(history)
    beaten_again(21, 404)(history)
    assert rules(history) == set()


def test_a_removal_is_held_against_what_came_before_it_only() -> None:
    """It ran out, was registered anew, and the removal was heard of late."""
    history = sound()
    history.requests.append(request("register", 27.2, 201, revision=12))
    history.seen += [Seen("i1", 12, False, 27.3), Seen("i1", 14, True, 35)]
    removed_at(27.4)(history)
    assert rules(history) == set()


def test_a_query_counts_only_while_its_node_is_up_all_along() -> None:
    history = sound()
    history.up["n1"] = [Span(1.0, 18.0), Span(22.0)]
    for sent in (14.0, 17.0, 19.0, 21.0):
        asked(Query("web.", "n1", sent))(history)
    assert rules(history) == set()
    asked(Query("web.", "n1", 12.5))(history)
    assert rules(history) == {"unanswered"}


def test_a_beat_that_a_deposed_leader_may_have_taken_promises_nothing() -> None:
    history = sound()
    history.requests[-1] = request("beat", 31)
    removed_at(35.5)(history)
    assert rules(history) == {"alive, but expired"}
    history.resumed = [30.5]
    assert rules(history) == set()
    history.resumed = [20.0]
    assert rules(history) == {"alive, but expired"}


def test_what_a_deposed_leader_may_have_revoked_is_no_violation() -> None:
    history = sound()
    removed_at(20.5)(history)
    beaten_again(22, 404)(history)
    assert rules(history) == {"alive, but expired", "alive, but gone"}
    assert excused(history) == 0
    history.resumed = [20.5 - REVOKING]
    assert rules(history) == set()
    assert excused(history) == 1
    history.resumed = [20.5 - REVOKING - ELECTION - 0.1]
    assert rules(history) == {"alive, but expired", "alive, but gone"}
    history.led = [Span(0.0, 12.0), Span(19.6)]
    assert rules(history) == set()
    beaten_again(22.5, 200)(history)  # alive after all
    beaten_again(23, 404)(history)
    assert rules(history) == {"alive, but gone"}


def test_a_leader_that_lost_its_followers_may_revoke_what_was_not_renewed_of_late() -> None:
    """Beaten under the first leader until 12, and again under its successor, from 20 on."""
    history = sound()
    history.requests = [request("register", 10, 201), request("beat", 12), request("beat", 20)]
    removed_at(21)(history)
    assert rules(history) == {"alive, but expired"}
    safe = 12.0 + TTL - STEP_DOWN  # a leader lost by then had renewed it late enough
    history.led = [Span(0.0, safe - 0.1), Span(17.0)]
    assert rules(history) == {"alive, but expired"}
    history.led = [Span(0.0, safe + 0.1), Span(17.0)]
    assert rules(history) == set()
    history.led = [Span(0.0, 5.0), Span(17.0)]  # long ago
    assert rules(history) == {"alive, but expired"}


def test_a_new_leader_gives_the_dead_their_time_again() -> None:
    history = sound()
    history.led = [Span(0.0, 22.0), Span(25.0)]
    assert gone_by(history, 20.1, TTL) == 25.0 + ALLOWED
    history.led = [Span(0.0, 22.0), Span(25.0, 30.0), Span(60.0)]
    assert gone_by(history, 20.1, TTL) == 60.0 + ALLOWED
    history.led = [Span(0.0, 22.0)]
    assert gone_by(history, 20.1, TTL) is None
    history.led = [Span(0.0)]
    history.end = 22.0
    assert gone_by(history, 20.1, TTL) is None
    assert judged_dead(history) == 0


def test_what_the_watching_process_slept_through_is_allowed() -> None:
    history = sound()
    history.stood = [Span(21.0, 24.0)]
    removed_at(20.1 + ALLOWED + 2.9)(history)
    assert rules(history) == set()
    removed_at(20.1 + ALLOWED + 3.1)(history)
    assert rules(history) == {"dead, but alive"}
    history = sound()
    history.stood = [Span(15.0, 16.0)]
    asked(Query("web.", "n1", 14.5, 14.5 + ANSWER + 0.9))(history)
    assert rules(history) == set()


def test_a_request_without_an_answer_may_work_later() -> None:
    history = sound()
    lost = request("beat", 20, 0)
    assert last_effect(history, request("beat", 20)) == 20.1
    assert last_effect(history, lost) == 20 + LINGER
    history.up["n1"] = [Span(1.0, 22.0), Span(30.0)]  # stopped for 8 s
    assert last_effect(history, lost) == 30.0 + LINGER - 2.0
    history.killed["n1"] = [5.0, 22.0]
    assert last_effect(history, lost) == 22.0 + HANDED
    history.requests.append(lost)
    removed_at(22.0 + HANDED + ALLOWED - 0.1)(history)
    assert rules(history) == set()
    removed_at(22.0 + HANDED + ALLOWED + 0.1)(history)
    assert rules(history) == {"dead, but alive"}

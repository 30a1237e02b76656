"""What happened in a chaos run, and what must hold of it. Pure: a history of events in, violations out.

All times are seconds of the one clock of the process that watched; `sent` is noted before a request leaves and
`answered` after its answer came, so the true moment lies between. The rules, where T is an instance's lease_ttl:

1. An acknowledged registration is a put of its revision in the store's own history, an acknowledged deregistration a
   delete of its revision.
2. An acknowledged registration or heartbeat promises that the instance lives until sent + T - ELECTION: a leader that
   was cut off goes on renewing leases for as long, while its successor counts from its own election. Nothing is
   promised once the deregistration was sent. Whoever sees the instance gone while it is promised (the store's history;
   a 404; a registration that says 201 for what was there) has found one that was alive and expired.
   What etcd itself does wrong is left out (its issue 15247, before 3.4.31 and 3.5.13). A leader that is deposed revokes
   what it thinks has run out until it knows, and such a revocation waits up to REVOKING for a leader to be sent to,
   whatever that one has renewed. A leader that lost its followers knows within STEP_DOWN, so what was renewed in the
   last T - STEP_DOWN before is safe from it. One that was stopped for any time does the same when it goes on, and
   renews what it is asked: what is acknowledged within ELECTION after that promises nothing, and nothing is safe.
3. A dead instance, one whose last request can have had its effect at x, is gone from the store at
   max(x, since) + T + ELECTION + SLACK, where `since` is when the present leader began to be followed by a majority:
   every new leader gives every lease its full TTL and one election time-out more. Where that leader is lost before
   the time has come, the next one's counts. A request without an answer may have its effect LINGER later, in time
   that its node runs; one that a dying node had handed to the store, HANDED later.
4. A node that runs answers every question within ANSWER, and never says SERVFAIL (all nodes had a view).
5. In the end every node lists what the store holds, and what is promised then is among it.
6. No request is answered with what its client can't act on: only EXPECTED, and a 503 says when to try again.

Time for which the watching process itself stood still is added to what rules 3 and 4 allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

ELECTION = 1.0  # etcd's default election time-out
SLACK = 3.0
LINGER = 15.0
HANDED = 3.0
ANSWER = 5.0
STEP_DOWN = 3.0  # two election time-outs, and a second for a busy machine
REVOKING = 7.0  # etcd's time limit for a request: 5 s and two election time-outs

Verb = Literal["register", "beat", "deregister"]
EXPECTED = {"register": (200, 201, 503), "beat": (200, 404, 503), "deregister": (204, 404, 503)}
SERVFAIL = 2


@dataclass(frozen=True)
class Request:
    """`status` 0: no answer (`answered` None). `revision`: of the registration that the instance lives by as its
    client knows it; of a deregistration, its own."""

    instance: str
    verb: Verb
    node: str
    ttl: int
    sent: float
    answered: float | None = None
    status: int = 0
    revision: int = 0
    retry_after: bool = False

    @property
    def acknowledged(self) -> bool:
        return self.verb != "deregister" and self.status in (200, 201)


@dataclass(frozen=True)
class Seen:
    """One event of the store's history, and when the first member told it."""

    instance: str
    revision: int
    deleted: bool
    at: float


@dataclass(frozen=True)
class Span:
    """`until` is endless where it did not end."""

    since: float
    until: float = float("inf")

    def shared(self, since: float, until: float) -> float:
        """Seconds that both have."""
        return max(0.0, min(self.until, until) - max(self.since, since))


@dataclass(frozen=True)
class Query:
    name: str
    node: str
    sent: float
    answered: float | None = None
    rcode: int = 0
    extended: tuple[int, ...] = ()


@dataclass(frozen=True)
class Violation:
    """`at`: around when, `who`: the instance or the node, for whoever looks for the reason in the log."""

    rule: str
    who: str
    at: float
    text: str

    def __str__(self) -> str:
        return f"{self.at:9.3f}  {self.rule}: {self.who}: {self.text}"


@dataclass
class History:
    """`led`: spans in which one leader was followed by a majority. `up`: when each node answered, from its word
    that it is ready to its end or stop. `killed`: the moments at which each node was. `resumed`: when members went on
    that led when they were stopped. `stood`: when the watching process itself stood still. `views`: what each node
    lists in the end, `store` what the store holds."""

    requests: list[Request] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    led: list[Span] = field(default_factory=list)
    up: dict[str, list[Span]] = field(default_factory=dict)
    killed: dict[str, list[float]] = field(default_factory=dict)
    resumed: list[float] = field(default_factory=list)
    stood: list[Span] = field(default_factory=list)
    end: float = 0.0
    store: frozenset[str] = frozenset()
    views: dict[str, frozenset[str]] = field(default_factory=dict)


def violations(history: History) -> list[Violation]:
    """In order of time."""
    by_instance: dict[str, list[Request]] = {}
    for request in history.requests:
        by_instance.setdefault(request.instance, []).append(request)
    seen: dict[str, list[Seen]] = {}
    for event in history.seen:
        seen.setdefault(event.instance, []).append(event)
    found = list(_of_queries(history))
    found += _of_views(history)
    found += _of_answers(history.requests)
    for instance, requests in by_instance.items():
        events = sorted(seen.get(instance, ()), key=lambda event: event.revision)
        found += _of_lost(requests, events)
        found += _of_expired(history, requests, events)
        found += _of_lingering(history, requests, events)
        found += _of_missing(history, instance, requests, events)
    return sorted(found, key=lambda violation: violation.at)


def promised_until(history: History, requests: Iterable[Request]) -> float:
    """Rule 2: until when these acknowledged requests promise their instance to live; 0.0: they promise nothing."""
    return max((_promise(history, request) for request in requests), default=0.0)


def gone_by(history: History, effect: float, ttl: int) -> float | None:
    """Rule 3: when an instance whose last effect was at `effect` must be gone; None: not before the end."""
    for span in sorted(history.led, key=lambda span: span.since):
        if span.until <= effect:
            continue
        due = max(effect, span.since) + ttl + ELECTION + SLACK
        due += sum(each.shared(effect, due) for each in history.stood)
        if due < min(span.until, history.end):
            return due
    return None


def last_effect(history: History, request: Request) -> float:
    """When the request can have had its effect at the latest."""
    if request.answered is not None:
        return request.answered
    for killed in history.killed.get(request.node, ()):
        if killed >= request.sent:
            return min(killed + HANDED, _running(history, request))
    return _running(history, request)


def judged_dead(history: History) -> int:
    """Of how many instances that stopped beating the time to be gone has come."""
    lasts: dict[str, tuple[float, int]] = {}
    for request in history.requests:
        if request.verb != "deregister":
            effect, ttl = lasts.get(request.instance, (0.0, 0))
            lasts[request.instance] = max(effect, last_effect(history, request)), max(ttl, request.ttl)
    return sum(gone_by(history, effect, ttl) is not None for effect, ttl in lasts.values())


def excused(history: History) -> int:
    """How many removals would be violations of rule 2 if a deposed leader could not have made them."""
    by_instance: dict[str, list[Request]] = {}
    for request in history.requests:
        by_instance.setdefault(request.instance, []).append(request)
    count = 0
    for event in history.seen:
        requests = by_instance.get(event.instance, [])
        ended = min((each.sent for each in requests if each.verb == "deregister"), default=float("inf"))
        if event.deleted and event.at < ended and _is_doubtful(history, event, requests):
            lived_by = [each for each in requests if 0 < each.revision < event.revision]
            count += event.at < promised_until(history, lived_by)
    return count


def was_up(history: History, node: str, since: float, until: float) -> bool:
    """All the time between."""
    return any(each.since <= since and until <= each.until for each in history.up[node])


# ---------------------------------------------------------------- the rules


def _of_lost(requests: Sequence[Request], events: Sequence[Seen]) -> Iterator[Violation]:
    puts = {event.revision for event in events if not event.deleted}
    deletes = {event.revision for event in events if event.deleted}
    for request in requests:
        at = request.answered or request.sent
        if request.verb == "register" and request.acknowledged and request.revision not in puts:
            text = (
                f"registered through {request.node} at revision {request.revision}, which the store never had"
            )
            yield Violation("registration lost", request.instance, at, text)
        if request.verb == "deregister" and request.status == 204 and request.revision not in deletes:
            text = (
                f"deregistered through {request.node} at revision {request.revision}, which removed nothing"
            )
            yield Violation("deregistration lost", request.instance, at, text)


def _of_expired(history: History, requests: Sequence[Request], events: Sequence[Seen]) -> Iterator[Violation]:
    ended = min((each.sent for each in requests if each.verb == "deregister"), default=float("inf"))
    void = _void_until(history, events, requests)
    for event in events:
        if event.deleted and event.at < ended and not _is_doubtful(history, event, requests):
            lived_by = [each for each in requests if 0 < each.revision < event.revision]
            until = promised_until(history, lived_by)
            if event.at < until:
                text = (
                    f"removed at revision {event.revision}, {until - event.at:.1f} s before what was promised"
                )
                yield Violation("alive, but expired", event.instance, event.at, text)
    for request in requests:
        denied = (request.verb == "beat" and request.status == 404) or (
            request.verb == "register" and request.status == 201
        )
        if denied and request.answered is not None and request.answered < ended:
            earlier = (
                each for each in requests if each.answered is not None and each.answered <= request.sent
            )
            before = [each for each in earlier if each.sent >= void]
            until = promised_until(history, before)
            if request.answered < until:
                early = until - request.answered
                text = f"{request.node} said {request.status}, {early:.1f} s before what was promised"
                yield Violation("alive, but gone", request.instance, request.answered, text)


def _of_lingering(
    history: History, requests: Sequence[Request], events: Sequence[Seen]
) -> Iterator[Violation]:
    renewing = [each for each in requests if each.verb != "deregister"]
    if not renewing or not events:
        return
    ttl = max(each.ttl for each in renewing)
    effect = max(last_effect(history, each) for each in renewing)
    due = gone_by(history, effect, ttl)
    if due is None:
        return
    last = events[-1]
    if not last.deleted:
        text = f"its last sign of life was before {effect:.1f}, and it is there at {history.end:.1f}"
        yield Violation("dead, but alive", last.instance, due, text)
    elif last.at > due:
        text = f"its last sign of life was before {effect:.1f}, it was removed {last.at - due:.1f} s late"
        yield Violation("dead, but alive", last.instance, last.at, text)


def _of_queries(history: History) -> Iterator[Violation]:
    for query in history.queries:
        waited = ANSWER + sum(each.shared(query.sent, query.sent + ANSWER) for each in history.stood)
        until = query.answered if query.answered is not None else query.sent + waited
        if not was_up(history, query.node, query.sent, until):
            continue
        if query.answered is None:
            if until < history.end:
                yield Violation("unanswered", query.node, query.sent, query.name)
        elif query.answered - query.sent > waited:
            text = f"{query.name} after {query.answered - query.sent:.1f} s"
            yield Violation("answered too late", query.node, query.sent, text)
        elif query.rcode == SERVFAIL:
            text = f"{query.name}, extended errors {list(query.extended)}"
            yield Violation("SERVFAIL", query.node, query.sent, text)


def _of_views(history: History) -> Iterator[Violation]:
    for node, listed in history.views.items():
        for instance in sorted(listed ^ history.store):
            text = (
                "is listed, but not in the store" if instance in listed else "is in the store, but not listed"
            )
            yield Violation("views differ", node, history.end, f"{instance} {text}")


def _of_missing(
    history: History, instance: str, requests: Sequence[Request], events: Sequence[Seen]
) -> Iterator[Violation]:
    if instance in history.store or any(each.verb == "deregister" for each in requests):
        return
    void = _void_until(history, events, requests)
    until = promised_until(history, (each for each in requests if each.sent >= void))
    if until > history.end:
        text = f"not in the store in the end, {until - history.end:.1f} s before what was promised"
        yield Violation("alive, but gone", instance, history.end, text)


def _of_answers(requests: Iterable[Request]) -> Iterator[Violation]:
    for request in requests:
        at = request.answered or request.sent
        if request.status and request.status not in EXPECTED[request.verb]:
            text = f"{request.node} answered the {request.verb} of {request.instance} with {request.status}"
            yield Violation("unexpected answer", request.node, at, text)
        if request.status == 503 and not request.retry_after:
            yield Violation("unexpected answer", request.node, at, "503 without Retry-After")


# ---------------------------------------------------------------- inside


def _promise(history: History, request: Request) -> float:
    at = request.answered
    if not request.acknowledged or at is None:
        return 0.0
    if any(resumed <= at and request.sent <= resumed + ELECTION for resumed in history.resumed):
        return 0.0
    return request.sent + request.ttl - ELECTION


def _is_doubtful(history: History, event: Seen, requests: Iterable[Request]) -> bool:
    """A deposed leader may have revoked it."""
    if any(resumed <= event.at <= _revoked_until(history, resumed) for resumed in history.resumed):
        return True
    renewed = [each for each in requests if each.acknowledged]
    for span in history.led:
        lost = span.until
        if lost <= event.at <= _revoked_until(history, lost + STEP_DOWN) and not any(
            each.sent > lost + STEP_DOWN - each.ttl and (each.answered or 0.0) <= lost for each in renewed
        ):
            return True
    return False


def _revoked_until(history: History, begun: float) -> float:
    """When a revocation that a deposed leader wished for at `begun` has been made, or never will."""
    until = begun + REVOKING
    led = [span.since for span in history.led if span.until > until]
    return max(until, min(led, default=until)) + ELECTION


def _void_until(history: History, events: Iterable[Seen], requests: Sequence[Request]) -> float:
    """What was sent before promises nothing any more."""
    return max(
        (each.at for each in events if each.deleted and _is_doubtful(history, each, requests)), default=0.0
    )


def _running(history: History, request: Request) -> float:
    """LINGER after it was sent, counted in time for which its node was up."""
    left, at = LINGER, request.sent
    for span in history.up.get(request.node, ()):
        begin = max(at, span.since)
        if span.until <= begin:
            continue
        if begin + left <= span.until:
            return begin + left
        left -= span.until - begin
        at = span.until
    return float("inf") if at == float("inf") else at + left

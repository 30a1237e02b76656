"""The main process's view when there are workers: what it is told, they are told, and theirs become equal.

Owns the turning of each call into a message and of each message into a call, and the telling of a whole view. It
changes nothing of how a view works. A view that is not ready is empty, so workers begin with nothing; the first load
is told like the one of a new worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile
from typing import Protocol

from discovery.kv.contract import KV, Event
from discovery.view import View
from discovery.workers.messages import (
    Batch,
    Epoch,
    LeaseTtl,
    Loaded,
    Nodes,
    Records,
    Settled,
    Sweep,
    Told,
)

PIECE = 1000  # records or events of one message: a few milliseconds' work


class Audience(Protocol):
    def tell(self, message: Told) -> None: ...
    def load(self, telling: Callable[[], Iterator[Told]]) -> None: ...


class PublishedView(View):
    """`audience` is set before the view is told anything."""

    audience: Audience

    def restore(
        self, kvs: Iterable[KV], revision: int, now: float, changes: list[Event] | None = None
    ) -> None:
        if not self.ready:
            super().restore(kvs, revision, now, changes)
            self.audience.load(lambda: whole(self))
            return
        changes = [] if changes is None else changes
        super().restore(kvs, revision, now, changes)
        for at in range(0, len(changes), PIECE):
            self.audience.tell(Batch(changes[at : at + PIECE], revision, now))
        self.audience.tell(Settled(revision))

    def apply(self, events: Iterable[Event], revision: int, now: float) -> None:
        events = list(events)
        super().apply(events, revision, now)
        self.audience.tell(Batch(events, revision, now))

    def sweep(self, now: float) -> float | None:
        if self._ghosts and self._ghosts[0][0] <= now:
            self.audience.tell(Sweep(now))
        return super().sweep(now)

    def learn_lease(self, lease: int, ttl: int) -> None:
        super().learn_lease(lease, ttl)
        self.audience.tell(LeaseTtl(lease, ttl))

    def set_nodes(self, nodes: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> None:
        super().set_nodes(nodes)
        self.audience.tell(Nodes(self.nodes))

    def new_epoch(self) -> None:
        super().new_epoch()
        self.audience.tell(Epoch(self.stale))


def whole(view: View) -> Iterator[Told]:
    """All that a view holds. It may change between two messages, when who listens is told of the changes as well."""
    records = view.root.walk() if view.ready else iter(())
    while piece := list(islice(records, PIECE)):
        last = piece[-1].path  # records of one name stay together, for the next piece begins behind the name
        piece += takewhile(lambda record, last=last: record.path == last, records)  # type: ignore[misc]
        yield Records([record.copy() for record in piece])
        records = view.root.walk_behind(last)  # whatever has come and gone meanwhile
    yield Loaded(view.standing())


def follow(view: View, message: Told) -> None:
    """Does to a worker's view what was done to the main one. Messages that are not about the view change nothing."""
    match message:
        case Batch(events, revision, now):
            view.apply(events, revision, now)
        case Records(copies):
            view.copy_records(copies)
        case Loaded(standing):
            view.stand(standing)
        case Settled(revision):
            if view.ready:  # else it is being loaded, and Loaded will tell
                view.settle(revision)
        case Sweep(now):
            view.sweep(now)
        case LeaseTtl(lease, ttl):
            view.learn_lease(lease, ttl)
        case Nodes(nodes):
            view.set_nodes(nodes)
        case Epoch(stale):
            view.stale = stale
            view.new_epoch()

"""The hub of changes: what the feed told the view, passed on to all who watch it over HTTP.

Owns what can be watched (a scope), the topics (a scope in one format), and their bounded rings of lines.
It never writes to a connection and never waits for a reader: one that fell out of the ring is told so. How: an event
is encoded once; a topic joins what came together into one piece, which all its streams share. With many streams the
pieces are made more seldom, since each costs a write for every stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from discovery import names
from discovery.api import fields
from discovery.api.events import Format, Gone, Told, keep_alive
from discovery.api.parts import ApiParts
from discovery.kv.contract import Event
from discovery.names import Path

RING_BYTES = 4 << 20  # that a reader may be behind
KEEP_ALIVE = 10.0  # seconds; the promise is 15
SECONDS_PER_STREAM = 50e-6  # what a piece costs for each stream that is told: so long the next one waits


class Scope(NamedTuple):
    """What is watched: a service's instances, with `subtree` also all below; None: everything."""

    service: Path | None
    subtree: bool = False


EVERYTHING = Scope(None)


class Topic:
    """What the streams of one scope and one format are told. `position`s count the pieces from the first ever."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.streams = 0
        self.closed = False  # nothing more comes, and what came is not whole
        self._ring: deque[bytes] = deque()
        self._first = 0
        self._bytes = 0
        self._pending: list[bytes] = []
        self._flush_after = 0.0  # by the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._wake: asyncio.Future[None] | None = None
        self._beat()

    def add(self, line: bytes) -> None:
        self._pending.append(line)

    def plan(self) -> None:
        """What was added goes out: now, or when the last piece has been written to all."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._flush_after), self._flush)

    def join(self) -> int:
        """The position after all that was told so far."""
        self._flush()
        return self._first + len(self._ring)

    async def read(self, position: int) -> tuple[bytes, int] | None:
        """What came from `position` on, and the next position; None: the reader was too slow, or the topic is
        closed."""
        while not self.closed:
            behind = position - self._first
            if behind < 0:
                return None
            if behind < len(self._ring):
                pieces = [self._ring[index] for index in range(behind, len(self._ring))]
                piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                return piece, position + len(pieces)
            if self._wake is None:
                self._wake = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._wake)
        return None

    def close(self) -> None:
        self.closed = True
        self._beats.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._rouse()

    def _beat(self) -> None:
        """Renewed by every piece, so that a line goes out in time whatever happens."""
        self._beats = asyncio.get_running_loop().call_later(KEEP_ALIVE, self._keep_alive)

    def _keep_alive(self) -> None:
        self._pending.append(keep_alive(self.form))
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            return
        piece = b"".join(self._pending)
        self._pending.clear()
        self._ring.append(piece)
        self._bytes += len(piece)
        while self._bytes > RING_BYTES and len(self._ring) > 1:
            self._bytes -= len(self._ring.popleft())
            self._first += 1
        self._flush_after = asyncio.get_running_loop().time() + self.streams * SECONDS_PER_STREAM
        self._beats.cancel()
        self._beat()
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        self._wake = None


class Changes:
    """A feed.Listener. `last`: the revision of the last change told; `loaded`: from where on changes are known;
    `compacted`: up to where the store has said that it knows nothing any more."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._topics: dict[tuple[Scope, Format], Topic] = {}
        self._scopes: dict[Scope, list[Topic]] = {}
        self.closed = False
        self.loaded = self.last = self.compacted = 0

    def start(self) -> None:
        self.reloaded(self._parts.view.revision)
        self._parts.feed.listeners.append(self)

    def close(self) -> None:
        """All streams end."""
        self.closed = True
        if self in self._parts.feed.listeners:
            self._parts.feed.listeners.remove(self)
        self._close_topics()

    # ------------------------------------------------------------ streams

    def enter(self, scope: Scope, form: Format) -> Topic:
        """The topic, for one more stream, which must `leave` it."""
        topic = self._topics.get((scope, form))
        if topic is None:
            topic = self._topics[scope, form] = Topic(form)
            self._scopes.setdefault(scope, []).append(topic)
        topic.streams += 1
        return topic

    def leave(self, scope: Scope, topic: Topic) -> None:
        topic.streams -= 1
        if topic.streams == 0 and self._topics.get((scope, topic.form)) is topic:
            topic.close()
            del self._topics[scope, topic.form]
            self._scopes[scope].remove(topic)
            if not self._scopes[scope]:
                del self._scopes[scope]

    def topics(self) -> Sequence[Topic]:
        """Those that streams watch now."""
        return tuple(self._topics.values())

    def holds_all_since(self, revision: int) -> bool:
        """Whether nothing after `revision` was told before now, and all up to it was: a stream may join."""
        return self.loaded <= revision <= self._parts.view.revision and self.last <= revision

    def told(self, path: Path, event: Event, revision: int, *, past: bool = False) -> Told:
        """The event as streams are told it. `past`: it happened some time ago."""
        parts = self._parts
        if not event.deleted:
            branch = parts.view.find(path)
            for record in branch.records if branch is not None else ():
                if record.key == event.kv.key and record.revision == event.kv.mod_revision and record.fields:
                    return Told(revision, fields.of_record(parts, record, record.fields))
            if (instance := fields.of_kv(parts, path, event.kv)) is not None:
                return Told(revision, instance)
        service = names.service_text(path[:-1], parts.zones)
        reason = self._reason(event, revision, past)
        gone = Gone(revision, service, fields.label_text(path), names.to_text(path), reason)
        return Told(revision, gone)

    # ------------------------------------------------------------ what the feed tells

    def applied(self, events: Sequence[Event], revision: int) -> None:
        if not events:
            return
        self.last = revision
        if not self._topics:
            return
        told: dict[Topic, list[Told]] = {}
        for event in events:
            path = names.path_of(event.kv.key, self._parts.config.store.prefix)
            if not path:
                continue
            if event.deleted:
                self._parts.metrics.count_removal(self._reason(event, revision, past=False))
            line: Told | None = None
            for scope in scopes_of(path):
                for topic in self._scopes.get(scope, ()):
                    line = line or self.told(path, event, revision)
                    told.setdefault(topic, []).append(line)
        for topic, lines in told.items():
            for each in lines[:-1]:
                topic.add(each.line(topic.form, more=True))
            topic.add(lines[-1].line(topic.form, more=False))
            topic.plan()

    def reloaded(self, revision: int) -> None:
        """What happened in between is not known here: every stream begins anew where the store knows it."""
        self.loaded = self.last = revision
        self.compacted = 0  # the store may be another one
        self._close_topics()

    # ------------------------------------------------------------ inside

    def _close_topics(self) -> None:
        topics = list(self._topics.values())
        self._topics.clear()
        self._scopes.clear()
        for topic in topics:
            topic.close()

    def _reason(self, event: Event, revision: int, past: bool) -> str | None:
        if not event.deleted:
            return None  # it can't be read any more
        registry = self._parts.registry
        if known := registry.raw.recent.reason(event.kv.key, revision):
            return known
        path = names.path_of(event.kv.key, self._parts.config.store.prefix)
        if path is not None and not past and registry.draining.instances.find(path) is not None:
            return "drained"  # by another node
        # Nobody else writes to the embedded store. In etcd it may have been another node.
        alone = self._parts.config.store.engine == "embedded"
        return "expired" if alone and not past else None


def covers(scope: Scope, path: Path) -> bool:
    """Whether the record at `path` is told to who watches `scope`."""
    service = scope.service
    if service is None:
        return True
    return path[: len(service)] == service if scope.subtree else path[:-1] == service


def scopes_of(path: Path) -> Sequence[Scope]:
    """All that are told of the record at `path`."""
    return (*_scopes_of_all(path[:-1]), Scope(path, True))


@lru_cache(maxsize=1024)
def _scopes_of_all(service: Path) -> Sequence[Scope]:
    """Those that are told of every instance of a service."""
    above = (Scope(service[:length], True) for length in range(len(service) + 1))
    return (EVERYTHING, Scope(service), *above)


CHANGES = web.AppKey("changes", Changes)

"""The hub of changes: what the feed told the view, passed on to all who watch it over HTTP.

Owns what can be watched (a scope), which topics there are (a scope in one format), and what each is told. It never
writes to a connection. How: an event is encoded once, for all topics that are told of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from discovery import names
from discovery.api import fields
from discovery.api.events import Format, Gone, Told
from discovery.api.parts import ApiParts
from discovery.api.topics import Topic
from discovery.kv.contract import Event
from discovery.names import Path


class Scope(NamedTuple):
    """What is watched: a service's instances, with `subtree` also all below; None: everything."""

    service: Path | None
    subtree: bool = False


EVERYTHING = Scope(None)


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
        self._count_removals(events, revision)
        if not self._topics:
            return
        told: dict[Topic, list[Told]] = {}
        for event in events:
            path = names.path_of(event.kv.key, self._parts.config.store.prefix)
            if not path:
                continue
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

    def _count_removals(self, events: Sequence[Event], revision: int) -> None:
        """Whether anyone watches or not."""
        for event in events:
            if event.deleted and names.path_of(event.kv.key, self._parts.config.store.prefix):
                self._parts.metrics.count_removal(self._reason(event, revision, past=False))

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
    return (*_scopes_of_service(path[:-1]), Scope(path, True))


def scopes_of_services(paths: Iterable[Path]) -> dict[Scope, None]:
    """`scopes_of` of all of them, each once, but for the names of the records themselves, with all below."""
    scopes: dict[Scope, None] = {}
    for service in {path[:-1] for path in paths}:
        scopes.update(dict.fromkeys(_scopes_of_service(service)))
    return scopes


@lru_cache(maxsize=1024)
def _scopes_of_service(service: Path) -> Sequence[Scope]:
    """Those that are told of every instance of a service."""
    above = (Scope(service[:length], True) for length in range(len(service) + 1))
    return (EVERYTHING, Scope(service), *above)


CHANGES = web.AppKey("changes", Changes)

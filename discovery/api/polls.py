"""Long polls: who waits for a service's list to change, and when it has.

Owns the revision of each service's last change, as far back as it is remembered, and who is woken by one. A list has
what is in DNS, of which the feed tells, and what was drained, of which the store tells apart. One move between the two
is two words in either order, so whoever may have asked in between is woken once more. It looks at no list, and asks the
view only for the revision of what stands at a name itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from aiohttp import web

from discovery import names
from discovery.api.changes import Scope, scopes_of, scopes_of_services
from discovery.api.parts import ApiParts
from discovery.kv.contract import Event
from discovery.names import Path

CHANGED = 100_000  # scopes whose last change is remembered
ONCE_MORE = 1.0  # seconds after which those are woken who may have asked between two words of one change


class Polls:
    """A feed.Listener, and that of the drained instances."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._drained = parts.registry.draining.instances
        self._changed: dict[Scope, int] = {}
        self._changed_since = 0  # before, changes may have been forgotten
        self._last = 0  # the highest revision that was told
        self._waiting: dict[Scope, dict[asyncio.Future[None], int]] = {}
        self._closed = False

    def start(self) -> None:
        self.reloaded(self._parts.view.revision)
        self._parts.feed.listeners.append(self)
        self._drained.listener = self

    def close(self) -> None:
        """Nobody waits any longer."""
        self._closed = True
        if self in self._parts.feed.listeners:
            self._parts.feed.listeners.remove(self)
        self._drained.listener = None
        self._rouse(list(self._waiting))

    @property
    def revision(self) -> int:
        """The one that a list reflects: what is to be waited for comes after it."""
        return max(self._parts.view.revision, self._drained.revision)

    async def wait(self, scope: Scope, index: int, seconds: float) -> None:
        """Returns when `scope` has changed after revision `index`, or may have, at the latest after `seconds`."""
        if index < self._changed_since or self._last_change(scope) > index or self._closed:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(scope, {})
        waiting[waiter] = index
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            pass
        finally:
            del waiting[waiter]
            if not waiting and self._waiting.get(scope) is waiting:
                del self._waiting[scope]

    def waited_for(self) -> Collection[Scope]:
        """Where somebody waits for a change now."""
        return self._waiting.keys()

    # ------------------------------------------------------------ what the feed and the store tell

    def applied(self, events: Sequence[Event], revision: int) -> None:
        prefix = self._parts.config.store.prefix
        told = [(path, each.deleted) for each in events if (path := names.path_of(each.kv.key, prefix))]
        if not told:
            return
        scopes = scopes_of_services(path for path, _ in told)
        scopes.update((Scope(path, True), None) for path, deleted in told if deleted)
        self._note(scopes, revision)
        if self._waiting or revision <= self._drained.revision:
            scopes.update((Scope(path, True), None) for path, _ in told)
            self._rouse(scopes)  # also those who know a later revision: of a node that was ahead of this one
            if revision <= self._drained.revision:
                self._rouse_later(scopes)

    def reloaded(self, revision: int) -> None:
        """What happened in between is not known here."""
        self._changed_since = revision
        self._changed.clear()
        self._rouse(list(self._waiting))

    def drained_changed(self, path: Path, revision: int, *, news: bool) -> None:
        scopes = scopes_of(path)
        late = news and revision <= self._parts.view.revision
        self._note(scopes, revision)
        # A move that this node has made is told by the feed as well, and is known to who has heard of it there.
        self._rouse(scopes, known_from=None if news else revision)
        if late:
            self._rouse_later(scopes)

    # ------------------------------------------------------------ inside

    def _last_change(self, scope: Scope) -> int:
        """The revision; 0 where none is remembered. What stands at a name itself is not noted: the view tells."""
        there = self._parts.view.find(scope.service) if scope.service is not None and scope.subtree else None
        records = there.records if there is not None else ()
        newest = max((record.revision for record in records), default=0)
        # A record of a load's later pages may be ahead of the view.
        return max(self._changed.get(scope, 0), min(newest, self._parts.view.revision))

    def _note(self, scopes: Collection[Scope], revision: int) -> None:
        if revision >= self._last:
            self._last = revision
            self._changed.update(dict.fromkeys(scopes, revision))
        else:  # the feed and the store each tell in order, but not both together
            for scope in scopes:
                self._changed[scope] = max(revision, self._changed.get(scope, 0))
        if len(self._changed) > CHANGED:
            self._changed.clear()
            self._changed_since = max(revision, self._changed_since)

    def _rouse(self, scopes: Collection[Scope], known_from: int | None = None) -> None:
        """All but those who know revision `known_from`."""
        if not self._waiting:
            return
        for scope in scopes:
            for waiter, index in self._waiting.get(scope, {}).items():
                if not waiter.done() and (known_from is None or index < known_from):
                    waiter.set_result(None)

    def _rouse_later(self, scopes: Collection[Scope]) -> None:
        asyncio.get_running_loop().call_later(ONCE_MORE, self._rouse, scopes)


POLLS = web.AppKey("polls", Polls)

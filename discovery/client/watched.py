"""What a watch has told so far, so that it can go on after any break without a gap or an event twice.

Owns the reading of the stream's lines, the last whole revision (from where to go on), and the instances that are
known to be there: after a break that the node no longer remembers, all of them are told anew, and from these events
only what differs is passed on, with a `delete` for each that is gone. Pure: lines in, events out.
"""

from __future__ import annotations

import msgspec

from discovery.client.fields import Event, Instance


class Broken(Exception):
    """The stream is over before its connection is: the node cut it off, or sent what is no event."""


class _Line(msgspec.Struct):
    type: str = ""
    revision: int = 0
    more: bool = False
    service: str = ""
    instance: str = ""
    reason: str | None = None


class Watched:
    """`since`: the last whole revision; None: nothing is known yet, or no longer."""

    def __init__(self, since: int | None) -> None:
        self.since = since
        self._present: dict[tuple[str, str], Instance] = {}
        self._unfinished: list[Event] = []  # of a revision whose last event has not come
        self._told: set[tuple[str, str]] = set()  # what a beginning has told so far
        self._beginning = since is None

    def connected(self) -> None:
        """A new stream begins, from `since`."""
        self._unfinished.clear()
        self._told.clear()
        self._beginning = self.since is None

    def forget(self) -> None:
        """`since` is compacted, or of another store: everything will be told anew."""
        self.since = None

    def read(self, line: bytes) -> list[Event]:
        """The events that are whole with this line. Raises Broken."""
        if not line.strip():
            return []  # keeps the connection alive
        try:
            head = msgspec.json.decode(line, type=_Line)
            event = self._event(head, line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Broken("the node sent what is no event") from None
        if head.type == "lagged":
            raise Broken("the node cut off a watch that fell behind")
        if event is None:
            return []
        if self._beginning:
            return self._begin(event)
        self._unfinished.append(event)
        if head.more:
            return []
        whole, self._unfinished = self._unfinished, []
        self.since = event.revision
        for each in whole:
            self._note(each)
        return whole

    def _event(self, head: _Line, line: bytes) -> Event | None:
        """None: of a kind that this client does not know, such as a keep-alive."""
        if head.type == "put":
            instance = msgspec.json.decode(line, type=Instance)
            return Event(type="put", revision=head.revision, instance=instance)
        if head.type == "delete":
            gone = self._present.get((head.service, head.instance))
            gone = gone or msgspec.json.decode(line, type=Instance)
            return Event(type="delete", revision=head.revision, instance=gone, reason=head.reason)
        if head.type == "synced":
            return Event(type="synced", revision=head.revision)
        return None

    def _begin(self, event: Event) -> list[Event]:
        """Of the instances that were there before, only what was not known."""
        if event.type != "synced":
            assert event.instance is not None
            key = _key(event.instance)
            before = self._present.get(key)
            self._told.add(key)
            self._note(event)
            return [] if before == event.instance else [event]  # another store may have the same revision
        self.since = event.revision
        self._beginning = False
        vanished = [self._present.pop(key) for key in list(self._present) if key not in self._told]
        gone = [Event(type="delete", revision=event.revision, instance=each) for each in vanished]
        return [*gone, event]

    def _note(self, event: Event) -> None:
        if event.instance is not None:
            if event.type == "put":
                self._present[_key(event.instance)] = event.instance
            else:
                self._present.pop(_key(event.instance), None)


def _key(instance: Instance) -> tuple[str, str]:
    return instance.service, instance.instance

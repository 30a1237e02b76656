"""One change as the streams of `/v1/watch` tell it: the bytes of a line, in both formats.

Owns the encoding of events. Pure: an event in, bytes out. How: an event is encoded once, whoever is told; whether more
of its revision follows depends on what a stream watches, so that is set in before the rest, and each of the four
forms is kept once it was needed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from discovery.api.bodies import Instance

Format = Literal["ndjson", "sse"]


class Gone(msgspec.Struct, omit_defaults=True):
    """What a `delete` says beside its type. `reason`: `deregistered` or `expired`, left out where nobody knows."""

    revision: int
    service: str
    instance: str
    name: str
    reason: str | None = None


class Told:
    """One event. `revision` is the store's that made it."""

    __slots__ = ("_forms", "_rest", "_type", "revision")

    def __init__(self, revision: int, what: Instance | Gone) -> None:
        self.revision = revision
        self._type = b"put" if isinstance(what, Instance) else b"delete"
        self._rest = msgspec.json.encode(what)[1:]
        self._forms: dict[tuple[Format, bool], bytes] = {}

    def line(self, form: Format, *, more: bool) -> bytes:
        """`more`: further events of the same revision follow in this stream."""
        known = self._forms.get((form, more))
        if known is None:
            follows = b',"more":true' if more else b""
            event = b'{"type":"%b"%b,%b' % (self._type, follows, self._rest)
            known = self._forms[form, more] = _framed(form, event, None if more else self.revision)
        return known


def synced(form: Format, revision: int) -> bytes:
    """All that was there has been told."""
    return _framed(form, b'{"type":"synced","revision":%d}' % revision, revision)


def lagged(form: Format) -> bytes:
    """The last word to a reader who must begin anew from the last whole revision."""
    return _framed(form, b'{"type":"lagged"}', None)


def keep_alive(form: Format) -> bytes:
    """An empty line; in server-sent events a comment."""
    return b"\n" if form == "ndjson" else b":\n\n"


def _framed(form: Format, event: bytes, resume: int | None) -> bytes:
    """`resume`: the revision from which a stream that ends here goes on; None: not here."""
    if form == "ndjson":
        return event + b"\n"
    marked = b"id: %d\n" % resume if resume is not None else b""
    return b"%bdata: %b\n\n" % (marked, event)

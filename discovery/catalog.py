"""The catalog: every service with its counts, and the words that its instances can be found by, kept as the view moves.

Owns an index of the view for people who look and search. Pure, and never long at a time: `refresh` and `find` are
generators that stop every few hundred steps, so that whoever drives them can let others have their turn.
How: a branch whose version has not moved is as it was, with all below it, so a refresh walks only the ways to what
changed. A service's searchable lines are made when somebody searches for the first time, and are one piece of bytes
each: a search that finds nothing in it costs one look.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Sequence

import msgspec

from discovery import names
from discovery.names import Path
from discovery.tree import Branch, Record

STEP = 128  # records or services between two stops

Stops = Generator[None, None, None]


class Listed:
    """A service: the readable records directly below its name, how many can't be read, and its searchable lines."""

    __slots__ = ("_lines", "_starts", "name", "path", "records", "unreadable")

    def __init__(self, path: Path, records: Sequence[Record], unreadable: int) -> None:
        self.path = path
        self.name = names.to_text(path).removesuffix(".").encode()
        self.records = records
        self.unreadable = unreadable
        self._lines: bytes | None = None
        self._starts: list[int] = []

    def read(self) -> Stops:
        """Makes the lines, where they are not there."""
        if self._lines is not None:
            return
        lines, starts, length = [], [], 0
        for position, record in enumerate(self.records):
            line = line_of(record)
            starts.append(length)
            lines.append(line)
            length += len(line)
            if position % STEP == STEP - 1:
                yield
        self._starts = starts
        self._lines = b"".join(lines)
        yield

    def matching(self, words: Sequence[bytes]) -> Iterator[Record | None]:
        """The records whose line has every word; None at times, for a stop. `read` comes before."""
        lines = self._lines
        assert lines is not None
        if not all(word in lines for word in words):
            return
        rarest = max(words, key=len)
        others = [word for word in words if word is not rarest]
        at, looked = lines.find(rarest), 0
        while at >= 0:
            number = bisect_right(self._starts, at) - 1
            end = self._starts[number + 1] if number + 1 < len(self._starts) else len(lines)
            line = lines[self._starts[number] : end] if others else b""
            if all(word in line for word in others):
                yield self.records[number]
            looked += 1
            if looked % STEP == 0:
                yield None
            at = lines.find(rarest, end)


class _Known:
    """A branch as it was seen: all services at and below it."""

    __slots__ = ("branch", "children", "services", "version")

    def __init__(self, branch: Branch, version: int) -> None:
        self.branch = branch
        self.version = version
        self.children: dict[bytes, _Known] = {}
        self.services: tuple[Listed, ...] = ()


class Found(msgspec.Struct):
    """`services` in the order of names: those whose name has every word; `records`: instances that have the words
    which their service's name lacks, at most so many, `more` when there are more."""

    services: list[Listed]
    records: list[Record]
    more: bool = False


class Catalog:
    """Of what is at and below `root`. `services` are as the last whole `refresh` found them."""

    def __init__(self, root: Branch) -> None:
        self._root = root
        self._known: _Known | None = None
        self.services: tuple[Listed, ...] = ()

    def refresh(self) -> Stops:
        """Takes in what changed. It may be driven by several at once, and the view may move meanwhile: then the next
        one takes in the rest."""
        known = yield from _seen(self._root, (), self._known)
        self._known = known
        self.services = known.services

    def find(
        self, words: Sequence[bytes], limit: int, extra: Sequence[Listed] = ()
    ) -> Generator[None, None, Found]:
        """`words` in lower case; none: every service and no instance. `extra`: further services, which win over
        those of the same name."""
        services = _merged(self.services, extra)
        if not words:
            return Found(list(services), [])
        found = Found([], [])
        for position, service in enumerate(services):
            if position % STEP == STEP - 1:
                yield
            lacking = [word for word in words if word not in service.name]
            if not lacking:
                found.services.append(service)
            elif not found.more:
                yield from service.read()
                for record in service.matching(lacking):
                    if record is None:
                        yield
                    elif len(found.records) == limit:
                        found.more = True
                        break
                    else:
                        found.records.append(record)
        return found

    def within(
        self, path: Path, words: Sequence[bytes], extra: Sequence[Listed] = ()
    ) -> Generator[None, None, tuple[Listed | None, Sequence[Record]]]:
        """One service, and those of its instances that have every word, in the order of names."""
        service = _of(extra, path) or _of(self.services, path)
        if service is None:
            return None, ()
        lacking = [word for word in words if word not in service.name]
        if not lacking:
            return service, service.records
        yield from service.read()
        records = []
        for record in service.matching(lacking):
            if record is None:
                yield
            else:
                records.append(record)
        return service, records


def _of(services: Sequence[Listed], path: Path) -> Listed | None:
    at = bisect_left(services, path, key=lambda service: service.path)
    return services[at] if at < len(services) and services[at].path == path else None


def line_of(record: Record) -> bytes:
    """What an instance is found by: name, host, port, group, tags, named ports, meta."""
    fields = record.fields
    assert fields is not None
    words = [fields.host, str(fields.port), fields.group, *fields.tags, *fields.ports]
    if fields.meta:
        words += [f"{name}={text}" for name, text in fields.meta.items()]
    name = b".".join(record.path[::-1])
    return (name + b" " + " ".join(words).lower().encode()).replace(b"\n", b" ") + b"\n"


def words_of(text: str) -> list[bytes]:
    """What is looked for, in lower case; a name's final dot says nothing."""
    return [word for each in text.lower().split() if (word := each.rstrip(".").encode("utf-8", "replace"))]


def listed(drained: Sequence[Record], services: Sequence[Listed]) -> tuple[list[Listed], dict[Path, int]]:
    """Services with those of their instances that are out of DNS, in the order of names; and how many those are."""
    away: dict[Path, list[Record]] = {}
    for record in drained:
        if record.fields is not None:
            away.setdefault(record.path[:-1], []).append(record)
    extra = []
    for path, records in sorted(away.items()):
        known = _of(services, path)
        both = sorted([*(known.records if known is not None else ()), *records], key=Record.order)
        extra.append(Listed(path, both, known.unreadable if known is not None else 0))
    return extra, {path: len(records) for path, records in away.items()}


def _merged(services: Sequence[Listed], extra: Sequence[Listed]) -> Sequence[Listed]:
    if not extra:
        return services
    instead = {service.path for service in extra}
    both = [service for service in services if service.path not in instead]
    return sorted([*both, *extra], key=lambda service: service.path)


def _seen(branch: Branch, path: Path, before: _Known | None) -> Generator[None, None, _Known]:
    if before is not None and before.branch is branch and before.version == branch.version:
        return before
    known = _Known(branch, branch.version)  # first: what moves from here on, moves it again
    records: list[Record] = []
    unreadable = 0
    services: list[Listed] = []
    children = list(branch.each())  # at once: it may move between two stops
    deeper: list[Branch] = []
    for position, child in enumerate(children):
        for record in child.records:
            if record.fields is None:
                unreadable += 1
            else:
                records.append(record)
        if child.children:
            deeper.append(child)
        if position % STEP == STEP - 1:
            yield
    for position, child in enumerate(deeper):
        was = before.children.get(child.label) if before is not None else None
        below = yield from _seen(child, (*path, child.label), was)
        known.children[child.label] = below
        services.extend(below.services)
        if below is not was or position % STEP == STEP - 1:
            yield
    own = [Listed(path, records, unreadable)] if path and (records or unreadable) else []
    known.services = (*own, *services)
    return known

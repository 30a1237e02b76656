"""Notes on why an answer is what it is.

Owns the places where answering says what it matched and what it left out. `Trace` itself takes no notes and is what
every question runs with; `Notes` keeps them, for `explain`. Notes are about services: each stored key once.
"""

from __future__ import annotations

from collections.abc import Iterable

from discovery.dns.source import Path, Record


class Trace:
    """Takes no notes."""

    def matched(self, name: Path, records: Iterable[Record]) -> None:
        """`name` stands for these, before groups and types."""

    def left_out(self, record: Record, why: str) -> None:
        """A service that gives nothing to the answer, and the rule that says so."""

    def remark(self, text: str) -> None:
        """What is true of the answer as a whole."""


NO_TRACE = Trace()


class Note:
    """One stored key: by which name it was found, and why it is left out ("" when it is not)."""

    __slots__ = ("name", "record", "why")

    def __init__(self, name: Path, record: Record) -> None:
        self.name = name
        self.record = record
        self.why = ""


class Notes(Trace):
    """Keeps the notes; the first reason of a key counts."""

    def __init__(self, question: Path) -> None:
        self._question = question
        self._notes: dict[tuple[bytes, Path], Note] = {}
        self.remarks: dict[str, None] = {}

    def in_order(self) -> list[Note]:
        """What the question's own name stands for in key order, then what was found behind other names."""
        return sorted(
            self._notes.values(),
            key=lambda note: (note.name != self._question, note.record.path, note.record.key),
        )

    def matched(self, name: Path, records: Iterable[Record]) -> None:
        for record in records:
            self._note(name, record)

    def left_out(self, record: Record, why: str) -> None:
        note = self._note(self._question, record)
        note.why = note.why or why

    def remark(self, text: str) -> None:
        self.remarks[text] = None

    def _note(self, name: Path, record: Record) -> Note:
        return self._notes.setdefault((record.key, record.path), Note(name, record))

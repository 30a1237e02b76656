"""Why an answer is what it is.

Owns one question asked with notes taken: the answer's records, the stored keys that it stands for, which of them give
something and which rule left the others out, and where each TTL comes from. It answers by the same code as DNS does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from discovery.dns import wire
from discovery.dns.records import Answer
from discovery.dns.source import Path, Record, Source
from discovery.dns.synthesis import Settings, synthesize
from discovery.dns.trace import Note, Notes
from discovery.dns.zone import Zone, Zones

TtlOrigin = Literal["record", "zone", "lease"]


class Explanation(NamedTuple):
    """`zone`: the one that answers, None outside of all. `remarks`: sentences about the answer as a whole."""

    zone: Zone | None
    answer: Answer
    notes: list[Note]
    remarks: list[str]


def explain(path: Path, qtype: int, source: Source, settings: Settings) -> Explanation:
    """The answer to a question of class IN from our own data, with the reasons."""
    notes = Notes(path)
    answer = synthesize(path, qtype, source, settings, trace=notes)
    zone = settings.zones.closest(path)
    if zone is None:
        notes.remark(
            "the name lies in none of this node's zones"
            + (": it is asked of other servers" if settings.recursive else "")
        )
    elif answer.rcode == wire.NXDOMAIN:
        notes.remark("no key is stored at the name or below it")
    elif not answer.first and not answer.rotating:
        notes.remark("the name exists, but nothing it stands for has an answer of this type")
    if answer.wanted and settings.recursive:
        notes.remark("outside names in the answer are asked of other servers")
    if source.stale:
        notes.remark("the store is out of reach: the answer is marked as stale")
    return Explanation(zone, answer, notes.in_order(), list(notes.remarks))


def ttl_of(record: Record, zones: Zones) -> tuple[int, TtlOrigin]:
    """(the TTL of what a service gives, where it comes from), before the answer's least one is taken."""
    own = record.fields.ttl if record.fields is not None else 0
    default = zones.defaults(record.path).ttl
    if 0 < record.lease_ttl < (own or default):
        return record.lease_ttl, "lease"
    if record.lease_ttl < 0 and default < own:  # the lease is there, but not its TTL as yet
        return default, "zone"
    return own or default, "record" if own else "zone"

"""A zone as a master file: what DNS would answer for each of its names now.

Owns the choice of names and of the records that a master file may hold. Names that exist only as questions (wildcards,
tags, named ports) have no place in one. A name whose only answer for addresses is a CNAME that stands for several
services keeps its other records, for a master file cannot hold both; a comment says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from discovery.dns import text, wire
from discovery.dns.following import is_bare_alias
from discovery.dns.records import RR
from discovery.dns.source import Branch, Path, Source
from discovery.dns.synthesis import Settings, synthesize
from discovery.dns.zone import Zone

TYPES = (wire.A, wire.AAAA, wire.SRV, wire.TXT, wire.MX, wire.PTR)


def export(zone: Zone, source: Source, settings: Settings) -> Iterator[str]:
    """The lines of the file, name by name; between two of them the view may change."""
    yield f"; {text.name(zone.apex)} at revision {source.serial(zone.apex)}\n"
    yield f"$ORIGIN {text.name(zone.apex)}\n"
    for rtype in (wire.SOA, wire.NS):
        for rr in synthesize(zone.apex, rtype, source, settings).first:
            yield text.record(rr) + "\n"
    for path, branch in _names(zone, source, settings):
        yield from _name(path, branch, source, settings)


def _names(zone: Zone, source: Source, settings: Settings) -> Iterator[tuple[Path, Branch | None]]:
    """All names of the zone that hold something, its own ones too; not those of a zone that begins within it."""
    own = {zone.apex, zone.ns, (*zone.ns, settings.node.label)}
    if zone.local is not None:
        own.add((*zone.dns, b"local"))
    for root in (source.root, source.addresses) if zone.reverse else (source.root,):
        branch: Branch | None = root
        for label in zone.apex:
            branch = branch.child(label) if branch is not None else None
        waiting = [(zone.apex, branch)] if branch is not None else []
        while waiting:
            path, at = waiting.pop()
            if settings.zones.closest(path) is not zone:
                continue
            if at.count:
                own.discard(path)
                yield path, at
                waiting.extend(((*path, child.label), child) for child in reversed(at.ordered()))
    yield from ((path, None) for path in sorted(own))


def _name(path: Path, branch: Branch | None, source: Source, settings: Settings) -> Iterator[str]:
    answers = {rtype: synthesize(path, rtype, source, settings) for rtype in TYPES}
    found: dict[str, None] = {}
    alias: RR | None = None
    for answer in answers.values():
        for rr in (*answer.first, *answer.rotating):
            if rr.owner != path:
                continue
            if rr.rtype == wire.CNAME:
                alias = rr
            else:
                found[text.record(rr)] = None
    if (
        alias is not None
        and branch is not None
        and branch.count == 1
        and any(map(is_bare_alias, branch.records))
    ):
        yield text.record(alias) + "\n"
        return
    yield from (line + "\n" for line in found)
    if alias is not None:
        yield f"; left out, beside other records: {text.record(alias)}\n"

"""A zone as a master file: what DNS would answer for each of its names now.

Owns the choice of names and of the records that a master file may hold. Names that exist only as questions (wildcards,
tags, named ports) have no place in one. A name whose only answer for addresses is a CNAME that stands for several
services keeps its other records, for a master file cannot hold both; a comment says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from discovery.dns import text, wire
from discovery.dns.following import is_bare_alias
from discovery.dns.matching import WILDCARDS
from discovery.dns.records import RR
from discovery.dns.source import Branch, Path, Source
from discovery.dns.synthesis import Settings, synthesize
from discovery.dns.zone import Zone

TYPES = (wire.A, wire.AAAA, wire.SRV, wire.TXT, wire.MX, wire.PTR)


def export(zone: Zone, source: Source, settings: Settings) -> Iterator[str]:
    """The lines of the file, name by name; between two of them the view may change."""
    yield f"; {text.name(zone.apex)} at revision {source.serial(zone.apex)}\n"
    yield f"$ORIGIN {text.name(zone.apex)}\n"
    servers = synthesize(zone.apex, wire.NS, source, settings).first
    for rr in (*synthesize(zone.apex, wire.SOA, source, settings).first, *servers):
        yield text.record(rr) + "\n"
    targets = {rr.rdata[0] for rr in servers}
    for path, branch in _names(zone, source, settings):
        yield from _name(path, branch, source, settings, is_server=path in targets)


def _names(zone: Zone, source: Source, settings: Settings) -> Iterator[tuple[Path, Branch | None]]:
    """All names of the zone that hold something, its own ones too; not those of a zone that begins within it."""
    labels = [label for label, _ in source.nodes] or [settings.node.label]
    own = {zone.apex, zone.ns, *((*zone.ns, label) for label in labels)}
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
            if at.count and not WILDCARDS.intersection(
                path[len(zone.apex) :]
            ):  # to a master file they mean more
                own.discard(path)
                yield path, at
                waiting.extend(((*path, child.label), child) for child in reversed(at.ordered()))
    yield from ((path, None) for path in sorted(own))


def _name(
    path: Path, branch: Branch | None, source: Source, settings: Settings, *, is_server: bool
) -> Iterator[str]:
    """`is_server`: an NS record points here, which may not be an alias (RFC 2181 section 10.3): its addresses stand."""
    answers = {rtype: synthesize(path, rtype, source, settings) for rtype in TYPES}
    found: dict[str, None] = {}
    alias: RR | None = None
    for answer in answers.values():
        for rr in (*answer.first, *answer.rotating):
            if is_server and rr.rtype in (wire.A, wire.AAAA):
                found[text.record(rr._replace(owner=path))] = None
                continue
            if rr.owner != path:
                continue
            if rr.rtype == wire.CNAME:
                alias = rr
            else:
                found[text.record(rr)] = None
    if (
        alias is not None
        and not is_server
        and branch is not None
        and branch.count == 1
        and any(map(is_bare_alias, branch.records))
    ):
        yield text.record(alias) + "\n"
        return
    yield from (line + "\n" for line in found)
    if alias is not None:
        yield f"; left out, beside other records: {text.record(alias)}\n"

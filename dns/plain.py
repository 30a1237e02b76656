"""The short way to the common answers: A, AAAA and SRV of a plain name whose services have addresses.

Owns which questions are plain (a name in a zone, without a label that steers it and outside of `dns.D`) and the
records of those, written as bytes at once. What is not plainly so (hosts that are names, groups, `targetstrip`, zones
in zones, services that differ in letter case alone) is left to `synthesis`, which must say the same. After a change
the answers that it touched are made anew, so this is what a change costs DNS.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from discovery.dns import wire
from discovery.dns.answer import Prepared
from discovery.dns.matching import PROTOCOLS, TAG, WILDCARDS
from discovery.dns.source import Branch, Path, Record, Source
from discovery.dns.synthesis import MAX_RECORDS, TRANSFERS
from discovery.dns.zone import Zone, Zones

STEERING = WILDCARDS | PROTOCOLS | {TAG}
ODD_TYPES = TRANSFERS | {wire.OPT}
SIZES = {wire.A: 4, wire.AAAA: 16}  # bytes of an address
_POINTER = int.from_bytes(wire.QUESTION_POINTER, "big")
_RECORD, _SRV = (
    Struct("!HHHIH"),
    Struct("!HHHIHHHH"),
)  # owner, type, class, TTL, length; and what precedes a target


def way_to(path: Path, qtype: int, source: Source, zones: Zones) -> tuple[Zone, Branch, bool] | None:
    """(zone, the deepest branch on the way to a plain name, whether that is the name's own); None for all others."""
    if not STEERING.isdisjoint(path) or qtype in ODD_TYPES:
        return None
    zone = zones.closest(path)
    if zone is None or path == zone.apex or path[0] == b"arpa" or path[: len(zone.dns)] == zone.dns:
        return None
    branch = source.root
    for label in path:
        below = branch.child(label)
        if below is None:
            depth = len(zone.apex) + 1
            if path[:depth] == zone.rname[:depth]:
                return None  # its answer's SOA points into this name, so it is no other name's answer (`missing`)
            return zone, branch, False
        branch = below
    return zone, branch, True


def prepare(
    path: Path, name: bytes, qtype: int, zone: Zone, branch: Branch, zones: Zones, most: int
) -> Prepared | None:
    """The answer to a plain question, `name` in wire form; None where it takes more than this, as for more
    services than `most`."""
    size = SIZES.get(qtype)
    if size is None and qtype != wire.SRV:
        return None
    if not branch.count or branch.count > most or zone.apex in zones.divided:
        return None
    records = []
    for record in branch.gather(most):
        fields = record.fields
        if fields is None:
            continue
        if record.target is not None or fields.group or fields.targetstrip:
            return None
        if record.address is not None:
            records.append(record)
    if size is None:
        return _srv(records, len(path), name, zone, branch)
    return _addresses(records, qtype, size, zone, branch)


def _addresses(
    records: Sequence[Record], qtype: int, size: int, zone: Zone, branch: Branch
) -> Prepared | None:
    ttls: dict[bytes, int] = {}
    for record in records:
        address = record.address
        if address is not None and len(address) == size and address not in ttls:
            ttls[address] = ttl_of(record, zone)
    if not ttls:
        return None
    head = _RECORD.pack(_POINTER, qtype, wire.IN, min(ttls.values()), size)
    return Prepared.of([head + address for address in ttls], [], branch)


def _srv(records: Sequence[Record], depth: int, name: bytes, zone: Zone, branch: Branch) -> Prepared | None:
    """RFC 2782. Equal services are one; a weight is the share in percent among those of the same priority."""
    found: dict[tuple[bytes | None, int, int, int], tuple[Path, int]] = {}
    sums: dict[int, int] = {}
    least = 1 << 31
    for record in records:
        fields = record.fields
        assert fields is not None
        priority, weight = fields.priority or zone.priority, fields.weight or zone.weight
        same = (record.address, fields.port, priority, weight)
        if same not in found:
            ttl = ttl_of(record, zone)
            least = min(least, ttl)
            found[same] = (record.path, ttl)
            sums[priority] = sums.get(priority, 0) + weight
    rotating: list[bytes] = []
    additional: dict[bytes, tuple[bytes, int]] = {}
    fixed, has_room = 6 + len(name), len(found) <= MAX_RECORDS
    for (address, port, priority, weight), (path, ttl) in found.items():
        assert address is not None
        if len(path) == depth + 1:
            label = path[-1]
            below = wire.LENGTHS[len(label)] + label
        else:
            below = wire.encode_name(path[depth:])[:-1]
        share = weight * 100 // sums[priority] or 1
        head = _SRV.pack(_POINTER, wire.SRV, wire.IN, least, fixed + len(below), priority, share, port)
        rotating.append(head + below + name)
        glue = b""
        if has_room:
            rtype, size = (wire.A, 4) if len(address) == 4 else (wire.AAAA, 16)
            glue = below + _RECORD.pack(_POINTER, rtype, wire.IN, ttl, size) + address
        additional[below] = (glue, 1)
    if not rotating or len(additional) < len(rotating):  # at one name several services' records are one RRset
        return None
    return Prepared.of(rotating, list(additional.values()) if has_room else [], branch)


def ttl_of(record: Record, zone: Zone) -> int:
    """As `following.Follower.ttl`, for a service whose defaults are the zone's."""
    fields, lease_ttl = record.fields, record.lease_ttl
    ttl = (fields.ttl if fields is not None else 0) or zone.ttl
    if lease_ttl:
        return min(ttl, lease_ttl if lease_ttl > 0 else zone.ttl)
    return ttl

"""The name server that a zone has by itself.

Owns the records for `ns.dns.D` and this node's name below it (names.md, "Exact rulings", NS): addresses and nothing
else. They look like stored services to the rest of answering. It never decides when they stand in: `matching` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from discovery.dns import wire
from discovery.dns.source import Path

OWN_TYPES = frozenset((wire.A, wire.AAAA, wire.TXT))  # TXT: what is stored there without a host
_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_PORTS: Mapping[str, int] = MappingProxyType({})


class _NoFields:
    """A service's fields, none of them set (source.Fields)."""

    port = priority = weight = ttl = targetstrip = 0
    text = group = ""
    mail = False
    ports = _NO_PORTS
    tags: tuple[str, ...] = ()
    meta = _NOTHING


class OwnRecord:
    """A record made from the node's address (source.Record)."""

    key = b""
    target: Path | None = None
    lease_ttl = 0
    reason = ""
    fields = _NoFields()

    def __init__(self, path: Path, address: bytes) -> None:
        self.path = path
        self.address = address

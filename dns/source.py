"""What answering may ask of the view, and nothing more.

Owns the protocols between DNS and whoever holds the services: a tree of names (`Branch`) with the services
stored at them (`Record`), each subtree with a version that moves whenever anything at or below it changes. An
answer remembers the versions of the branches it read and is good for as long as they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

Path = tuple[bytes, ...]  # a name's labels from the root down, A-Z folded


class Fields(Protocol):
    """A service's fields as stored (names.md, "A service's fields"); 0 and "" mean the zone's default."""

    @property
    def port(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def weight(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def mail(self) -> bool: ...
    @property
    def ttl(self) -> int: ...
    @property
    def targetstrip(self) -> int: ...
    @property
    def group(self) -> str: ...
    @property
    def ports(self) -> Mapping[str, int]: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def meta(self) -> Mapping[str, str]: ...


class Record(Protocol):
    """One stored key. `fields` is None when its value is unreadable (`reason` says why): the name exists, no more.

    `address` (4 or 16 bytes) and `target` (a name) are its host; neither is set when it has none.
    `lease_ttl` is the granted TTL of its lease in seconds, 0 when it is permanent, -1 when not yet known.
    """

    @property
    def key(self) -> bytes: ...
    @property
    def path(self) -> Path: ...
    @property
    def fields(self) -> Fields | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def address(self) -> bytes | None: ...
    @property
    def target(self) -> Path | None: ...
    @property
    def lease_ttl(self) -> int: ...


class Branch(Protocol):
    """A name and all below it. `version` moves with every change at or below; `count` services are at or below."""

    @property
    def label(self) -> bytes: ...
    @property
    def parent(self) -> Branch | None: ...
    @property
    def version(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def records(self) -> Sequence[Record]: ...
    def child(self, label: bytes) -> Branch | None: ...
    def ordered(self) -> Sequence[Branch]:
        """The children in key order."""

    def each(self) -> Iterator[Branch]:
        """The same, one by one: for those who may stop early."""

    def walk(self) -> Iterator[Record]:
        """Every record at or below, in key order."""

    def gather(self, limit: int) -> Sequence[Record]:
        """The first of `walk`, until `limit` (above 0) readable ones are among them."""


class Source(Protocol):
    """The view. `ready` after the first full load; `epoch.version` moves when every answer must be made anew."""

    @property
    def ready(self) -> bool: ...
    @property
    def stale(self) -> bool: ...
    @property
    def epoch(self) -> Branch: ...
    @property
    def root(self) -> Branch: ...
    @property
    def nodes(self) -> Sequence[tuple[bytes, Sequence[bytes]]]:
        """The live nodes of the cluster: label and addresses (4 or 16 bytes) of each; none without a cluster."""

    @property
    def addresses(self) -> Branch:
        """The services by their address: a tree of reverse names. Empty when no reverse zone is configured."""

    def has_tag(self, tag: str) -> bool:
        """Whether any readable service carries it."""

    def has_port(self, name: str) -> bool:
        """Whether any readable service has a port named so (`http`, `dns/udp`)."""

    def serial(self, apex: Path) -> int:
        """The revision of the last batch that touched the zone."""

"""What the HTTP API is given to work with, and what every handler asks of it.

Owns `ApiParts`, the one thing that `node` hands over, and the few looks at the configuration that several resources
share. It never builds a part and starts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from aiohttp import web

from discovery import names
from discovery.api.admission import Admission
from discovery.audit import AuditLog
from discovery.dns.synthesis import Settings
from discovery.drained import Drained
from discovery.errors import NotReady
from discovery.feed import Feed
from discovery.history import History
from discovery.kv.contract import Store
from discovery.links import Link
from discovery.metrics import Metrics
from discovery.names import Path
from discovery.nodes import NodeRecord
from discovery.recorder import new_history
from discovery.registry import Registry
from discovery.settings import Config, ZoneConfig
from discovery.token_store import Tokens
from discovery.view import View
from discovery.workers.pool import Workers


@dataclass
class ApiParts:
    """`now`: seconds since the epoch (UTC). `stopping` is set by the node when it begins to stop.

    `me` is what this node says of itself, `others` the live nodes beside it, `link` how one is. `dns` is what DNS
    answers with, `cached` whether it keeps an answer to a name and type; `workers` answer DNS where there are any.
    `reload` takes over what may change in the configuration and names the settings that need a restart; it raises
    ConfigError. `known_leases`: a token's id and a lease that was seen to hold only what that token may write.
    """

    config: Config
    store: Store
    view: View
    feed: Feed
    registry: Registry
    metrics: Metrics
    dns: Settings
    cached: Callable[[Path, int], Awaitable[bool]]
    reload: Callable[[], Sequence[str]]
    me: Callable[[], NodeRecord]
    tokens: Tokens
    admission: Admission
    others: Callable[[], Sequence[NodeRecord]] = tuple
    link: Callable[[NodeRecord], Link] = lambda node: Link()  # a field's default
    workers: Workers | None = None
    trouble: Callable[[], str] = str
    certificates: Callable[[], Mapping[str, float]] = dict
    now: Callable[[], float] = time.time
    stopping: bool = False
    history: History = field(default_factory=new_history)
    audit: AuditLog = field(default_factory=AuditLog)
    known_leases: set[tuple[str, int]] = field(default_factory=set)
    zones: dict[Path, ZoneConfig] = field(init=False)

    def __post_init__(self) -> None:
        self.zones = {names.from_text(zone.name): zone for zone in self.config.zones}

    def zone_of(self, path: Path) -> ZoneConfig:
        """The closest zone that holds the name, else the first: whose defaults apply (names.md)."""
        inside = [apex for apex in self.zones if path[: len(apex)] == apex]
        return self.zones[max(inside, key=len)] if inside else self.config.zones[0]

    def outermost(self) -> list[Path]:
        """The zones that lie in no other."""
        return [
            apex
            for apex in self.zones
            if not any(len(other) < len(apex) and apex[: len(other)] == other for other in self.zones)
        ]

    def out_of_dns(self, path: Path, *, direct: bool) -> Iterator[Drained]:
        """The drained instances below `path`; the store may tell of one that came back after the view has it."""
        for each in self.registry.draining.instances.below(path, direct=direct):
            if self.view.record(each.record.path) is None:
                yield each

    def need_ready(self) -> None:
        """Raises NotReady before the first load: what is not known yet must not look as if it were not there."""
        if not self.view.ready:
            why = f" ({trouble})" if (trouble := self.trouble()) else ""
            raise NotReady(
                f"the view has not been loaded yet{why}: ask again in a second, or ask another node"
            )

    def time_after(self, seconds: float) -> str:
        """The time that many seconds from now: RFC 3339, UTC, milliseconds."""
        return rfc3339(self.now() + seconds)


PARTS = web.AppKey("parts", ApiParts)


def rfc3339(seconds: float) -> str:
    whole, part = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_whole_seconds(whole)}.{part // 1000:03d}Z"


@lru_cache(maxsize=64)
def _whole_seconds(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")

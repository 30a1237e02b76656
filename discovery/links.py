"""The links to the other nodes: is each there, how far away, what does its clock say, what does it know.

Owns the questions to the other nodes' `/healthz` and `/readyz`, every PROBE_EVERY from every node to every other, and
the line in the log about one that ails: when it begins, every TELL_EVERY while it lasts, and when it is over. It
judges no one out of the cluster: leases do that. The clock is compared with the middle of the round trip, so it is
known to half of that.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence

import aiohttp
import msgspec

from discovery.nodes import NodeRecord
from discovery.view import View

log = logging.getLogger(__name__)

PROBE_EVERY = 5.0  # seconds
PROBE_LIMIT = 2.0  # seconds
TELL_EVERY = 30.0  # seconds
FAR = 1.0  # seconds of a round trip, or of a clock's offset, above which a node ails


class Link(msgspec.Struct, frozen=True):
    """To one node. `round_trip` and `clock_offset` (its clock ahead of ours) in seconds, None when it did not answer.

    `revision` is its view's and `lag` by how many revisions it was behind ours when it was asked (below 0: ahead).
    """

    round_trip: float | None = None
    clock_offset: float | None = None
    ready: bool | None = None
    stale: bool | None = None
    revision: int | None = None
    lag: int | None = None
    error: str = ""


class _Health(msgspec.Struct):
    time_ms: int


class _Readiness(msgspec.Struct):
    revision: int = 0
    stale: bool = False


class Links:
    """`others` gives the nodes to ask, `tls` what this one trusts and shows over HTTPS. `clock`: a monotonic one;
    `wall`: seconds since the epoch."""

    def __init__(
        self,
        others: Callable[[], Sequence[NodeRecord]],
        view: View,
        *,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._others = others
        self._view = view
        self._tls = tls
        self._clock = clock
        self._wall = wall
        self._links: dict[NodeRecord, Link] = {}
        self._ailing: set[NodeRecord] = set()
        self._told: dict[NodeRecord, float] = {}  # when one was told to ail, for TELL_EVERY
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="links")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def link(self, node: NodeRecord) -> Link:
        """As it was found last; all unknown before it was asked."""
        return self._links.get(node, Link())

    async def probe(self, session: aiohttp.ClientSession) -> None:
        """Asks all, at once."""
        nodes = self._others()
        links = await asyncio.gather(*(self._ask(session, node) for node in nodes))
        self._links = dict(zip(nodes, links, strict=True))
        self._tell()

    # ---------------------------------------------------------------- inside

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PROBE_LIMIT)) as session:
            while True:
                try:
                    await self.probe(session)
                except Exception:  # a fault here must not end the looking for good
                    log.exception("looking after the other nodes failed; it goes on: please report this")
                await asyncio.sleep(PROBE_EVERY)

    async def _ask(self, session: aiohttp.ClientSession, node: NodeRecord) -> Link:
        error = "it serves no HTTP address"
        for url in node.http:
            try:
                return await self._ask_at(session, url)
            except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as failed:
                error = str(failed) or f"{url} did not answer within {PROBE_LIMIT:.0f} s"
        return Link(error=error)

    async def _ask_at(self, session: aiohttp.ClientSession, url: str) -> Link:
        tls = self._tls() or True
        # First, so that the connection is there for the clock.
        async with session.get(f"{url}/readyz", ssl=tls) as answer:
            ready = answer.status == 200
            said = msgspec.json.decode(await answer.read(), type=_Readiness) if ready else None
        seen = self._view.revision
        asked, began = self._clock(), self._wall()
        async with session.get(f"{url}/healthz", ssl=tls) as answer:
            health = msgspec.json.decode(await answer.read(), type=_Health)
        round_trip = self._clock() - asked
        return Link(
            round_trip=round_trip,
            clock_offset=health.time_ms / 1000 - (began + round_trip / 2),
            ready=ready,
            stale=said.stale if said is not None else None,
            revision=said.revision if said is not None else None,
            lag=seen - said.revision if said is not None else None,
        )

    def _tell(self) -> None:
        now = self._clock()
        for node in self._ailing - self._links.keys():
            self._ailing.discard(node)  # its lease has ended: it is no node any more
            log.info("node %s is gone", node.name)
        self._told = {node: at for node, at in self._told.items() if now - at < TELL_EVERY}
        for node, link in self._links.items():
            complaint = complaint_of(link)
            if complaint and node not in self._told:
                self._told[node] = now
                self._ailing.add(node)
                log.warning("node %s (%s): %s", node.name, ", ".join(node.http), complaint)
            elif not complaint and node in self._ailing:
                self._ailing.discard(node)
                log.info("node %s is well again", node.name)


def complaint_of(link: Link) -> str:
    """What is wrong with a node, in words; "" when nothing is."""
    if link.error:
        return f"out of reach: {link.error}"
    if link.clock_offset is not None and abs(link.clock_offset) > FAR:
        way = "ahead of" if link.clock_offset > 0 else "behind"
        return f"its clock is {abs(link.clock_offset):.1f} s {way} ours: set the clocks (timedatectl)"
    if link.round_trip is not None and link.round_trip > FAR:
        return f"it takes {link.round_trip:.1f} s to answer"
    if link.ready is False:
        return "it is not ready"
    return ""

"""Forwarding: questions outside our zones, and outside names that our services point to.

Owns the routes (stub zones from keys, per-zone servers, upstreams), who may use them, fail-over, one exchange in flight
for equal questions, and the answers kept for as long as their TTLs say. It never touches our own zones' data, and an
answer of another server never enters the cache of our own answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from discovery.dns import wire
from discovery.dns.counters import DnsCounters
from discovery.dns.foreign import Foreign, addresses
from discovery.dns.places import Places
from discovery.dns.records import RR
from discovery.dns.source import Branch, Path, Source
from discovery.dns.upstream import Ask, NoAnswer, Server, exchange
from discovery.dns.zone import Zones

log = logging.getLogger(__name__)

TRY_SECONDS = 0.8  # for one server; a stub resolver waits 5 s in all
TOTAL_SECONDS = 4.0
ROUNDS = 2
OUTSIDE_SECONDS = 1.0  # for the outside names of one answer of ours
MAX_OUTSIDE = 8
MAX_IN_FLIGHT = 1000  # exchanges at a time, for one network as many as places are left; beyond, SERVFAIL
SHUN_SECONDS = 10.0  # a server that did not answer goes behind the others for so long
OVERHEAD = 500  # bytes of a kept answer beside its message

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Routes(msgspec.Struct, frozen=True):
    """`allow`: networks whose clients are served. Nothing but `stubs` and empty servers: nothing is forwarded."""

    upstreams: tuple[Server, ...] = ()
    zones: Mapping[Path, tuple[Server, ...]] = {}
    stubs: bool = False
    allow: tuple[Network, ...] = ()
    ndots: int = 2
    cache_bytes: int = 8388608

    @property
    def any(self) -> bool:
        return bool(self.upstreams or self.zones or self.stubs)


class Kept(msgspec.Struct, frozen=True):
    """An answer and the time it came, in seconds of the forwarder's clock."""

    answer: Foreign
    at: float


class Forwarder:
    """`clock` counts seconds and never goes back."""

    def __init__(
        self, routes: Routes, source: Source, zones: Zones, counters: DnsCounters, clock: Callable[[], float]
    ) -> None:
        self.routes = routes
        self._source = source
        self._zones = zones
        self._counters = counters
        self._clock = clock
        self._kept: dict[tuple[Ask, tuple[Server, ...]], Kept] = {}
        self._bytes = 0
        self._in_flight: dict[tuple[Ask, tuple[Server, ...]], asyncio.Task[Kept]] = {}
        self._places = Places()
        self._shunned: dict[Server, float] = {}
        self._allowed: dict[str, bool] = {}

    def close(self) -> None:
        for task in self._in_flight.values():
            task.cancel()

    def age(self, kept: Kept) -> int:
        return int(self._clock() - kept.at)

    # ------------------------------------------------------------ where to and for whom

    def allowed(self, client: str) -> bool:
        """Whether a client with that address may use us to ask others (never an open resolver)."""
        known = self._allowed.get(client)
        if known is None:
            address = ipaddress.ip_address(client)
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            known = any((mapped or address) in network for network in self.routes.allow)
            if len(self._allowed) > 10_000:
                self._allowed.clear()
            self._allowed[client] = known
        return known

    def servers(self, path: Path) -> tuple[Server, ...]:
        """Whom to ask for a name outside our zones: the closest stub zone, the closest configured one, upstreams."""
        stub = self.stub(path)
        if stub:
            return stub
        for length in range(len(path), -1, -1):
            found = self.routes.zones.get(path[:length])
            if found:
                return found
        return self.routes.upstreams

    def stub(self, path: Path) -> tuple[Server, ...]:
        """The servers that keys `LEAF.ZONE.stub.dns.D` name for the closest ZONE above the name."""
        best: tuple[Server, ...] = ()
        closest = -1
        for zone in self._zones.all if self.routes.stubs else ():
            branch: Branch | None = self._source.root
            for depth, label in enumerate((*zone.dns, b"stub", *path), start=-len(zone.dns) - 1):
                branch = branch.child(label) if branch is not None else None
                if branch is None:
                    break
                if depth < 0:
                    continue
                servers = tuple(
                    Server(str(ipaddress.ip_address(record.address)), record.fields.port or 53)
                    for leaf in branch.ordered()
                    for record in leaf.records
                    if record.address is not None and record.fields is not None
                )
                if servers and depth > closest:
                    best, closest = servers, depth
        return best

    # ------------------------------------------------------------ asking

    def kept(self, ask: Ask, servers: tuple[Server, ...]) -> Kept | None:
        """An answer that came before and still holds."""
        kept = self._kept.get((ask, servers))
        return kept if kept is not None and self._clock() - kept.at < kept.answer.ttl else None

    async def ask(self, ask: Ask, servers: tuple[Server, ...], network: bytes) -> Kept:
        """The first usable answer of `servers`, tried in turn. Raises NoAnswer. Equal questions share one exchange.

        `network`: the asking client's (`clients.network_of`), which an exchange takes a place of.
        """
        kept = self.kept(ask, servers)
        if kept is not None:
            self._counters.forward_hits += 1
            return kept
        key = (ask, servers)
        task = self._in_flight.get(key)
        if task is None:
            if not self._places.take(network, MAX_IN_FLIGHT):
                self._counters.forward_failed += 1
                raise NoAnswer(
                    f"of {MAX_IN_FLIGHT} places for forwarded questions none is left for that client"
                )
            task = self._in_flight[key] = asyncio.create_task(self._try(ask, servers))
            task.add_done_callback(lambda done: self._landed(key, network, done))
        return await asyncio.shield(task)

    def _landed(self, key: tuple[Ask, tuple[Server, ...]], network: bytes, done: asyncio.Task[Kept]) -> None:
        self._in_flight.pop(key, None)
        self._places.leave(network)
        if not done.cancelled():
            done.exception()  # looked at here, for those who asked may all have gone

    async def _try(self, ask: Ask, servers: tuple[Server, ...]) -> Kept:
        deadline = self._clock() + TOTAL_SECONDS
        why = "no server is configured"
        unsure: Foreign | None = None
        for _ in range(ROUNDS):
            for server in sorted(servers, key=self._is_shunned):
                left = deadline - self._clock()
                if left <= 0:
                    break
                begun = self._clock()
                try:
                    answer = await exchange(server, ask, min(TRY_SECONDS, left))
                except NoAnswer as error:
                    why = str(error)
                    if not self._is_shunned(server):
                        log.warning("%s; it goes behind the others for %g s", why, SHUN_SECONDS)
                    self._shunned[server] = self._clock() + SHUN_SECONDS
                    continue
                self._counters.forward_latency.note(self._clock() - begun)
                self._shunned.pop(server, None)
                if answer.rcode in (wire.NOERROR, wire.NXDOMAIN):
                    return self._keep(ask, servers, answer)
                unsure = answer  # SERVFAIL, REFUSED: perhaps another one knows
            if unsure is not None:
                self._counters.forwarded += 1
                return Kept(unsure, self._clock())
        self._counters.forward_failed += 1
        raise NoAnswer(why)

    def _is_shunned(self, server: Server) -> bool:
        return self._shunned.get(server, 0.0) > self._clock()

    def _keep(self, ask: Ask, servers: tuple[Server, ...], answer: Foreign) -> Kept:
        self._counters.forwarded += 1
        kept = Kept(answer, self._clock())
        key = (ask, servers)
        size = len(answer.message) + OVERHEAD
        old = self._kept.pop(key, None)
        if old is not None:
            self._bytes -= len(old.answer.message) + OVERHEAD
        if answer.ttl and size * 4 <= self.routes.cache_bytes:
            self._kept[key] = kept
            self._bytes += size
            while self._bytes > self.routes.cache_bytes:
                oldest = self._kept.pop(next(iter(self._kept)))
                self._bytes -= len(oldest.answer.message) + OVERHEAD
        return kept

    # ------------------------------------------------------------ for answers of ours

    async def outside(self, names: Sequence[Path], network: bytes) -> dict[Path, list[RR]]:
        """The CNAMEs and addresses of outside names, for those that resolve: at most MAX_OUTSIDE, OUTSIDE_SECONDS."""

        async def resolve(name: Path, qtype: int) -> tuple[Path, list[RR], list[RR]]:
            servers = self.servers(name)
            if not servers:
                return name, [], []
            kept = await self.ask(Ask(wire.encode_name(name), qtype, False, False), servers, network)
            return name, *addresses(kept.answer, name, self.age(kept))

        tasks = [
            asyncio.create_task(resolve(name, qtype))
            for name in names[:MAX_OUTSIDE]
            for qtype in (wire.A, wire.AAAA)
        ]
        done, late = await asyncio.wait(tasks, timeout=OUTSIDE_SECONDS) if tasks else (set(), set())
        for task in late:
            task.cancel()
        found: dict[Path, list[tuple[list[RR], list[RR]]]] = {}
        for task in tasks:
            if task in done and not task.cancelled() and task.exception() is None:
                name, chain, hosts = task.result()
                if hosts:
                    found.setdefault(name, []).append((chain, hosts))
        return {name: joined(name, answers) for name, answers in found.items()}


def joined(name: Path, answers: Sequence[tuple[list[RR], list[RR]]]) -> list[RR]:
    """The answers for both families as one: the CNAMEs, then the addresses.

    Where the families have CNAMEs of their own, as some networks give them, the addresses are put at the name itself,
    for an owner can't have two CNAMEs.
    """
    ways = {tuple((rr.owner, rr.rdata) for rr in chain) for chain, _ in answers}
    if len(ways) == 1:
        return [*answers[0][0], *(rr for _, hosts in answers for rr in hosts)]
    return [
        rr._replace(owner=name, ttl=min(each.ttl for each in (*chain, rr)))
        for chain, hosts in answers
        for rr in hosts
    ]

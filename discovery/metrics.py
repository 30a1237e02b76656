"""Everything `/metrics` tells: plain ints that their owners add to, turned into text when somebody asks.

Owns the counters of the registry, the feed and the HTTP API (the DNS server's are `dns.counters`), their public
names, and the Prometheus text format through `prometheus_client` with a registry of its own. It never locks, and
never asks the store: its status is an argument. Counters end in `_total`, times in `_seconds`, sizes in `_bytes`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from discovery import __version__
from discovery.dns.counters import DnsCounters
from discovery.kv.contract import Status
from discovery.links import Link
from discovery.view import View

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_RCODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    9: "NOTAUTH",
    16: "BADVERS",
    23: "BADCOOKIE",
}


class Tally(msgspec.Struct, frozen=True):
    """The DNS workers: how many answer, how many were replaced since the start, memory by number."""

    serving: int
    replaced: int
    resident_bytes: Mapping[int, int]


class Metrics:
    """The counters of one node. `http_requests` is by method and status; all begin at 0 and only grow."""

    def __init__(self) -> None:
        self.dns = DnsCounters()
        self.http_requests: dict[tuple[str, int], int] = {}
        self.http_rate_limited = 0
        self.http_connections_refused = 0
        self.registrations = 0
        self.registrations_unchanged = 0
        self.deregistrations = 0
        self.heartbeats = 0
        self.heartbeats_refused = 0
        self.feed_batches = 0
        self.feed_loads = 0
        self.feed_reconnects = 0
        self.unreadable = 0

    def count_http(self, method: str, status: int) -> None:
        key = (method, status)
        self.http_requests[key] = self.http_requests.get(key, 0) + 1


def render(
    metrics: Metrics,
    view: View,
    status: Status | None,
    *,
    up: bool = True,
    stale_seconds: float = 0.0,
    workers: Tally | None = None,
    links: Sequence[tuple[str, Link]] = (),
    certificates: Mapping[str, float] = MappingProxyType({}),
) -> bytes:
    """The text of `/metrics`. `status` None: the store does not answer, so its own numbers are left out.

    `up`: the store can be followed from here. `links`: the other nodes' names, and how each was found.
    `certificates`: seconds until the end of each, by its setting.
    """
    registry = CollectorRegistry(auto_describe=False)
    up = up and status is not None
    registry.register(_Snapshot(metrics, view, status, up, stale_seconds, workers, links, certificates))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Snapshot:
    """A custom collector (prometheus_client): called once, when the text is made."""

    def __init__(
        self,
        metrics: Metrics,
        view: View,
        status: Status | None,
        up: bool,
        stale_seconds: float,
        workers: Tally | None,
        links: Sequence[tuple[str, Link]],
        certificates: Mapping[str, float],
    ) -> None:
        self._metrics = metrics
        self._view = view
        self._status = status
        self._up = up
        self._stale_seconds = stale_seconds
        self._workers = workers
        self._certificates = certificates
        self._links = links

    def collect(self) -> Iterator[Metric]:
        build = InfoMetricFamily("discovery_build", "What runs here.")
        build.add_metric([], {"version": __version__, "python": platform.python_version()})
        yield build
        yield from self._dns(self._metrics.dns)
        if self._workers is not None:
            yield from self._tally(self._workers)
        if self._links:
            yield from self._nodes(self._links)
        yield from self._view_and_feed(self._metrics, self._view)
        yield from self._registry(self._metrics)
        yield _gauge("discovery_store_up", "1 while the store answers and is followed.", self._up)
        if self._status is not None:
            yield from self._store(self._status)
        if self._certificates:
            ends = GaugeMetricFamily(
                "discovery_certificate_expires_seconds",
                "Seconds until the end of a certificate of the store's member.",
                labels=["setting"],
            )
            for setting, seconds in sorted(self._certificates.items()):
                ends.add_metric([setting], seconds)
            yield ends
        http = CounterMetricFamily(
            "discovery_http_requests_total", "HTTP requests answered.", labels=["method", "status"]
        )
        for (method, code), number in sorted(self._metrics.http_requests.items()):
            http.add_metric([method, str(code)], number)
        yield http
        yield _counter(
            "discovery_http_rate_limited_total",
            "HTTP requests over http.rate.",
            self._metrics.http_rate_limited,
        )
        yield _counter(
            "discovery_http_connections_refused_total",
            "HTTP connections beyond a limit.",
            self._metrics.http_connections_refused,
        )

    def _dns(self, dns: DnsCounters) -> Iterator[Metric]:
        queries = CounterMetricFamily(
            "discovery_dns_queries_total", "DNS questions received.", labels=["transport"]
        )
        queries.add_metric(["udp"], dns.queries_udp)
        queries.add_metric(["tcp"], dns.queries_tcp)
        yield queries
        responses = CounterMetricFamily(
            "discovery_dns_responses_total", "DNS answers sent.", labels=["rcode"]
        )
        for rcode, number in enumerate(dns.rcodes):
            if number or rcode in (0, 2, 3):
                responses.add_metric([_RCODES.get(rcode, f"RCODE{rcode}")], number)
        yield responses
        hits = CounterMetricFamily(
            "discovery_dns_cache_hits_total", "DNS answers from the cache.", labels=["level"]
        )
        hits.add_metric(["raw"], dns.hits_raw)
        hits.add_metric(["prepared"], dns.hits_prepared)
        yield hits
        yield _counter("discovery_dns_cache_misses_total", "DNS answers made anew.", dns.misses)
        yield _counter("discovery_dns_truncated_total", "DNS answers cut, with TC set.", dns.truncated)
        yield _counter(
            "discovery_dns_cut_total", "DNS answers made from dns.max_matched services of more.", dns.cut
        )
        forwarded = CounterMetricFamily(
            "discovery_dns_forwarded_total", "Questions asked of other servers.", labels=["result"]
        )
        forwarded.add_metric(["answered"], dns.forwarded)
        forwarded.add_metric(["failed"], dns.forward_failed)
        yield forwarded
        yield _counter(
            "discovery_dns_forward_hits_total",
            "Answers of other servers given again from memory.",
            dns.forward_hits,
        )
        yield _counter("discovery_dns_failures_total", "DNS questions that met a fault of ours.", dns.failed)
        yield _counter("discovery_dns_dropped_total", "DNS questions that got no answer.", dns.dropped)
        yield _counter("discovery_dns_malformed_total", "DNS questions that were damaged.", dns.malformed)
        yield _counter(
            "discovery_dns_not_permitted_total",
            "DNS questions refused by dns.allow or dns.deny.",
            dns.not_permitted,
        )
        yield _counter(
            "discovery_dns_connections_refused_total",
            "Connections of DNS over TCP beyond a limit.",
            dns.connections_refused,
        )
        limited = CounterMetricFamily(
            "discovery_dns_rate_limited_total", "DNS answers over the rate of dns.rrl.", labels=["result"]
        )
        limited.add_metric(["cut"], dns.slipped)
        limited.add_metric(["dropped"], dns.rate_limited)
        yield limited

    def _nodes(self, links: Sequence[tuple[str, Link]]) -> Iterator[Metric]:
        """Of two nodes with one name the last counts."""
        up = GaugeMetricFamily("discovery_node_up", "1 while another node answers this one.", labels=["node"])
        trip = GaugeMetricFamily(
            "discovery_node_round_trip_seconds", "The way to another node and back.", labels=["node"]
        )
        offset = GaugeMetricFamily(
            "discovery_node_clock_offset_seconds",
            "Another node's clock ahead of this one's.",
            labels=["node"],
        )
        for name, link in dict(links).items():
            up.add_metric([name], link.round_trip is not None)
            if link.round_trip is not None and link.clock_offset is not None:
                trip.add_metric([name], link.round_trip)
                offset.add_metric([name], link.clock_offset)
        yield from (up, trip, offset)

    def _tally(self, workers: Tally) -> Iterator[Metric]:
        yield _gauge("discovery_dns_workers", "DNS workers that answer.", workers.serving)
        yield _counter(
            "discovery_dns_workers_replaced_total",
            "DNS workers that ended and were replaced.",
            workers.replaced,
        )
        memory = GaugeMetricFamily(
            "discovery_dns_worker_resident_bytes", "Memory of each DNS worker.", labels=["worker"]
        )
        for number, size in sorted(workers.resident_bytes.items()):
            memory.add_metric([str(number)], size)
        yield memory

    def _view_and_feed(self, metrics: Metrics, view: View) -> Iterator[Metric]:
        yield _gauge("discovery_view_ready", "1 after the first full load.", view.ready)
        yield _gauge("discovery_view_revision", "The store revision the view has reached.", view.revision)
        yield _gauge("discovery_view_stale", "1 while answers are marked as stale.", view.stale)
        yield _gauge(
            "discovery_view_stale_seconds", "How long the store has been out of reach.", self._stale_seconds
        )
        yield _gauge("discovery_instances", "Stored keys that are names.", view.root.count)
        yield _gauge("discovery_unreadable_records", "Stored keys left out now.", len(view.unreadable))
        yield _counter("discovery_unreadable_total", "Records found unreadable.", metrics.unreadable)
        yield _counter("discovery_feed_batches_total", "Revisions applied to the view.", metrics.feed_batches)
        yield _counter("discovery_feed_loads_total", "Full loads of the view.", metrics.feed_loads)
        yield _counter(
            "discovery_feed_reconnects_total", "Watches begun anew after a break.", metrics.feed_reconnects
        )

    def _registry(self, metrics: Metrics) -> Iterator[Metric]:
        yield _counter("discovery_registrations_total", "Instances written.", metrics.registrations)
        yield _counter(
            "discovery_registrations_unchanged_total",
            "Registrations that changed nothing and only renewed the lease.",
            metrics.registrations_unchanged,
        )
        yield _counter("discovery_deregistrations_total", "Instances removed.", metrics.deregistrations)
        yield _counter("discovery_heartbeats_total", "Leases renewed.", metrics.heartbeats)
        yield _counter(
            "discovery_heartbeats_refused_total", "Heartbeats for what was gone.", metrics.heartbeats_refused
        )

    def _store(self, status: Status) -> Iterator[Metric]:
        yield _gauge("discovery_store_revision", "The store's revision.", status.revision)
        yield _gauge("discovery_store_leases", "Leases alive.", status.leases)
        yield _counter(
            "discovery_store_leases_held_total", "Leases that a mass expiry left alive.", status.leases_held
        )
        yield _counter("discovery_store_stalls_total", "Stalls that renewed every lease.", status.stalls)
        yield _gauge("discovery_store_size_bytes", "Bytes the store takes.", status.size)
        yield _gauge("discovery_store_used_bytes", "Bytes of them in use.", status.size_in_use)
        yield _gauge("discovery_store_errors", "What is wrong with the store now.", len(status.errors))


def _counter(name: str, text: str, number: int) -> Metric:
    family = CounterMetricFamily(name, text)
    family.add_metric([], number)
    return family


def _gauge(name: str, text: str, number: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], number)
    return family

"""The text of `/metrics`.

Owns the public names of a node's metrics (those of its DNS are `metrics_dns`'s), and the Prometheus text format through
`prometheus_client` with a registry of its own. It never asks the store or the system: what they say is an argument, but
for the process's own figures. Counters end in `_total`, times in `_seconds`, sizes in `_bytes`. `deploy/metrics.md` is
made from here.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from discovery import __version__, metrics_dns
from discovery.histogram import Histogram
from discovery.kv.contract import Status
from discovery.links import Link
from discovery.metrics import Metrics, Tally
from discovery.metrics_families import counter, counters, gauge, gauges, histograms
from discovery.view import View

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Disk(msgspec.Struct, frozen=True):
    """Of the file system that the store is on, in bytes; `free`: for who is not root."""

    size: int
    free: int


class Surroundings(msgspec.Struct, frozen=True):
    """What a node knows at a scrape beside its counters and its view.

    `status` None: the store does not answer, so its own numbers are left out. `up`: the store can be followed from
    here. `age`: seconds since the view last changed. `drained`: instances out of DNS. `durations`: the store's.
    `links`: the other nodes' names, and how each was found. `certificates`: seconds until the end of each, by its
    setting.
    """

    status: Status | None = None
    up: bool = True
    stale_seconds: float = 0.0
    age: float = 0.0
    drained: int = 0
    workers: Tally | None = None
    durations: Mapping[str, Histogram] = MappingProxyType({})
    disk: Disk | None = None
    http_connections: int = 0
    links: Sequence[tuple[str, Link]] = ()
    certificates: Mapping[str, float] = MappingProxyType({})


NOTHING = Surroundings()


def render(metrics: Metrics, view: View, around: Surroundings = NOTHING) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(metrics, view, around))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Snapshot:
    """A custom collector (prometheus_client): called once, when the text is made."""

    def __init__(self, metrics: Metrics, view: View, around: Surroundings) -> None:
        self._given = metrics, view, around

    def collect(self) -> Iterator[Metric]:
        return families(*self._given)


def families(metrics: Metrics, view: View, around: Surroundings) -> Iterator[Metric]:
    """All but the process's own."""
    build = InfoMetricFamily("discovery_build", "What runs here.")
    build.add_metric([], {"version": __version__, "python": platform.python_version()})
    yield build
    yield from metrics_dns.families(metrics.dns, around.workers)
    yield from _view(view, around)
    yield from _feed(metrics)
    yield from _registry(metrics)
    yield from _store(around)
    yield from _http(metrics, around.http_connections)
    yield histograms(
        "discovery_loop_lag_seconds",
        "How late the main process is for what is due: HTTP waits for so long, and DNS without workers.",
        (),
        {(): metrics.loop_lag},
    )
    if around.links:
        yield from _nodes(dict(around.links))
    if around.certificates:
        yield gauges(
            "discovery_certificate_expires_seconds",
            "Seconds until the end of a certificate, by the setting that names it.",
            "setting",
            dict(sorted(around.certificates.items())),
        )


def _view(view: View, around: Surroundings) -> Iterator[Metric]:
    yield gauge("discovery_view_ready", "1 after the first full load.", view.ready)
    yield gauge("discovery_view_revision", "The store revision the view has reached.", view.revision)
    yield gauge(
        "discovery_view_age_seconds",
        "Seconds since the view last changed; high where nothing changes.",
        around.age,
    )
    yield gauge("discovery_view_stale", "1 while answers are marked as stale.", view.stale)
    yield gauge(
        "discovery_view_stale_seconds", "How long the store has been out of reach.", around.stale_seconds
    )
    yield gauge("discovery_instances", "Instances in DNS: stored keys that are names.", view.root.count)
    yield gauge("discovery_instances_drained", "Instances registered but out of DNS.", around.drained)
    yield gauge("discovery_services", "Names that have instances directly below them.", view.root.services)
    yield gauge("discovery_unreadable_records", "Stored keys left out now.", len(view.unreadable))


def _feed(metrics: Metrics) -> Iterator[Metric]:
    yield counter("discovery_unreadable_total", "Records found unreadable.", metrics.unreadable)
    yield counter("discovery_feed_batches_total", "Revisions applied to the view.", metrics.feed_batches)
    yield counter("discovery_feed_loads_total", "Full loads of the view.", metrics.feed_loads)
    yield counter(
        "discovery_feed_reconnects_total", "Watches begun anew after a break.", metrics.feed_reconnects
    )


def _registry(metrics: Metrics) -> Iterator[Metric]:
    yield counter("discovery_registrations_total", "Instances written.", metrics.registrations)
    yield counter(
        "discovery_registrations_unchanged_total",
        "Registrations that changed nothing and only renewed the lease.",
        metrics.registrations_unchanged,
    )
    yield counter("discovery_deregistrations_total", "Instances removed.", metrics.deregistrations)
    yield counter("discovery_heartbeats_total", "Leases renewed.", metrics.heartbeats)
    yield counter(
        "discovery_heartbeats_refused_total", "Heartbeats for what was gone.", metrics.heartbeats_refused
    )
    yield counters(
        "discovery_instances_removed_total",
        "Instances that left DNS. unknown: through another node of a cluster, or at their lease's end there.",
        "reason",
        metrics.removals,
    )


def _store(around: Surroundings) -> Iterator[Metric]:
    status = around.status
    up = around.up and status is not None
    yield gauge("discovery_store_up", "1 while the store answers and is followed.", up)
    yield histograms(
        "discovery_store_operation_duration_seconds",
        "Time of one operation of the store. Embedded: commit (a group of writes made durable), "
        "read. etcd: its calls.",
        "operation",
        dict(sorted(around.durations.items())),
    )
    if around.disk is not None:
        yield gauge("discovery_store_disk_size_bytes", "Size of the store's file system.", around.disk.size)
        yield gauge("discovery_store_disk_free_bytes", "What is free of it.", around.disk.free)
    if status is None:
        return
    engine = InfoMetricFamily("discovery_store", "What stores.")
    engine.add_metric([], {"version": status.version})
    yield engine
    yield gauge("discovery_store_revision", "The store's revision.", status.revision)
    yield gauge("discovery_store_leases", "Leases alive.", status.leases)
    yield counter(
        "discovery_store_leases_expired_total",
        "Leases that ended at their time (embedded).",
        status.leases_expired,
    )
    yield counter(
        "discovery_store_leases_held_total",
        "Leases that a mass expiry left alive (embedded).",
        status.leases_held,
    )
    yield counter(
        "discovery_store_stalls_total", "Stalls that renewed every lease (embedded).", status.stalls
    )
    yield gauge("discovery_store_size_bytes", "Bytes the store takes.", status.size)
    yield gauge("discovery_store_used_bytes", "Bytes of them in use.", status.size_in_use)
    yield gauge("discovery_store_errors", "What is wrong with the store now.", len(status.errors))
    if status.members:
        yield gauge("discovery_store_members", "Members of the store's cluster.", len(status.members))
        yield gauge("discovery_store_has_leader", "1 while the cluster has a leader.", bool(status.leader))


def _http(metrics: Metrics, connections: int) -> Iterator[Metric]:
    yield gauge("discovery_http_connections", "HTTP connections open.", connections)
    yield counters(
        "discovery_http_requests_total",
        "HTTP requests answered.",
        ("method", "status"),
        {(method, str(code)): number for (method, code), number in sorted(metrics.http_requests.items())},
    )
    yield histograms(
        "discovery_http_request_duration_seconds",
        "Time until an HTTP request was answered; streams and long polls are left out.",
        "method",
        dict(sorted(metrics.http_durations.items())),
    )
    yield counter(
        "discovery_http_rate_limited_total", "HTTP requests over http.rate.", metrics.http_rate_limited
    )
    yield counter(
        "discovery_http_connections_refused_total",
        "HTTP connections beyond a limit.",
        metrics.http_connections_refused,
    )


def _nodes(links: Mapping[str, Link]) -> Iterator[Metric]:
    """Of two nodes with one name the last counts."""
    up, trips = dict[str, float](), dict[str, float]()
    offsets, lags = dict[str, float](), dict[str, float]()
    for name, link in links.items():
        up[name] = link.round_trip is not None
        if link.round_trip is not None:
            trips[name] = link.round_trip
        if link.clock_offset is not None:
            offsets[name] = link.clock_offset
        if link.lag is not None:
            lags[name] = link.lag
    yield gauges("discovery_node_up", "1 while another node answers this one.", "node", up)
    yield gauges("discovery_node_round_trip_seconds", "The way to another node and back.", "node", trips)
    yield gauges(
        "discovery_node_clock_offset_seconds",
        "Another node's clock ahead of this one's.",
        "node",
        offsets,
    )
    yield gauges(
        "discovery_node_lag_revisions",
        "How many revisions another node's view is behind this one's, as of the last look at it.",
        "node",
        lags,
    )

"""A node's metrics as figures for people: rates between two readings, quantiles, what is asked most, what ends soonest.

Pure: owns the reading of Prometheus' text, and the tables of `discovery top`. It calls nobody and reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from discovery.cli.tables import Section, duration, relative
from discovery.histogram import quantile

Answer = Mapping[str, Any]  # JSON whose fields http-api.md gives
Labels = frozenset[tuple[str, str]]


class Reading(msgspec.Struct, frozen=True):
    """The metrics at `time` (seconds since the epoch): name to labels to number."""

    time: float
    samples: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all that have these labels; 0 without any."""
        wanted = labels.items()
        return sum(number for found, number in self.samples.get(name, {}).items() if wanted <= found)

    def label(self, name: str, label: str) -> str:
        """Of the first sample; "" without any."""
        for found in self.samples.get(name, {}):
            return dict(found).get(label, "")
        return ""


def read(text: str, time: float) -> Reading:
    """Raises ValueError for what is no such text."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = float(sample.value)
    return Reading(time, samples)


class Between:
    """What happened between two readings; a node that was restarted meanwhile counts from 0."""

    def __init__(self, before: Reading, after: Reading) -> None:
        self.before, self.after = before, after
        self.seconds = max(after.time - before.time, 0.001)

    def grown(self, name: str, **labels: str) -> float:
        now = self.after.total(name, **labels)
        grown = now - self.before.total(name, **labels)
        return grown if grown >= 0 else now

    def rate(self, name: str, **labels: str) -> float:
        """A second."""
        return self.grown(name, **labels) / self.seconds

    def quantile(self, part: float, name: str) -> float | None:
        """`histogram.quantile` of a histogram in seconds."""
        bounds = {dict(labels)["le"] for labels in self.after.samples.get(f"{name}_bucket", {})}
        ordered = sorted((float(bound), bound) for bound in bounds)
        sums = [0.0, *(self.grown(f"{name}_bucket", le=text) for _, text in ordered)]
        counts = [after - before for before, after in pairwise(sums)]
        return quantile(part, [bound for bound, _ in ordered if isfinite(bound)], counts)


def rates(found: Between) -> dict[str, float | None]:
    """Everything that is shown a second, and how long DNS takes; the names are those of `--output json`."""
    hits = found.grown("discovery_dns_cache_hits_total")
    asked = hits + found.grown("discovery_dns_cache_misses_total")
    answers = found.rate("discovery_dns_responses_total")
    good = found.rate("discovery_dns_responses_total", rcode="NOERROR")
    absent = found.rate("discovery_dns_responses_total", rcode="NXDOMAIN")
    return {
        "dns_queries": found.rate("discovery_dns_queries_total"),
        "dns_noerror": good,
        "dns_nxdomain": absent,
        "dns_other": max(0.0, answers - good - absent),
        "dns_dropped": found.rate("discovery_dns_dropped_total"),
        "dns_cache_share": hits / asked if asked else None,
        "dns_p50_seconds": found.quantile(0.5, "discovery_dns_query_duration_seconds"),
        "dns_p99_seconds": found.quantile(0.99, "discovery_dns_query_duration_seconds"),
        "registrations": found.rate("discovery_registrations_total"),
        "heartbeats": found.rate("discovery_heartbeats_total"),
        "expired": found.rate("discovery_instances_removed_total", reason="expired"),
        "http_requests": found.rate("discovery_http_requests_total"),
        "cpu_share": found.rate("process_cpu_seconds_total"),
    }


_ROWS = (
    ("DNS questions", "dns_queries"),
    ("  NOERROR", "dns_noerror"),
    ("  NXDOMAIN", "dns_nxdomain"),
    ("  other answers", "dns_other"),
    ("  dropped", "dns_dropped"),
    ("registrations", "registrations"),
    ("heartbeats", "heartbeats"),
    ("expired", "expired"),
    ("HTTP requests", "http_requests"),
)


def sections(found: Between, busiest: Answer, soonest: Sequence[Answer] | None, now: float) -> list[Section]:
    """The tables of `top`. `soonest`: instances by the end of their leases; None: there are too many to ask for."""
    after, second = found.after, rates(found)
    started = after.total("process_start_time_seconds")
    instances, services, leases, revision = (
        f"{int(after.total(name)):,}"
        for name in (
            "discovery_instances",
            "discovery_services",
            "discovery_store_leases",
            "discovery_view_revision",
        )
    )
    title = (
        f"{instances} instances of {services} services, {leases} leases, revision {revision.replace(',', '')}"
    )
    shown: list[Sequence[object]] = [(what, _number(second[name])) for what, name in _ROWS]
    facts: list[Sequence[object]] = [
        ("store", "up" if after.total("discovery_store_up") else "out of reach"),
        ("half of DNS within", _milliseconds(second["dns_p50_seconds"])),
        ("99 % of DNS within", _milliseconds(second["dns_p99_seconds"])),
        ("answers from cache", _share(second["dns_cache_share"])),
        ("CPU", _share(second["cpu_share"])),
        ("memory", f"{after.total('process_resident_memory_bytes') / 1e6:.0f} MB"),
        ("version", after.label("discovery_build_info", "version")),
        ("up for", duration(now - started) if started else None),
    ]
    return [
        (title, ("a second", "now"), shown),
        ("the node", (), facts),
        _busiest(busiest, second["dns_queries"] or 0.0),
        _soonest(soonest, now),
    ]


def _busiest(busiest: Answer, queries: float) -> Section:
    sampled = busiest["sampled"]
    if not sampled:
        return "asked most: nothing was sampled yet (1 question in 64 is)", (), []
    rows: list[Sequence[object]] = [
        (
            _share(one["sampled"] / sampled),
            _number(queries * one["sampled"] / sampled),
            one["type"],
            one["name"],
        )
        for one in busiest["names"]
    ]
    return (
        f"asked most, of {sampled:,} samples in {duration(busiest['seconds'])}",
        ("share", "a second", "type", "name"),
        rows,
    )


def _soonest(soonest: Sequence[Answer] | None, now: float) -> Section:
    if soonest is None:
        return "first to expire: too many instances to ask for; name a SERVICE", (), []
    rows: list[Sequence[object]] = [
        (relative(one["expires_at"], now), one["name"], one["host"]) for one in soonest
    ]
    return "first to expire without a heartbeat", ("ends", "instance", "host") if rows else (), rows


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value * 100:.0f} %"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value * 1000:.2f} ms"

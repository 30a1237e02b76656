"""The DNS server's counters, and its workers', as metrics.

Owns their public names and what their help says; a counter's meaning is `dns.counters`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from discovery.dns import text
from discovery.dns.counters import RCODES, SAMPLE, TYPES, DnsCounters
from discovery.metrics import Tally
from discovery.metrics_families import counter, counters, gauge, gauges, histograms

# Shown from the start, so that their first rise is seen.
_ALWAYS = frozenset((type_, rcode) for type_ in ("A", "AAAA", "SRV") for rcode in (0, 2, 3))


def families(dns: DnsCounters, workers: Tally | None) -> Iterator[Metric]:
    """`dns`: of all the processes that answer."""
    yield from _questions(dns)
    yield from _faults(dns)
    yield from _forwarding(dns)
    if workers is not None:
        yield from _workers(workers)


def _questions(dns: DnsCounters) -> Iterator[Metric]:
    queries = {"udp": dns.queries_udp, "tcp": dns.queries_tcp, "tls": dns.queries_tls}
    yield counters("discovery_dns_queries_total", "DNS questions received.", "transport", queries)
    yield counters(
        "discovery_dns_responses_total",
        "DNS answers made, by response code and type of question.",
        ("rcode", "type"),
        {
            (text.rcode_name(rcode), type_): number
            for place, type_ in enumerate(TYPES)
            for rcode, number in enumerate(dns.answers[place * RCODES : (place + 1) * RCODES])
            if number or (type_, rcode) in _ALWAYS
        },
    )
    yield histograms(
        "discovery_dns_query_duration_seconds",
        f"Time from reading a DNS question to sending its answer, of one question in {SAMPLE} (sampled); a batch of "
        "datagrams is answered together. Waiting for other servers, and in the socket before, is left out.",
        "transport",
        {"udp": dns.latency_udp, "tcp": dns.latency_tcp, "tls": dns.latency_tls},
    )
    hits = {"raw": dns.hits_raw, "prepared": dns.hits_prepared}
    yield counters("discovery_dns_cache_hits_total", "DNS answers from the cache.", "level", hits)
    yield counter("discovery_dns_cache_misses_total", "DNS answers made anew.", dns.misses)


def _faults(dns: DnsCounters) -> Iterator[Metric]:
    yield counter("discovery_dns_truncated_total", "DNS answers cut, with TC set.", dns.truncated)
    yield counter(
        "discovery_dns_cut_total", "DNS answers made from dns.max_matched services of more.", dns.cut
    )
    yield counter("discovery_dns_failures_total", "DNS questions that met a fault of ours.", dns.failed)
    yield counter("discovery_dns_dropped_total", "DNS questions that got no answer.", dns.dropped)
    yield counter("discovery_dns_malformed_total", "DNS questions that were damaged.", dns.malformed)
    yield counter(
        "discovery_dns_not_permitted_total",
        "DNS questions refused by dns.allow or dns.deny.",
        dns.not_permitted,
    )
    yield counter(
        "discovery_dns_connections_refused_total",
        "Connections of DNS over TCP beyond a limit.",
        dns.connections_refused,
    )
    limited = {"cut": dns.slipped, "dropped": dns.rate_limited}
    yield counters(
        "discovery_dns_rate_limited_total", "DNS answers over the rate of dns.rrl.", "result", limited
    )


def _forwarding(dns: DnsCounters) -> Iterator[Metric]:
    asked = {"answered": dns.forwarded, "failed": dns.forward_failed}
    yield counters("discovery_dns_forwarded_total", "Questions asked of other servers.", "result", asked)
    yield counter(
        "discovery_dns_forward_hits_total",
        "Answers of other servers given again from memory.",
        dns.forward_hits,
    )
    yield histograms(
        "discovery_dns_forward_duration_seconds",
        "Time until another server answered.",
        (),
        {(): dns.forward_latency},
    )


def _workers(workers: Tally) -> Iterator[Metric]:
    yield gauge("discovery_dns_workers", "DNS workers that answer.", workers.serving)
    yield gauge("discovery_dns_workers_wanted", "DNS workers there should be (dns.workers).", workers.wanted)
    yield counter(
        "discovery_dns_workers_replaced_total", "DNS workers that ended and were replaced.", workers.replaced
    )
    yield gauges(
        "discovery_dns_worker_resident_bytes",
        "Memory of each DNS worker.",
        "worker",
        {str(number): size for number, size in sorted(workers.resident_bytes.items())},
    )
    yield counters(
        "discovery_dns_worker_cpu_seconds_total",
        "CPU time of each DNS worker, user and system; a new process begins at 0.",
        "worker",
        {str(number): seconds for number, seconds in sorted(workers.cpu_seconds.items())},
    )

"""/v1/history, and the recorder behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.history import Sample
from discovery.metrics import Metrics
from discovery.recorder import SERIES, Recorder, counts, new_history, times
from tests.support.api import running_api, until


async def test_the_last_hour_in_rates(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        empty = await api.call("GET", "/v1/history")
        assert empty.body == {
            "every": 10.0,
            "until": [],
            "rates": {name: [] for name in SERIES},
            "latency": {name: [] for name in ("dns_p50", "dns_p99", "http_p50", "http_p99")},
        }
        zero, metrics = (0,) * len(SERIES), Metrics()
        api.parts.history.add(Sample(1_700_000_000.0, 0.0, zero, times(metrics)))
        metrics.dns.latency_udp.note(0.0004)
        metrics.dns.latency_tls.note(0.0004)
        api.parts.history.add(Sample(1_700_000_010.0, 10.0, (50, *zero[1:]), times(metrics)))
        told = (await api.call("GET", "/v1/history")).body
        assert told["until"] == ["2023-11-14T22:13:30.000Z"]
        assert told["rates"]["noerror"] == [5.0]
        assert told["rates"]["nxdomain"] == [0.0]
        assert told["latency"]["dns_p50"] == [pytest.approx(0.000375)]
        assert told["latency"]["http_p99"] == [None]


async def test_the_recorder_samples_until_it_is_closed() -> None:
    metrics, history = Metrics(), new_history()
    recorder = Recorder(metrics, history, every=0.001)
    recorder.start()
    await until(lambda: len(history.ends()) >= 3)
    await recorder.close()


def test_each_counter_lands_in_its_series() -> None:
    metrics = Metrics()
    for rcode in range(6):
        metrics.dns.answers[rcode] = 10**rcode
    metrics.removals["expired"] = 11
    metrics.dns.hits_raw, metrics.dns.hits_prepared, metrics.dns.misses = 1, 2, 4
    metrics.dns.forwarded, metrics.dns.forward_hits = 8, 16
    metrics.feed_batches, metrics.registrations, metrics.deregistrations = 5, 6, 7
    metrics.heartbeats = 9
    for status, often in ((200, 3), (503, 2), (404, 1)):
        for _ in range(often):
            metrics.count_http("GET", status)
    assert dict(zip(SERIES, counts(metrics), strict=True)) == {
        "noerror": 1,
        "nxdomain": 1000,
        "servfail": 100,
        "refused": 100_000,
        "other_rcodes": 10_010,
        "cache_hits": 3,
        "cache_misses": 4,
        "forwarded": 24,
        "changes": 5,
        "registrations": 6,
        "deregistrations": 7,
        "expiries": 11,
        "heartbeats": 9,
        "http_requests": 6,
        "http_errors": 2,
    }

"""/v1/history, and the recorder behind it."""

from __future__ import annotations

from pathlib import Path

from discovery.history import Sample
from discovery.metrics import Metrics
from discovery.recorder import SERIES, Recorder, counts, new_history
from tests.support.api import running_api, until


async def test_the_last_hour_in_rates(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        empty = await api.call("GET", "/v1/history")
        assert empty.body == {"every": 10.0, "until": [], "rates": {name: [] for name in SERIES}}
        zero = (0,) * len(SERIES)
        api.parts.history.add(Sample(1_700_000_000.0, 0.0, zero))
        api.parts.history.add(Sample(1_700_000_010.0, 10.0, (50, *zero[1:])))
        told = (await api.call("GET", "/v1/history")).body
        assert told["until"] == ["2023-11-14T22:13:30.000Z"]
        assert told["rates"]["noerror"] == [5.0]
        assert told["rates"]["nxdomain"] == [0.0]


async def test_the_recorder_samples_until_it_is_closed() -> None:
    metrics, history = Metrics(), new_history()
    recorder = Recorder(metrics, history, every=0.001)
    recorder.start()
    await until(lambda: len(history.times()) >= 3)
    await recorder.close()


def test_each_counter_lands_in_its_series() -> None:
    metrics = Metrics()
    for rcode in range(6):
        metrics.dns.rcodes[rcode] = 10**rcode
    metrics.dns.hits_raw, metrics.dns.hits_prepared, metrics.dns.misses = 1, 2, 4
    metrics.dns.forwarded, metrics.dns.forward_hits = 8, 16
    metrics.feed_batches, metrics.registrations, metrics.deregistrations = 5, 6, 7
    metrics.heartbeats = 9
    for status, times in ((200, 3), (503, 2), (404, 1)):
        for _ in range(times):
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
        "heartbeats": 9,
        "http_requests": 6,
        "http_errors": 2,
    }

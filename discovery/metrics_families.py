"""Metrics as prometheus_client wants them, from plain numbers.

Owns nothing but the way there. `samples` are by their label's value, or by the values of several labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from discovery.histogram import Histogram

Labels = str | Sequence[str]
K = TypeVar("K", bound=str | tuple[str, ...])


def counter(name: str, text: str, number: float) -> Metric:
    return counters(name, text, (), {(): number})


def gauge(name: str, text: str, number: float) -> Metric:
    return gauges(name, text, (), {(): number})


def counters(name: str, text: str, labels: Labels, samples: Mapping[K, float]) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=_many(labels)), samples)


def gauges(name: str, text: str, labels: Labels, samples: Mapping[K, float]) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=_many(labels)), samples)


def histograms(name: str, text: str, labels: Labels, samples: Mapping[K, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=_many(labels))
    for values, histogram in samples.items():
        sums = accumulate(histogram.counts)
        bounds = [*(repr(bound) for bound in histogram.bounds), "+Inf"]
        family.add_metric(
            _many(values),
            buckets=[(bound, float(number)) for bound, number in zip(bounds, sums, strict=True)],
            sum_value=histogram.seconds,
        )
    return family


def _filled(family: CounterMetricFamily | GaugeMetricFamily, samples: Mapping[K, float]) -> Metric:
    for values, number in samples.items():
        family.add_metric(_many(values), number)
    return family


def _many(values: Labels) -> list[str]:
    return [values] if isinstance(values, str) else list(values)

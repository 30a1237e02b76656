"""Rates, quantiles and tables from two readings of the metrics."""

from __future__ import annotations

import pytest

from discovery.cli.figures import Between, rates, read, sections

BEFORE = """\
# TYPE discovery_dns_queries_total counter
discovery_dns_queries_total{transport="udp"} 100
discovery_dns_queries_total{transport="tcp"} 50
# TYPE discovery_registrations_total counter
discovery_registrations_total 10
"""
AFTER = """\
# TYPE discovery_build info
discovery_build_info{python="3.11",version="1.2.3"} 1
# TYPE discovery_dns_queries_total counter
discovery_dns_queries_total{transport="udp"} 300
discovery_dns_queries_total{transport="tcp"} 50
# TYPE discovery_dns_responses_total counter
discovery_dns_responses_total{rcode="NOERROR",type="A"} 120
discovery_dns_responses_total{rcode="NXDOMAIN",type="A"} 60
discovery_dns_responses_total{rcode="REFUSED",type="A"} 20
# TYPE discovery_dns_cache_hits_total counter
discovery_dns_cache_hits_total{level="raw"} 75
# TYPE discovery_dns_cache_misses_total counter
discovery_dns_cache_misses_total 25
# TYPE discovery_registrations_total counter
discovery_registrations_total 4
# TYPE discovery_dns_query_duration_seconds histogram
discovery_dns_query_duration_seconds_bucket{le="0.001",transport="udp"} 50
discovery_dns_query_duration_seconds_bucket{le="0.01",transport="udp"} 90
discovery_dns_query_duration_seconds_bucket{le="+Inf",transport="udp"} 100
discovery_dns_query_duration_seconds_count{transport="udp"} 100
discovery_dns_query_duration_seconds_sum{transport="udp"} 1
# TYPE discovery_instances gauge
discovery_instances 1234
# TYPE discovery_store_up gauge
discovery_store_up 1
"""
FOUND = Between(read(BEFORE, 1000.0), read(AFTER, 1002.0))
QUIET = {"seconds": 0.0, "sampled": 0, "names": []}


def test_rates_are_a_second_and_over_all_labels() -> None:
    found = rates(FOUND)
    assert found["dns_queries"] == 100.0
    assert (found["dns_noerror"], found["dns_nxdomain"], found["dns_other"]) == (60.0, 30.0, 10.0)
    assert found["dns_cache_share"] == 0.75
    assert FOUND.rate("discovery_dns_queries_total", transport="tcp") == 0.0


def test_a_node_that_was_restarted_counts_from_nothing() -> None:
    assert rates(FOUND)["registrations"] == 2.0


@pytest.mark.parametrize(
    ("part", "seconds"), [(0.25, 0.0005), (0.5, 0.001), (0.7, 0.0055), (0.9, 0.01), (0.99, 0.01)]
)
def test_a_quantile_is_straight_between_the_bounds(part: float, seconds: float) -> None:
    assert FOUND.quantile(part, "discovery_dns_query_duration_seconds") == pytest.approx(seconds)


def test_nothing_counted_is_no_quantile() -> None:
    same = Between(read(AFTER, 1.0), read(AFTER, 2.0))
    assert same.quantile(0.5, "discovery_dns_query_duration_seconds") is None
    assert same.quantile(0.5, "nothing") is None
    assert rates(same)["dns_cache_share"] is None


def test_the_tables() -> None:
    busiest = {
        "seconds": 30.0,
        "sampled": 4,
        "names": [
            {"name": "web.test.", "type": "SRV", "sampled": 3},
            {"name": "db.test.", "type": "A", "sampled": 1},
        ],
    }
    soonest = [{"name": "i1.web.test.", "host": "10.0.0.1", "expires_at": "1970-01-01T00:16:52.000Z"}]
    figures, node, most, first = sections(FOUND, busiest, soonest, 1000.0)
    assert figures[0].startswith("1,234 instances of ")
    assert ("DNS questions", "100") in figures[2]
    assert ("version", "1.2.3") in node[2]
    assert ("store", "up") in node[2]
    assert most[2] == [("75 %", "75.0", "SRV", "web.test."), ("25 %", "25.0", "A", "db.test.")]
    assert first[2] == [("in 12 s", "i1.web.test.", "10.0.0.1")]


def test_what_there_is_nothing_of_says_why() -> None:
    _, _, most, first = sections(FOUND, QUIET, None, 1000.0)
    assert (most[1], most[2]) == ((), [])
    assert "nothing was sampled yet" in most[0]
    assert "name a SERVICE" in first[0]


def test_what_is_no_metrics_text_is_an_error() -> None:
    with pytest.raises(ValueError):
        read("<h1>Bad gateway</h1>", 1.0)

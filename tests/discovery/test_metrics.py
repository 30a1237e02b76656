"""The text of /metrics, read back by prometheus_client's own parser."""

from __future__ import annotations

import re

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from discovery.dns.counters import RCODES, TYPES, DnsCounters
from discovery.histogram import Histogram
from discovery.kv.contract import KV, STORE_BOUNDS, Status
from discovery.links import Link
from discovery.metrics import Metrics, Tally
from discovery.metrics_text import Disk, Surroundings, render
from discovery.view import View


def view() -> View:
    made = View("/skydns", apexes=[], grace_of=lambda path: 0.0)
    made.restore([KV(b"/skydns/test/a", b"{}", 2, 2, 1)], 9, 0.0)
    return made


TALLY = Tally(wanted=3, serving=2, replaced=5, resident_bytes={0: 100, 1: 200}, cpu_seconds={0: 1.5, 1: 2.5})
STATUS = Status(
    revision=12,
    compact_revision=1,
    size=4096,
    size_in_use=2048,
    leases=3,
    version="sqlite 3",
    errors=["full"],
    stalls=4,
    leases_held=5,
    leases_expired=6,
)
STORED = Surroundings(status=STATUS)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def ints(counters: DnsCounters) -> list[str]:
    return [name for name in counters.__slots__ if type(getattr(counters, name)) is int]


def test_every_counter_has_its_line() -> None:
    metrics = Metrics()
    counters = [name for name, value in vars(metrics).items() if type(value) is int]
    for number, name in enumerate(counters, start=1001):
        setattr(metrics, name, number)
    slots = ints(metrics.dns)
    for number, name in enumerate(slots, start=2001):
        setattr(metrics.dns, name, number)
    metrics.dns.answers[:] = range(3001, 3001 + RCODES * len(TYPES))
    for number, reason in enumerate(metrics.removals, start=4001):
        metrics.removals[reason] = number
    metrics.count_http("GET", 200)
    metrics.count_http("GET", 200)
    metrics.time_http("GET", 0.003)
    found = samples(render(metrics, view(), STORED))
    wanted = (
        *range(1001, 1001 + len(counters)),
        *range(2001, 2001 + len(slots)),
        *metrics.dns.answers,
        *range(4001, 4001 + len(metrics.removals)),
    )
    for value in wanted:
        assert value in found.values(), f"{value}: {[*counters, *slots]}"
    assert found["discovery_http_requests_total", "GET", "200"] == 2
    assert found["discovery_http_request_duration_seconds_bucket", "0.0025", "GET"] == 0
    assert found["discovery_http_request_duration_seconds_bucket", "0.005", "GET"] == 1
    assert found["discovery_dns_queries_total", "udp"] == 2001 + slots.index("queries_udp")
    assert found["discovery_dns_responses_total", "NXDOMAIN", "other"] == 3004
    assert found["discovery_dns_responses_total", "NOERROR", "A"] == 3001 + RCODES
    assert found["discovery_dns_cache_hits_total", "raw"] == 2001 + slots.index("hits_raw")
    assert found["discovery_instances_removed_total", "expired"] == 4003


def test_a_histogram_is_cumulated_and_has_its_sum() -> None:
    commit = Histogram(STORE_BOUNDS)
    for seconds in (0.0001, 0.0001, 0.003, 7.0):
        commit.note(seconds)
    found = samples(render(Metrics(), view(), Surroundings(durations={"commit": commit})))
    name = "discovery_store_operation_duration_seconds"
    for bound, number in (("0.0001", 2), ("0.0025", 2), ("0.005", 3), ("5.0", 3), ("+Inf", 4)):
        assert found[f"{name}_bucket", bound, "commit"] == number
    assert found[f"{name}_count", "commit"] == 4
    assert round(found[f"{name}_sum", "commit"], 6) == 7.0032


def test_the_state_of_view_and_store() -> None:
    around = Surroundings(STATUS, stale_seconds=1.5, age=2.5, drained=7, disk=Disk(size=900, free=90))
    found = samples(render(Metrics(), view(), around))
    expected = {
        ("discovery_view_ready",): 1,
        ("discovery_view_revision",): 9,
        ("discovery_view_stale",): 0,
        ("discovery_view_stale_seconds",): 1.5,
        ("discovery_instances",): 1,
        ("discovery_unreadable_records",): 0,
        ("discovery_store_up",): 1,
        ("discovery_store_revision",): 12,
        ("discovery_store_leases",): 3,
        ("discovery_store_size_bytes",): 4096,
        ("discovery_store_used_bytes",): 2048,
        ("discovery_store_errors",): 1,
        ("discovery_store_stalls_total",): 4,
        ("discovery_store_leases_held_total",): 5,
        ("discovery_store_leases_expired_total",): 6,
        ("discovery_store_disk_size_bytes",): 900,
        ("discovery_store_disk_free_bytes",): 90,
        ("discovery_store_info", "sqlite 3"): 1,
        ("discovery_view_age_seconds",): 2.5,
        ("discovery_instances_drained",): 7,
        ("discovery_services",): 1,
    }
    assert found.items() >= expected.items()
    assert ("process_resident_memory_bytes",) in found
    assert not [key for key in found if "leader" in key[0]]
    away = samples(render(Metrics(), view()))
    assert {key: number for key, number in away.items() if "_store_" in key[0]} == {
        ("discovery_store_up",): 0
    }
    assert samples(render(Metrics(), view(), Surroundings(STATUS, up=False)))[("discovery_store_up",)] == 0


def test_a_cluster_has_members_and_a_leader() -> None:
    for leader in ("n1", ""):
        status = msgspec.structs.replace(STATUS, members=["n1", "n2"], leader=leader)
        found = samples(render(Metrics(), view(), Surroundings(status)))
        assert (found[("discovery_store_members",)], found[("discovery_store_has_leader",)]) == (
            2,
            bool(leader),
        )


def test_the_links_to_the_other_nodes() -> None:
    there = Link(round_trip=0.002, clock_offset=-0.5, revision=7, lag=3)
    found = samples(render(Metrics(), view(), Surroundings(links=[("n2", there), ("n3", Link(error="no"))])))
    assert {key: number for key, number in found.items() if key[0].startswith("discovery_node_")} == {
        ("discovery_node_up", "n2"): 1,
        ("discovery_node_up", "n3"): 0,
        ("discovery_node_round_trip_seconds", "n2"): 0.002,
        ("discovery_node_clock_offset_seconds", "n2"): -0.5,
        ("discovery_node_lag_revisions", "n2"): 3,
    }


def test_workers_have_their_lines_where_there_are_any() -> None:
    found = samples(render(Metrics(), view(), Surroundings(STATUS, workers=TALLY)))
    expected = {
        ("discovery_dns_workers",): 2,
        ("discovery_dns_workers_wanted",): 3,
        ("discovery_dns_worker_cpu_seconds_total", "1"): 2.5,
        ("discovery_dns_workers_replaced_total",): 5,
        ("discovery_dns_worker_resident_bytes", "0"): 100,
        ("discovery_dns_worker_resident_bytes", "1"): 200,
    }
    assert found.items() >= expected.items()
    assert not [key for key in samples(render(Metrics(), view(), STORED)) if "worker" in key[0]]


def test_names_follow_the_house() -> None:
    text = render(Metrics(), view(), Surroundings(STATUS, workers=TALLY)).decode()
    for family in text_string_to_metric_families(text):
        if family.name.startswith("process_"):
            continue
        assert re.fullmatch(r"discovery_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert (family.type == "counter") == all(
            sample.name.endswith("_total") for sample in family.samples
        ) or (not family.samples)


def test_rendering_twice_gives_the_same() -> None:
    metrics = Metrics()
    ours = [line for line in render(metrics, view(), STORED).splitlines() if line.startswith(b"discovery_")]
    again = [line for line in render(metrics, view(), STORED).splitlines() if line.startswith(b"discovery_")]
    assert ours == again


def test_what_another_process_counted_is_added_to_each() -> None:
    one, other = DnsCounters(), DnsCounters()
    for number, name in enumerate(ints(one), start=1):
        setattr(one, name, number)
        setattr(other, name, 100 * number)
    size = len(one.answers)
    one.answers[:], other.answers[:] = range(size), range(0, 100 * size, 100)
    one.latency_tcp.note(0.5)
    other.latency_tcp.note(0.25)
    other.latency_udp.note(1e-5)
    one.add(other.values())
    assert [getattr(one, name) for name in ints(one)] == [
        101 * number for number in range(1, len(ints(one)) + 1)
    ]
    assert one.answers == [101 * number for number in range(size)]
    assert (sum(one.latency_tcp.counts), one.latency_tcp.seconds) == (2, 0.75)
    assert (sum(one.latency_udp.counts), one.latency_udp.counts[0]) == (1, 1)


def test_the_end_of_the_member_s_certificates() -> None:
    ends = {"store.member.ca": 3e8, "store.member.cert": -5.0}
    found = samples(render(Metrics(), view(), Surroundings(STATUS, certificates=ends)))
    assert found["discovery_certificate_expires_seconds", "store.member.ca"] == 3e8
    assert found["discovery_certificate_expires_seconds", "store.member.cert"] == -5
    assert not [name for name, *_ in samples(render(Metrics(), view(), STORED)) if "certificate" in name]

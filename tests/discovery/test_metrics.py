"""The text of /metrics, read back by prometheus_client's own parser."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from discovery.kv.contract import KV, Status
from discovery.metrics import Metrics, Tally, render
from discovery.view import View


def view() -> View:
    made = View("/skydns", apexes=[], grace_of=lambda path: 0.0)
    made.restore([KV(b"/skydns/test/a", b"{}", 2, 2, 1)], 9, 0.0)
    return made


TALLY = Tally(serving=2, replaced=5, resident_bytes={0: 100, 1: 200})
STATUS = Status(
    revision=12,
    compact_revision=1,
    size=4096,
    size_in_use=2048,
    leases=3,
    version="sqlite 3",
    errors=["full"],
)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_every_counter_has_its_line() -> None:
    metrics = Metrics()
    counters = [name for name, value in vars(metrics).items() if type(value) is int]
    for number, name in enumerate(counters, start=101):
        setattr(metrics, name, number)
    slots = [name for name in metrics.dns.__slots__ if name != "rcodes"]
    for number, name in enumerate(slots, start=201):
        setattr(metrics.dns, name, number)
    metrics.dns.rcodes[:] = range(301, 325)
    metrics.count_http("GET", 200)
    metrics.count_http("GET", 200)
    found = samples(render(metrics, view(), STATUS, stale_seconds=1.5))
    for value in (*range(101, 101 + len(counters)), *range(201, 201 + len(slots)), *range(301, 325)):
        assert value in found.values(), f"{value}: {[*counters, *slots]}"
    assert found["discovery_http_requests_total", "GET", "200"] == 2
    assert found["discovery_dns_queries_total", "udp"] == 201 + slots.index("queries_udp")
    assert found["discovery_dns_responses_total", "NXDOMAIN"] == 304
    assert found["discovery_dns_cache_hits_total", "raw"] == 201 + slots.index("hits_raw")


def test_the_state_of_view_and_store() -> None:
    found = samples(render(Metrics(), view(), STATUS, stale_seconds=1.5))
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
    }
    assert found.items() >= expected.items()
    assert ("process_resident_memory_bytes",) in found
    away = samples(render(Metrics(), view(), None))
    assert {key: number for key, number in away.items() if "_store_" in key[0]} == {
        ("discovery_store_up",): 0
    }
    assert samples(render(Metrics(), view(), STATUS, up=False))[("discovery_store_up",)] == 0


def test_workers_have_their_lines_where_there_are_any() -> None:
    found = samples(render(Metrics(), view(), STATUS, workers=TALLY))
    expected = {
        ("discovery_dns_workers",): 2,
        ("discovery_dns_workers_replaced_total",): 5,
        ("discovery_dns_worker_resident_bytes", "0"): 100,
        ("discovery_dns_worker_resident_bytes", "1"): 200,
    }
    assert found.items() >= expected.items()
    assert not [key for key in samples(render(Metrics(), view(), STATUS)) if "worker" in key[0]]


def test_names_follow_the_house() -> None:
    text = render(Metrics(), view(), STATUS, workers=TALLY).decode()
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
    ours = [line for line in render(metrics, view(), STATUS).splitlines() if line.startswith(b"discovery_")]
    again = [line for line in render(metrics, view(), STATUS).splitlines() if line.startswith(b"discovery_")]
    assert ours == again


def test_what_another_process_counted_is_added_to_each() -> None:
    one, other = Metrics().dns, Metrics().dns
    names = [name for name in one.__slots__ if name != "rcodes"]
    for number, name in enumerate(names, start=1):
        setattr(one, name, number)
        setattr(other, name, 100 * number)
    one.rcodes[:], other.rcodes[:] = range(24), range(0, 2400, 100)
    one.add(other.values())
    assert [getattr(one, name) for name in names] == [101 * number for number in range(1, len(names) + 1)]
    assert one.rcodes == [101 * number for number in range(24)]


def test_the_end_of_the_member_s_certificates() -> None:
    ends = {"store.member.ca": 3e8, "store.member.cert": -5.0}
    found = samples(render(Metrics(), view(), STATUS, certificates=ends))
    assert found["discovery_certificate_expires_seconds", "store.member.ca"] == 3e8
    assert found["discovery_certificate_expires_seconds", "store.member.cert"] == -5
    assert not [name for name, *_ in samples(render(Metrics(), view(), STATUS)) if "certificate" in name]

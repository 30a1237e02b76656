"""The alert rules: each fires when it should and only then, and each has its section in the document of alerts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from discovery import metrics_reference
from discovery.cli.commands import cli
from discovery.settings import TABLE
from tests.support.prometheus import promtool

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yaml"
DOCUMENT = (DEPLOY / "alerts.md").read_text()
AT = "60m"

Series = Mapping[str, str]
N1 = 'job="discovery",instance="n1"'


def metric(name: str, labels: str = "") -> str:
    return f"{name}{{{N1}{labels and ','}{labels}}}"


def flat(value: float) -> str:
    return f"{value}x120"


def rising(by: float) -> str:
    """Each minute."""
    return f"0+{by}x120"


def late(by: float) -> str:
    """Rises so much 3 minutes before the look."""
    return f"0x56 {by}x60"


def one(name: str, fires: float, holds: float, labels: str = "") -> tuple[Series, Series]:
    key = metric(name, labels)
    return {key: flat(fires)}, {key: flat(holds)}


def shares(name: str, label: str, bad: str, good: str, fires: float, holds: float) -> tuple[Series, Series]:
    """Counters with the label `bad` rise by so much a minute, with `good` by 6000."""

    def series(by: float) -> Series:
        return {
            metric(name, f'{label}="{bad}"'): rising(by),
            metric(name, f'{label}="{good}"'): rising(6000),
        }

    return series(fires), series(holds)


def durations(name: str, bounds: tuple[str, str], labels: str = "") -> tuple[Series, Series]:
    """All below the first bound, or below the second only."""

    def series(first: float) -> Series:
        comma = labels and f"{labels},"
        return {
            metric(f"{name}_bucket", f'{comma}le="{bounds[0]}"'): rising(first),
            metric(f"{name}_bucket", f'{comma}le="{bounds[1]}"'): rising(100),
            metric(f"{name}_bucket", f'{comma}le="+Inf"'): rising(100),
        }

    return series(90), series(100)


def disk(free: str) -> Series:
    return {
        metric("discovery_store_disk_free_bytes"): free,
        metric("discovery_store_disk_size_bytes"): "1000x800",
    }


def gone(number: float, reason: str = "expired") -> Series:
    return {
        metric("discovery_instances_removed_total", f'reason="{reason}"'): late(number),
        metric("discovery_instances"): f"100x56 {100 - number}x60",
    }


def refused(by: float) -> Series:
    return {
        metric("discovery_heartbeats_refused_total"): rising(by),
        metric("discovery_heartbeats_total"): rising(1000),
    }


def dropped(by: float) -> Series:
    return {
        metric("discovery_dns_dropped_total"): rising(by),
        metric("discovery_dns_queries_total", 'transport="udp"'): rising(500),
        metric("discovery_dns_queries_total", 'transport="tcp"'): rising(500),
    }


def counts(wanted: float, serving: float) -> Series:
    return {
        metric("discovery_dns_workers_wanted"): flat(wanted),
        metric("discovery_dns_workers"): flat(serving),
    }


def connections(by: float) -> Series:
    return {
        metric("discovery_dns_connections_refused_total"): rising(by),
        metric("discovery_http_connections_refused_total"): rising(by),
    }


def files(used: float) -> Series:
    return {metric("process_open_fds"): flat(used), metric("process_max_fds"): flat(100)}


def late_one(name: str, fires: float, holds: float) -> tuple[Series, Series]:
    return {metric(name): late(fires)}, {metric(name): late(holds)}


NODE2 = 'node="n2"'
SETTING = 'setting="store.member.cert"'
DAY = 86400
# What makes each fire at AT, and what is like it and does not.
CASES: Mapping[str, tuple[Series, Series]] = {
    "DiscoveryAbsent": ({'up{job="other",instance="n1"}': flat(1)}, {metric("up"): flat(1)}),
    "DiscoveryNodeDown": one("up", 0, 1),
    "DiscoveryNotReady": one("discovery_view_ready", 0, 1),
    "DiscoveryRestarts": (
        {metric("process_start_time_seconds"): "0x40 1x4 2x4 3x60"},
        {metric("process_start_time_seconds"): "0x40 1x4 2x60"},
    ),
    "DiscoveryVersionsDiffer": (
        {metric("discovery_build_info", f'version="{version}"'): "1x3000" for version in ("1", "2")},
        {metric("discovery_build_info", 'version="1"'): "1x3000"},
    ),
    "DiscoveryFileDescriptors": (files(81), files(79)),
    "DiscoveryLoopLags": durations("discovery_loop_lag_seconds", ("0.25", "0.5")),
    "DiscoveryStoreDown": one("discovery_store_up", 0, 1),
    "DiscoveryStoreNoLeader": one("discovery_store_has_leader", 0, 1),
    "DiscoveryStoreErrors": one("discovery_store_errors", 1, 0),
    "DiscoveryDiskFull": (disk(flat(99)), disk(flat(101))),
    "DiscoveryDiskFillsUp": (disk("390-0.3x800"), disk("390-0.1x800")),
    "DiscoveryStoreSlow": durations(
        "discovery_store_operation_duration_seconds", ("0.25", "0.5"), 'operation="commit"'
    ),
    "DiscoveryFeedReconnects": (
        {metric("discovery_feed_reconnects_total"): rising(1)},
        {metric("discovery_feed_reconnects_total"): rising(0.5)},
    ),
    "DiscoveryViewStale": one("discovery_view_stale", 1, 0),
    "DiscoveryNodeLags": one("discovery_node_lag_revisions", 1001, 999, NODE2),
    "DiscoveryMassExpiry": (gone(30), gone(15)),
    "DiscoveryGuardHolds": late_one("discovery_store_leases_held_total", 5, 0),
    "DiscoveryStalled": late_one("discovery_store_stalls_total", 1, 0),
    "DiscoveryHeartbeatsRefused": (refused(60), refused(40)),
    "DiscoveryUnreadableRecords": one("discovery_unreadable_records", 1, 0),
    "DiscoveryServfail": shares("discovery_dns_responses_total", "rcode", "SERVFAIL", "NOERROR", 70, 50),
    "DiscoveryFault": late_one("discovery_dns_failures_total", 1, 0),
    "DiscoveryDnsSlow": durations(
        "discovery_dns_query_duration_seconds", ("0.025", "0.05"), 'transport="udp"'
    ),
    "DiscoveryDropsQuestions": (dropped(11), dropped(9)),
    "DiscoveryForwardingFails": shares(
        "discovery_dns_forwarded_total", "result", "failed", "answered", 700, 600
    ),
    "DiscoveryWorkersMissing": (counts(2, 1), counts(2, 2)),
    "DiscoveryWorkersReplaced": late_one("discovery_dns_workers_replaced_total", 3, 1),
    "DiscoveryConnectionsRefused": (connections(4), connections(2)),
    "DiscoveryHttpErrors": shares("discovery_http_requests_total", "status", "503", "200", 400, 300),
    "DiscoveryHttpSlow": durations("discovery_http_request_duration_seconds", ("1.0", "2.5"), 'method="PUT"'),
    "DiscoveryNodeUnseen": one("discovery_node_up", 0, 1, NODE2),
    "DiscoveryClockOffset": one("discovery_node_clock_offset_seconds", -1.1, -0.9, NODE2),
    "DiscoveryCertificateEndsSoon": one("discovery_certificate_expires_seconds", 13 * DAY, 15 * DAY, SETTING),
    "DiscoveryCertificateEnds": one("discovery_certificate_expires_seconds", 1 * DAY, 3 * DAY, SETTING),
}
LATER = {"DiscoveryVersionsDiffer": "1500m", "DiscoveryDiskFillsUp": "600m"}  # those that take long


def rules() -> Iterator[Any]:  # Any: YAML
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def sections() -> Mapping[str, str]:
    found = re.split(r"^### (\w+)$", DOCUMENT, flags=re.M)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_every_alert_says_what_it_is_and_has_its_section_and_its_cases() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert list(sections()) == names
    assert set(CASES) == set(names)
    for rule in rules():
        name, annotations = rule["alert"], rule["annotations"]
        assert set(rule["labels"]) == {"severity"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(annotations) == {"summary", "description", "runbook_url"}
        assert annotations["summary"].endswith(".")
        assert annotations["description"].endswith((".", "do."))
        assert annotations["runbook_url"] == f"deploy/alerts.md#{name.lower()}"
        parts = re.findall(r"^\*\*(\w+)\.\*\* \S", sections()[name], flags=re.M)
        assert parts == ["Means", "Look", "Cure"], name


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    there = {*metrics_reference.names(), "up"}
    for rule in rules():
        asked = re.findall(r"\b(?:discovery_[a-z_]+|process_[a-z_]+|up)\b", rule["expr"])
        assert asked, rule["alert"]
        for name in asked:
            assert name.removesuffix("_bucket") in there, f"{rule['alert']}: {name}"


def test_the_document_names_commands_and_settings_that_there_are() -> None:
    context = click.Context(cli)
    for words in re.findall(r"`discovery ([a-z]+(?: [a-z]+)?)", DOCUMENT):
        group: click.Command = cli
        for word in words.split():
            if isinstance(group, click.Group):
                found = group.get_command(context, word)
                assert found is not None, f"discovery {words}"
                group = found
    settings = {setting.key for setting in TABLE.settings()}
    for key in re.findall(r"`((?:dns|http|forward|node|store|leases)\.[a-z_.]+)`", DOCUMENT):
        assert key in settings or any(each.startswith(f"{key}.") for each in settings), key


@pytest.mark.slow
def test_promtool_accepts_the_rules_and_the_example_that_loads_them() -> None:
    said = promtool("check", "rules", str(RULES))
    assert f"{len(CASES)} rules found" in said
    said = promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yaml"))
    assert "FAILED" not in said


@pytest.mark.slow
def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    files = []
    for rule in rules():
        name = rule["alert"]
        tests = [
            {
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                        "eval_time": LATER.get(name, AT),
                        "exp_samples": [{"labels": "{}", "value": int(fires)}],
                    }
                ],
            }
            for fires, series in zip((True, False), CASES[name], strict=True)
        ]
        alone = tmp_path / f"{name}.yaml"  # with all others it would take long
        alone.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": [rule]}]}))
        file = tmp_path / f"{name}_test.yaml"
        file.write_text(
            yaml.safe_dump({"rule_files": [alone.name], "evaluation_interval": "1m", "tests": tests})
        )
        files.append(str(file))
    assert promtool("test", "rules", *files).count("SUCCESS") == len(CASES)


@pytest.mark.slow
def test_what_an_alert_says_is_filled_in(tmp_path: Path) -> None:
    """Of one rule the whole text, which shows how labels and values come into it."""
    (rule,) = (each for each in rules() if each["alert"] == "DiscoveryDiskFull")
    expected = {
        "exp_labels": {"severity": "warning", "job": "discovery", "instance": "n1"},
        "exp_annotations": {
            "summary": "The disk of n1's store is nearly full.",
            "description": "9.9% of it is free.",
            "runbook_url": rule["annotations"]["runbook_url"],
        },
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in disk(flat(99)).items()],
        "alert_rule_test": [{"eval_time": AT, "alertname": "DiscoveryDiskFull", "exp_alerts": [expected]}],
    }
    file = tmp_path / "alerts_test.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]})
    )
    assert "SUCCESS" in promtool("test", "rules", str(file))

"""The reference of all metrics, made from the metrics themselves.

Owns the text of `deploy/metrics.md`; a test holds the committed file equal to it, and it to what a running node gives.
Run `python -m discovery.metrics_reference` in a checkout to write it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import Metric

from discovery.histogram import Histogram
from discovery.kv.contract import STORE_BOUNDS, Status
from discovery.links import Link
from discovery.metrics import Metrics, Tally
from discovery.metrics_text import Disk, Surroundings, families
from discovery.view import View

FILE = "metrics.md"

_HEAD = """\
# Metrics

What `GET /metrics` tells, in Prometheus's text format (`discovery metrics` prints it too). Once there are tokens it
needs one of the role read. With `dns.workers` the figures of DNS are sums over the workers, asked at each scrape.
Counters begin at 0 with the process. A histogram `NAME` is `NAME_bucket`, `NAME_sum` and `NAME_count`.

`deploy/prometheus/` has a scrape configuration and alert rules, each explained in [alerts.md](alerts.md);
`deploy/grafana/discovery.json` is a dashboard to import.

<!-- Made by `python -m discovery.metrics_reference`. -->
"""

# Title, what is said below it, and how the names of its metrics begin; the first that fits counts.
_SECTIONS = (
    ("DNS workers", "Where `dns.workers` is above 0.", ("discovery_dns_worker",)),
    ("DNS", "", ("discovery_dns_",)),
    (
        "The view",
        "What is registered, as this node has it in memory.",
        ("discovery_view_", "discovery_feed_"),
    ),
    (
        "What is registered",
        "",
        (
            *("discovery_instances", "discovery_services", "discovery_unreadable", "discovery_registrations"),
            *("discovery_deregistrations", "discovery_heartbeats"),
        ),
    ),
    (
        "The store",
        "While the store does not answer, only `discovery_store_up`, the times and the disk are there. The leader and "
        "the members are there where it is a cluster. With etcd, `discovery_store_leases` is counted every 30 s.",
        ("discovery_store",),
    ),
    ("HTTP", "", ("discovery_http_",)),
    ("Other nodes", "Where there are any; each is asked every 5 s.", ("discovery_node_",)),
    (
        "Certificates",
        "Of HTTPS, of DNS over TLS, and of the etcd member that the node runs, where there are any.",
        ("discovery_certificate_",),
    ),
    (
        "The process",
        "What runs, and the main process's own figures.",
        ("discovery_build", "discovery_loop_", "process_"),
    ),
)

# prometheus_client's own, of which no metric is there before the process is looked at.
_PROCESS = (
    ("process_cpu_seconds_total", "counter", "CPU time, user and system."),
    ("process_max_fds", "gauge", "File descriptors that the process may have."),
    ("process_open_fds", "gauge", "File descriptors that it has."),
    ("process_resident_memory_bytes", "gauge", "Memory in use."),
    ("process_start_time_seconds", "gauge", "When it began, in seconds since 1970."),
    ("process_virtual_memory_bytes", "gauge", "Address space in use."),
)


def everything() -> list[Metric]:
    """Each metric that there can be, with some sample of it."""
    metrics = Metrics()
    metrics.count_http("GET", 200)
    metrics.time_http("GET", 0.0)
    status = Status(1, 1, 1, 1, 1, "", members=["n1"])
    around = Surroundings(
        status=status,
        workers=Tally(1, 1, 0, {0: 0}, {0: 0.0}),
        durations={"commit": Histogram(STORE_BOUNDS)},
        disk=Disk(1, 1),
        links=[("n2", Link(round_trip=0.0, clock_offset=0.0, lag=0))],
        certificates={"store.member.cert": 0.0},
    )
    view = View("/skydns", apexes=[], grace_of=lambda path: 0.0)
    return list(families(metrics, view, around))


def reference() -> str:
    rows = [_row(metric) for metric in everything()]
    rows += [(name, f"| `{name}` | {kind} |  | {text} |") for name, kind, text in _PROCESS]
    lines = [_HEAD.rstrip()]
    left = rows
    for title, said, beginnings in _SECTIONS:
        mine = [line for name, line in left if name.startswith(beginnings)]
        left = [row for row in left if not row[0].startswith(beginnings)]
        lines += ["", f"## {title}", ""]
        lines += [said, ""] if said else []
        lines += ["| metric | type | labels | what |", "| --- | --- | --- | --- |", *mine]
    assert not left, f"in no section: {left}"
    return "\n".join(lines) + "\n"


def _row(metric: Metric) -> tuple[str, str]:
    name = metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
    labels = sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
    kind = "gauge" if metric.type == "info" else metric.type
    return (
        name,
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {metric.documentation} |",
    )


def names() -> Iterator[str]:
    """All of them, as the reference has them."""
    for metric in everything():
        yield _row(metric)[0]
    for name, _, _ in _PROCESS:
        yield name


def main() -> None:
    folder = Path(__file__).parent.parent / "deploy"
    (folder / FILE).write_text(reference(), encoding="utf-8")
    print(f"wrote {folder.name}/{FILE}")


if __name__ == "__main__":
    main()

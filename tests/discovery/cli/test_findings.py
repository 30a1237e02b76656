"""What the doctor makes of figures and answers: each verdict at its border."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from discovery.cli import findings

DAY = 86400
NODE = {
    "name": "n1",
    "http": ["http://10.0.0.1:8053"],
    "version": "1.0",
    "ready": True,
    "stale": False,
    "revision": 7,
    "round_trip_ms": None,
    "clock_offset_ms": None,
    "error": "",
}
MEMBER = {"id": "1", "name": "n1", "role": "leader", "version": "3.5.9", "healthy": True, "error": ""}
STATE = {"revision": 7, "leases": 2, "size": 4096, "errors": [], "leases_held": 0, "stalls": 0}


def cluster(*nodes: dict[str, Any], members: Any = (), errors: Any = ()) -> dict[str, Any]:
    store = {"engine": "embedded", "reachable": True, "errors": list(errors), "members": list(members)}
    return {"nodes": [NODE | node for node in nodes] or [NODE], "store": store}


@pytest.mark.parametrize(
    ("offset", "uncertain", "verdict"),
    [(0.1, 0.0, "ok"), (-0.3, 0.0, "warning"), (0.3, 0.2, "ok"), (1.5, 0.1, "wrong"), (-2.0, 0.0, "wrong")],
)
def test_a_clock_is_judged_by_what_is_sure(offset: float, uncertain: float, verdict: str) -> None:
    found = findings.clock("node n2", offset, uncertain)
    assert found.verdict == verdict
    assert (" ahead" if offset > 0 else " behind") in found.said
    assert bool(found.do) == (verdict != "ok")


@pytest.mark.parametrize(
    ("free", "total", "verdict"),
    [(50 << 30, 100 << 30, "ok"), (5 << 30, 100 << 30, "warning"), (1 << 30, 100 << 30, "wrong"),
     (50 << 20, 100 << 20, "wrong"), (0, 0, "wrong")],
)  # fmt: skip
def test_room(free: int, total: int, verdict: str) -> None:
    assert findings.space("/var", free, total).verdict == verdict


@pytest.mark.parametrize(("middle", "verdict"), [(0.002, "ok"), (0.02, "warning"), (2.0, "warning")])
def test_a_slow_disk_warns(middle: float, verdict: str) -> None:
    assert findings.fsync("/var", [0.0001, middle, 3.0]).verdict == verdict


@pytest.mark.parametrize(
    ("kind", "verdict"), [("ext4", None), ("nfs4", "wrong"), ("fuse.sshfs", "wrong"), ("tmpfs", "warning")]
)
def test_file_systems(kind: str, verdict: str | None) -> None:
    found = findings.file_system("/var", kind)
    assert (found.verdict if found else None) == verdict


@pytest.mark.parametrize(
    ("bits", "secret", "verdict"),
    [(0o600, True, "ok"), (0o640, True, "warning"), (0o644, False, "ok"), (0o666, False, "wrong"),
     (0o660, True, "wrong"), (0o700, True, "ok"), (0o755, True, "warning")],
)  # fmt: skip
def test_permissions(bits: int, secret: bool, verdict: str) -> None:
    found = findings.mode("http.tls.key", "/etc/key.pem", bits, secret=secret)
    assert found.verdict == verdict
    assert found.do == ("" if verdict == "ok" else "chmod go= /etc/key.pem")


@pytest.mark.parametrize(("days", "verdict"), [(31, "ok"), (29, "warning"), (0, "wrong"), (-3, "wrong")])
def test_certificates(days: int, verdict: str) -> None:
    assert findings.certificate("http.tls.cert", "/etc/cert.pem", days * DAY).verdict == verdict


def test_one_version_is_well_and_two_are_an_upgrade_under_way() -> None:
    (found,) = findings.versions("1.0", cluster())
    assert found.verdict == "ok"
    (found,) = findings.versions("1.0", cluster({}, {"name": "n2", "version": "1.1"}))
    assert (found.verdict, found.said) == ("warning", "the nodes run 1.0 (n1), 1.1 (n2)")
    (found,) = findings.versions("0.9", cluster())
    assert (found.verdict, found.said) == ("warning", "this program is 0.9, the nodes run 1.0 (n1)")
    mixed = cluster(members=[MEMBER, MEMBER | {"version": "3.4.30"}])
    assert [each.verdict for each in findings.versions("1.0", mixed)] == ["ok", "warning"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"error": "it does not answer"}, "n1: it does not answer"),
        ({"ready": False}, "n1 is not ready"),
        ({"stale": True}, "n1 answers from a view that is no longer kept up to date"),
    ],
)
def test_a_node_that_ails_is_wrong(change: dict[str, Any], said: str) -> None:
    (found,) = findings.nodes(cluster(change))
    assert (found.verdict, found.said) == ("wrong", said)
    assert found.do


def test_the_clock_of_another_node_is_judged_too() -> None:
    other = {"name": "n2", "clock_offset_ms": 5000.0, "round_trip_ms": 2.0}
    assert [each.verdict for each in findings.nodes(cluster({}, other))] == ["ok", "ok", "wrong"]


@pytest.mark.parametrize(
    ("state", "found", "verdicts"),
    [
        ({}, cluster(), ["ok"]),
        ({"errors": ["full"]}, cluster(errors=["full"]), ["wrong"]),
        ({}, cluster(members=[MEMBER] * 3), ["ok"]),
        ({}, cluster(members=[MEMBER] * 2), ["warning", "ok"]),
        ({}, cluster(members=[MEMBER, MEMBER, MEMBER | {"healthy": False}]), ["wrong"]),
        ({"leases_held": 3}, cluster(), ["warning", "ok"]),
        ({"stalls": 1}, cluster(), ["warning", "ok"]),
    ],
)
def test_the_store(state: dict[str, Any], found: dict[str, Any], verdicts: list[str]) -> None:
    assert [each.verdict for each in findings.store(copy.deepcopy(STATE) | state, found)] == verdicts


def test_bad_records_are_named() -> None:
    assert findings.unreadable(0, []).verdict == "ok"
    found = findings.unreadable(4, [("/skydns/a", "not JSON")])
    assert found.verdict == "warning"
    assert found.said.startswith("4 stored records can't be read")
    assert found.said.endswith(": /skydns/a (not JSON)")

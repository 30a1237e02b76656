"""Questions and answers recorded from SkyDNS and CoreDNS, asked of a running node."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HERE = Path(__file__).parent
SKYDNS_ZONES = """[{name: skydns.test., ttl: 3600, negative_ttl: 60, negative_grace: 0,
  local: 104.server1.development.region1.skydns.test.}]"""
COREDNS_ZONES = ",".join(
    f"{{name: {name}, ttl: 300, negative_ttl: 30, negative_grace: 0}}"
    for name in (
        "skydns.test.",
        "skydns_extra.test.",
        "skydns_zonea.test.",
        "skydns_zoneb.test.",
        "skydns_zonec.test.",
        "skydns_zoned.test.",
        "in-addr.arpa.",
    )
)


@pytest.mark.parametrize(
    ("file", "zones", "least"),
    [("skydns2.json", SKYDNS_ZONES, 103), ("coredns_etcd.json", f"[{COREDNS_ZONES}]", 96)],
    ids=["skydns2", "coredns_etcd"],
)
def test_recorded_cases(tmp_path: Path, file: str, zones: str, least: int) -> None:
    """Loaded through the v2 keys API. `least` guards against a runner that skips what it should ask."""
    with running_node(tmp_path / "store", [f"zones={' '.join(zones.split())}"]) as node:
        done = subprocess.run(
            [
                sys.executable,
                HERE / "run_cases.py",
                HERE / file,
                *("--port", str(node.dns_port)),
                *("--load", f"etcd2=127.0.0.1:{node.http_port}"),
                *("--skip-flag", "quirk"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    counts = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", done.stdout, re.M)
    assert counts is not None, done.stdout + done.stderr
    assert int(counts[2]) == 0, done.stdout
    assert int(counts[1]) >= least, done.stdout

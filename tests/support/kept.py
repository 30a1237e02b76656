"""Keeps what a program of some version writes, for the versions that come after it.

    git archive COMMIT | tar -x -C FOLDER
    python -m tests.support.kept FOLDER NAME        makes tests/fixtures/upgrade/NAME

It runs the program in FOLDER with the packages of this environment: a node with the embedded store, registers, stops
it; where that program has them, then one with managed etcd. Kept are store.db, view.db and the member's identity
(etcd's own data is not: 64 MB, and etcd's to read). What was registered is always the same: INSTANCES.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from tests.support.etcd import free_ports
from tests.support.node import ROOT, environment, wait_for

KEPT = ROOT / "tests" / "fixtures" / "upgrade"
LONG = 3600  # seconds; a lease whose remaining time is noted
INSTANCES: dict[str, dict[str, object]] = {
    "web.prod/i1": {"host": "192.0.2.1", "port": 80, "lease_ttl": LONG, "tags": ["blue"]},
    "web.prod/i2": {"host": "192.0.2.2", "port": 81, "lease_ttl": LONG, "priority": 5, "weight": 7},
    "db/d1": {"host": "2001:db8::1", "port": 5432, "lease_ttl": 0, "text": "for good"},
}


def main() -> None:
    program, name = Path(sys.argv[1]).resolve(), sys.argv[2]
    target = KEPT / name
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        run(program, Path(folder) / "embedded", [])
        shutil.copy(Path(folder) / "embedded" / "store.db", target / "store.db")
        client, peer = free_ports(2)
        urls = [
            f"store.member.{key}=http://127.0.0.1:{port}"
            for key, port in (("client", client), ("peer", peer))
        ]
        try:
            run(program, Path(folder) / "managed", ["store.engine=managed-etcd", "node.name=n1", *urls])
        except AssertionError as error:
            print(f"no managed etcd: {error}")
            return
        shutil.copy(Path(folder) / "managed" / "view.db", target / "view.db")
        (identity,) = [
            file for file in (Path(folder) / "managed" / "etcd").iterdir() if file.suffix == ".json"
        ]
        shutil.copy(identity, target / identity.name)


def run(program: Path, store: Path, settings: list[str]) -> None:
    """Until all is registered and saved; ended in its own way."""
    dns, http = free_ports(2)
    settings = [
        f"dns.listen=['127.0.0.1:{dns}']",
        f"http.listen=['127.0.0.1:{http}']",
        f"store.path={store}",
        *settings,
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "discovery",
            "serve",
            *(word for each in settings for word in ("--set", each)),
        ],
        cwd=program,
        env=environment() | {"PYTHONPATH": str(program)},
    )
    try:
        wait_for(lambda: process.poll() is not None or registered(http), 60, "all is registered")
        assert process.poll() is None, f"it ended with {process.returncode}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def registered(http: int) -> bool:
    for path, fields in INSTANCES.items():
        url = f"http://127.0.0.1:{http}/v1/services/{path}"
        request = urllib.request.Request(url, json.dumps(fields).encode(), method="PUT")
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except OSError:
            return False
    return True


if __name__ == "__main__":
    os.umask(0o022)
    main()

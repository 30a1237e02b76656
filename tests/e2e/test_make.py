"""What the Makefile runs beside the tests can be run as it says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.node import ROOT, environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODULES = re.findall(r"/python -m (tests\.\S+)", (ROOT / "Makefile").read_text())


def test_the_fuzzer_the_chaos_run_and_the_benchmarks_are_named() -> None:
    benches = [f"tests.bench.bench_{each}" for each in ("dns", "store", "sizing", "http", "cluster")]
    assert MODULES == [*benches, "tests.cluster.chaos", "tests.fuzz.fuzz_dns"]  # noqa: SIM300
    assert not re.search(r"/python tests/", (ROOT / "Makefile").read_text())


@pytest.mark.parametrize("module", MODULES)
def test_each_is_found_and_imported(module: str) -> None:
    command = [sys.executable, "-c", f"import {module} as named; assert callable(named.main)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr


def test_the_fuzzer_runs_for_a_second() -> None:
    command = [sys.executable, "-m", "tests.fuzz.fuzz_dns", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr

"""The chaos run in CI: a minute of faults. `make chaos` runs it for as long as one likes."""

from __future__ import annotations

import faulthandler
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SEED
from tests.support.node import ROOT, environment

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SECONDS = 62
LIMIT = 400  # for the whole of it, on a busy machine


@pytest.mark.parametrize("managed", [False, True], ids=["etcd", "managed-etcd"])
def test_a_minute_of_chaos_breaks_no_promise(tmp_path: Path, managed: bool) -> None:
    faulthandler.cancel_dump_traceback_later()  # it takes longer than a test may hang
    seed = random.Random(SEED).randrange(1_000_000)
    command = [sys.executable, "-m", "tests.cluster.chaos", "--seconds", str(SECONDS), "--seed", str(seed)]
    command += ["--keep", str(tmp_path / "site"), *(["--managed"] if managed else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, env=environment())
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]

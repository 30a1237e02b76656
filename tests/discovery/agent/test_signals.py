"""Signals and who sent them; what a terminal sends is in tests/e2e/test_run.py."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, os, signal
from discovery.agent.signals import received

async def main():
    with received((signal.SIGTERM, signal.SIGHUP)) as signals:
        for number in (signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
            found = await signals.get()
            print(found.number.name, found.by_terminal)
    print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))

asyncio.run(main())
"""


def test_what_a_process_sends_is_told_and_afterwards_nothing_is_blocked() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "SIGHUP False\nSIGTERM False\n[]\n", ran.stderr

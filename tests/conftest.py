"""Runs `async def` tests on a fresh event loop, and names the seed of everything random."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
import sys

import pytest

if os.environ.get("TEST_PYTHON"):
    sys.modules["discovery.dns._fast"] = None  # type: ignore[assignment]  # as where there is no C compiler

# Whoever runs the tests in the background of a script has SIGINT ignored, and so would every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

MEMORY, ROOM = "/dev/shm", 2 << 30  # the second in bytes  # the tests' files, each run in a folder of its own


def _is_roomy(folder: str) -> bool:
    """In containers it may be small, and nothing in it may be run."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize > ROOM and not found.f_flag & os.ST_NOEXEC


# What the store makes durable costs milliseconds a write on a disk: more than most tests take.
if _is_roomy(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

SEED = int(os.environ.get("TEST_SEED", "20260101"))


def pytest_report_header() -> str:
    return f"seed: {SEED} (TEST_SEED=N for another)"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Any coroutine function is a test of its own event loop; no plugin is needed for that."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), timeout=60))
    return True


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)

"""The event loop that processes of ours run on, and how Python itself is set for them."""

from __future__ import annotations

import asyncio
import gc
import sys

SWITCH_INTERVAL = 0.0001
"""Seconds (Python's own: 0.005) after which a thread that waits for the interpreter gets it from a busy one: beside
DNS at full load the store's threads wait for it at every step, and writers for them."""

GC_THRESHOLD = (20_000, 20, 20)
"""Python's own (700, 10, 10) looks for cycles so often that it takes a tenth of a registration's time."""


def set_interpreter() -> None:
    """For a process that answers for long; a DNS worker has no store, and gains by the second alone."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*GC_THRESHOLD)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed, else asyncio's own, which does the same more slowly."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()

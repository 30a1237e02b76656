"""The embedded engine, opened on a directory for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from discovery.kv.embedded import EmbeddedStore
from tests.support.clock import FakeClock


@asynccontextmanager
async def opened(
    path: Path,
    clock: FakeClock | None = None,
    *,
    keep_seconds: float = 300.0,
    keep_revisions: int = 1_000_000,
    watch_queue: int = 10_000,
    max_bytes: int = 0,
) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(
        path,
        clock=clock or FakeClock(),
        keep_seconds=keep_seconds,
        keep_revisions=keep_revisions,
        watch_queue=watch_queue,
        max_bytes=max_bytes,
    )
    await store.start()
    try:
        yield store
    finally:
        await store.close()

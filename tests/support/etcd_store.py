"""The etcd engine, opened on a cluster for one test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from discovery.kv.contract import Unavailable
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import Access
from tests.support.etcd import EtcdCluster


@asynccontextmanager
async def opened(
    at: EtcdCluster | Access, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[EtcdStore]:
    """A store on all members of a cluster, or as the access says; closed at the end."""
    store = EtcdStore(at if isinstance(at, Access) else Access(at.endpoints), clock=clock)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def eventually(write: Callable[[], object], seconds: float = 60.0) -> None:
    """Awaits `write()` again and again until the store takes it. Fails the test after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        try:
            await write()  # type: ignore[misc]  # any awaitable
            return
        except Unavailable:
            assert time.monotonic() < end, "the store never came back"
            await asyncio.sleep(0.02)

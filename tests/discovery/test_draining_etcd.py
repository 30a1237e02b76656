"""Draining over a real etcd: its transactions are bounded, and another node hears of it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from discovery.drained import DrainedInstances
from discovery.draining import AT_ONCE
from discovery.feed import Feed
from discovery.metrics import Metrics
from discovery.registry import Registry
from discovery.service import Service
from discovery.settings import LeasesConfig
from discovery.view import View
from tests.support.api import until
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PATHS = [(b"test", b"web", b"i%03d" % number) for number in range(2 * AT_ONCE + 1)]


async def node(stack: AsyncExitStack, cluster: EtcdCluster) -> tuple[Registry, View, DrainedInstances]:
    store = await stack.enter_async_context(opened(cluster))
    metrics = Metrics()
    view = View("/skydns", apexes=[PATHS[0][:1]], grace_of=lambda path: 0.0)
    feed = Feed(store, view, metrics, prefix="/skydns", stale_after=5)
    instances = DrainedInstances(store, prefix="/skydns")
    await feed.start()
    stack.push_async_callback(feed.close)
    instances.start()
    stack.push_async_callback(instances.close)
    await instances.loaded.wait()
    registry = Registry(store, view, feed, metrics, instances, prefix="/skydns", limits=LeasesConfig())
    return registry, view, instances


async def test_a_whole_lease_leaves_dns_on_every_node(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path) as cluster:
        async with AsyncExitStack() as stack:
            first, view, _ = await node(stack, cluster)
            second, others_view, others = await node(stack, cluster)
            lease = (await first.lease_grant(60)).id
            for path in PATHS:
                await first.register(path, Service(host="10.0.0.1"), lease=lease)
            found = await first.draining.drain_lease(lease)
            assert [each.record.path for each in found] == PATHS
            assert view.root.count == 0
            await until(lambda: others_view.root.count == 0 and len(others) == len(PATHS))
            done = await second.register(PATHS[0], Service(host="10.0.0.2"), lease=lease)
            assert done.drained_at == found[0].at
            assert await second.heartbeat(PATHS[1]) is not None
            assert len(await second.draining.undrain_lease(lease)) == len(PATHS)
            await until(lambda: view.root.count == len(PATHS))
            await second.draining.drain(PATHS[3])
            await first.lease_revoke(lease)
            await until(lambda: len(others) == 0 and others_view.root.count == 0)

"""Workers that don't come up, and whether one is at work."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from discovery import sockets
from discovery.dns.counters import DnsCounters
from discovery.dns_settings import view_of
from discovery.errors import ConfigError
from discovery.settings import Config
from discovery.view import View
from discovery.workers import pool
from discovery.workers.messages import Handed, Loaded, SetUp, Told
from discovery.workers.pool import FAILURES, Workers, is_busy
from tests.support.loop import until
from tests.support.node import wait_for

pytestmark = pytest.mark.slow


async def test_workers_that_end_at_once_end_the_start(caplog: pytest.LogCaptureFixture) -> None:
    def opening(handed: Handed) -> Iterator[Told]:
        yield SetUp(Config(zones=()), "n1", [], handed)  # no node has such a configuration

    workers = Workers(1, DnsCounters(), opening)
    udp, tcp = sockets.bind_dns("127.0.0.1:0")
    await workers.start(udp, [tcp])
    with pytest.raises(ConfigError, match=rf"worker 0 ended {FAILURES} times before it answered"):
        await workers.settle(ready=True)
    await workers.close()
    assert caplog.text.count("has ended: it is replaced") >= FAILURES


async def test_workers_that_cannot_be_told_what_there_is_end_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def opening(handed: Handed) -> Iterator[Told]:
        yield SetUp(Config(), "n1", [], handed)
        raise OSError("no more")

    workers = Workers(1, DnsCounters(), opening)
    udp, tcp = sockets.bind_dns("127.0.0.1:0")
    await workers.start(udp, [tcp])
    with pytest.raises(ConfigError, match="worker 0 ended"):
        await workers.settle(ready=True)
    await workers.close()
    assert "no more" in caplog.text


def test_a_process_that_computes_is_busy_and_one_that_is_stopped_or_sleeps_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        wait_for(lambda: is_busy(process.pid), 30, "it is busy")
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: not is_busy(process.pid), 30, "it is not busy")
        process.kill()
    assert not is_busy(process.pid)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        wait_for(lambda: not is_busy(process.pid), 30, "it is not busy")
        process.kill()


async def test_a_killed_worker_is_back_at_once_and_its_start_is_little_more_than_python_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So it is back in less than a second, where it has a CPU: nothing is waited for, no look and no back-off."""
    monkeypatch.setattr(pool, "LOOK_EVERY", 1000.0)
    config = Config()
    view = view_of(config, View)
    view.restore([], 1, 0.0)

    def opening(handed: Handed) -> Iterator[Told]:
        yield SetUp(config, "n1", ["127.0.0.1"], handed)
        yield Loaded(view.standing())

    workers = Workers(1, DnsCounters(), opening)
    udp, tcp = sockets.bind_dns("127.0.0.1:0")
    await workers.start(udp, [tcp])
    async with asyncio.timeout(60):
        await workers.settle(ready=True)
        (link,) = workers._links()
        link.process.kill()
        await until(lambda: workers.replaced == 1)
        await workers.settle(ready=True)
    (again,) = (await workers.tally()).cpu_seconds.values()
    await workers.close()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", "import discovery.workers.process"], check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    alone = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert again < 2 * alone + 0.2

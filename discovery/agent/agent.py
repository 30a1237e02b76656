"""The agent of a host: its file, its checks, its lease, and what systemd and signals say.

Owns the order of its life: it reads the file, keeps what is well registered, reads the file again when it changes or
on SIGHUP and stirs only what is another than before, and on SIGTERM takes all of it out of DNS, waits until no resolver
can hold it, and ends. How a lease is kept is `shared_lease`'s, what a check asks is `probes`'.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import msgspec

from discovery.agent.declared import Declared, DeclaredCheck, DeclaredService, Key, probe, read
from discovery.agent.notify import Notify
from discovery.agent.shared_lease import SharedLease
from discovery.client import Checking, Client
from discovery.client.endings import to_the_end
from discovery.errors import ConfigError

LOOK_SECONDS = 1.0  # between two looks at the file
LONGEST_WAIT = 30.0  # seconds to wait at the end, at most

log = logging.getLogger("discovery.client")


class _Service(msgspec.Struct):
    """`healthy` outlives a change of the fields, and is where a changed check begins."""

    declared: DeclaredService
    healthy: bool
    checking: asyncio.Task[None] | None


class Agent:
    """`path`: its file. Raises ConfigError when that cannot be used at the start; later that is only logged."""

    def __init__(self, client: Client, path: Path, notify: Notify) -> None:
        self._path = path
        self._notify = notify
        self._seen = self._state()
        self._declared = read(path)
        self._lease = SharedLease(client, self._declared.lease_ttl)
        self._services: dict[Key, _Service] = {}
        self._reload = asyncio.Event()
        self._stop: asyncio.Queue[None] = asyncio.Queue()  # each time that it is told to stop

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; a second one doesn't wait for resolvers."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.put_nowait, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        self._take(self._declared)
        tasks = [
            asyncio.create_task(work) for work in (self._lease.live(), self._watch_file(), self._alive())
        ]
        stopping = asyncio.create_task(self._stop.get())
        try:
            self._notify.ready(self._status())
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                self._notify.stopping()
                await self._leave()
            else:
                for task in tasks:
                    if task.done():
                        task.result()  # they end only with an error
        finally:
            await to_the_end(self._end([stopping, *tasks]))

    async def _leave(self) -> None:
        """Out of DNS, and until no resolver can hold it."""
        seconds = min(LONGEST_WAIT, await self._lease.leave())
        try:
            async with asyncio.timeout(seconds):
                await self._stop.get()
        except TimeoutError:
            pass

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        checks = [each.checking for each in self._services.values() if each.checking is not None]
        for task in (*tasks, *checks):
            task.cancel()
        await asyncio.gather(*tasks, *checks, return_exceptions=True)
        await self._lease.end()

    # ------------------------------------------------------------ the file

    def _state(self) -> object:
        """Another one when the file is another, also when it was put in the old one's place."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    async def _watch_file(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._reload.wait()
            except TimeoutError:
                if self._state() == self._seen:
                    continue
            self._reload.clear()
            self._seen = self._state()
            self._notify.reloading()
            try:
                self._take(read(self._path))
                log.info("read %s again", self._path)
            except ConfigError as error:
                log.warning("%s; going on as before", error.detail)
            self._notify.ready(self._status())

    def _take(self, declared: Declared) -> None:
        """From now on these services; only what differs from before is touched."""
        self._declared = declared
        self._lease.ttl = declared.lease_ttl
        for key in [key for key in self._services if key not in declared.services]:
            gone = self._services.pop(key)
            if gone.checking is not None:
                gone.checking.cancel()
            self._lease.want(key, None)
        for key, new in declared.services.items():
            before = self._services.get(key)
            if before is None:
                self._services[key] = before = _Service(new, new.check is None, None)
                self._check(key, before, new.check)
            elif before.declared.check != new.check:
                if before.checking is not None:
                    before.checking.cancel()
                before.healthy = before.healthy or new.check is None
                self._check(key, before, new.check)
            before.declared = new
            self._lease.want(key, new.fields() if before.healthy else None)

    def _check(self, key: Key, service: _Service, check: DeclaredCheck | None) -> None:
        if check is None:
            service.checking = None
            return
        checking = Checking(
            probe(check),
            every=check.every,
            timeout=check.timeout,
            rise=check.rise,
            fall=check.fall,
            healthy=service.healthy,
        )

        def tell(healthy: bool) -> None:
            service.healthy = healthy
            self._lease.want(key, service.declared.fields() if healthy else None)

        service.checking = asyncio.create_task(checking.run(tell, f"{key[1]} of {key[0]}"))

    # ------------------------------------------------------------ systemd

    def _status(self) -> str:
        registered, _ = self._lease.counts
        return f"{registered} of {len(self._services)} services are registered"

    async def _alive(self) -> None:
        """Signs of life, from the loop that does all the work; and how it is."""
        told = ""
        while True:
            await asyncio.sleep(self._notify.watchdog or LOOK_SECONDS)
            self._notify.alive()
            if self._status() != told:
                told = self._status()
                self._notify.status(told)

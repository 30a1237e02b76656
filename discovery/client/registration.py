"""One instance that stays registered for as long as its program runs.

Owns the instance from `async with` to its end: it registers as soon as a node takes it, beats when the node asks for
it, registers again when the lease is gone, stands back while it is not healthy, and deregisters at the end, also when
it is cancelled, but for what another program has registered in its place. It tells what becomes of it in the log
`discovery.client`. Its time is the loop's, which no step of the machine's clock moves; how long the lease lives is the
node's to say.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
from types import TracebackType
from typing import Self, Unpack

from discovery.client import pace
from discovery.client.checks import Check, Checking
from discovery.client.client import LAST_CALL, Client
from discovery.client.endings import to_the_end
from discovery.client.errors import ClientError, NotRegistered, Refused, Unavailable
from discovery.client.fields import Fields, Instance
from discovery.client.ownership import withdraw

log = logging.getLogger("discovery.client")


def instance_id(port: int | None) -> str:
    """This machine's name and the port, as one label: the same after a restart, another for another port."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
    return f"{host[:50]}-{port}" if port else host[:63].rstrip("-")


class Registration:
    """For `async with`, which is entered at once, whether or not a node is there; `registered()` waits for it.

        async with Registration("web.prod", port=8080, lease_ttl=15):
            await serve()

    `instance`: its id, by default of machine and port. `client`: an open one; by default one of its own, from the
    environment. `checking`: it is registered only while this passes, and not before it has. The other
    fields are those of Fields. Raises ConfigError, and nothing at the end: that it could not deregister is logged.
    """

    def __init__(
        self,
        service: str,
        instance: str | None = None,
        *,
        client: Client | None = None,
        checking: Checking | Check | None = None,
        **fields: Unpack[Fields],
    ) -> None:
        self.service = service
        self.instance = instance or instance_id(fields.get("port"))
        self.error: ClientError | None = None  # why it is not registered, or the last call of it failed
        self._fields = fields
        self._client = client or Client()
        self._own_client = client is None
        self._checking = Checking(checking) if callable(checking) else checking
        self._healthy = checking is None
        self._answer: Instance | None = None  # to the last PUT; None: not registered, as far as we know
        self._sent = False  # a PUT may have reached a node, and nothing has taken it back
        self._every: float | None = None  # seconds between heartbeats, as the node asked last
        self._left = False
        self._calling = asyncio.Lock()  # one call at a time, so that the last one said counts
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        return self._answer.name if self._answer is not None else f"{self.instance} of {self.service}"

    @property
    def healthy(self) -> bool:
        return self._healthy

    @healthy.setter
    def healthy(self, healthy: bool) -> None:
        """False: it deregisters and stays away until this is True again."""
        if healthy != self._healthy:
            self._healthy = healthy
            self._wake.set()

    async def registered(self, seconds: float | None = None) -> Instance:
        """Waits until it is registered, at most `seconds`. Raises TimeoutError, and Refused as soon as a node says no
        (it goes on trying all the same)."""
        async with asyncio.timeout(seconds):
            while self._answer is None:
                if isinstance(self.error, Refused):
                    raise self.error
                await self._changed.wait()
            return self._answer

    async def refused(self) -> Refused:
        """Waits until a node says no; it goes on trying all the same."""
        while not isinstance(self.error, Refused):
            await self._changed.wait()
        return self.error

    async def leave(self) -> float:
        """Deregisters for good, at once; seconds until no resolver can hold it any more. 0 when it was not registered,
        or no node is in reach.

        It does not drain: what was drained stays so when it registers again, and whoever is killed while it ends would
        be out of DNS after its next start.
        """
        async with self._calling:
            self._left = True
            if not self._sent:
                return 0.0
            ttl = self._answer.ttl if self._answer is not None else 0
            try:
                await self._deregister(pace.patience(self._every))
            except ClientError as error:
                log.warning("%s could not leave DNS: %s", self.name, error.detail)
                return 0.0
            return ttl + pace.SPREAD

    async def __aenter__(self) -> Self:
        if self._own_client:
            await self._client.__aenter__()
        self._tasks = [asyncio.create_task(self._live(), name=f"registration of {self.name}")]
        if self._checking is not None:
            check = self._checking.run(self._set_healthy, self.name)
            self._tasks.append(asyncio.create_task(check, name=f"check of {self.name}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await to_the_end(self._end())

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if self._sent:
                await self._deregister(LAST_CALL)
        except ClientError as error:
            self.error = error
            log.warning("could not deregister %s (%s): %s", self.name, error.detail, self._fate())
        finally:
            if self._own_client:
                await self._client.__aexit__(None, None, None)

    def _fate(self) -> str:
        if lease := self._fields.get("lease"):
            return f"it stays until lease {lease} ends"
        ttl = self._answer.lease_ttl if self._answer is not None else self._fields.get("lease_ttl")
        return f"its lease runs out by itself within {ttl} s" if ttl else "its lease runs out by itself"

    # ------------------------------------------------------------ the loop

    def _set_healthy(self, healthy: bool) -> None:
        self.healthy = healthy

    async def _live(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._wake.clear()
            # Counted from the call's begin: one that hung has used up the pause, and the lease goes on running.
            began = clock()
            async with self._calling:
                pause = await self._step()
            try:
                async with asyncio.timeout(None if pause is None else max(0.0, pause - (clock() - began))):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _step(self) -> float | None:
        """One call, and what follows from it; seconds until the next, counted from its begin."""
        share = random.random()  # noqa: S311  # it spreads load
        try:
            if not self._healthy or self._left:
                if self._sent:
                    await self._deregister(pace.patience(self._every))
                return None
            if self._answer is None or not await self._beat():
                await self._register()
        except Unavailable as error:
            self._failed(error, "trying again until a node is back")
            return pace.next_try(self._every, share, error.retry_after)
        except Refused as error:
            self._failed(error, "trying again now and then")
            return pace.REFUSED
        return pace.next_beat(self._every, share)

    def _failed(self, error: ClientError, then: str) -> None:
        if self.error is None or type(error) is not type(self.error):
            log.warning("%s: %s; %s", self.name, error.detail, then)
        self.error = error
        self._tell()

    def _tell(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _register(self) -> None:
        before, self._sent = self._sent, True  # from here on, whatever comes back
        put = self._client.register if before else self._client.claim
        try:
            self._answer = await put(
                self.service, self.instance, seconds=pace.patience(self._every), **self._fields
            )
        except Refused:
            self._sent = before  # but a no
            raise
        self._every = self._answer.heartbeat_every
        self.error = None
        log.info("registered %s", self.name)
        self._tell()

    async def _beat(self) -> bool:
        """False: the node no longer knows it."""
        try:
            beat = await self._client.heartbeat(
                self.service, self.instance, seconds=pace.patience(self._every)
            )
        except NotRegistered:
            log.warning("%s: no node knows it any longer; registering it again", self.name)
            self._answer = None
            return False
        self._every = beat.heartbeat_every
        if self.error is not None:
            log.warning("%s: a node is back", self.name)
            self.error = None
        return True

    async def _deregister(self, seconds: float) -> None:
        mine = True
        try:
            if self._answer is not None:
                mine = await withdraw(
                    self._client, self.service, self.instance, self._answer, seconds=seconds
                )
            else:  # what a lost call may have made
                await self._client.deregister(self.service, self.instance, seconds=seconds)
        except NotRegistered:
            pass  # gone already
        if mine:
            log.info("deregistered %s", self.name)
        else:
            log.warning("%s was registered anew by another program, so it stays", self.name)
        self._answer, self._sent, self.error = None, False, None

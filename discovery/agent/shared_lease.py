"""Many instances under one lease: what should be registered is made so, and one heartbeat keeps all of it.

Owns the lease, what hangs on it as far as is known, and the loop that brings that to what is `wanted`: only what
differs is called. It looks now and then at what the node has on the lease, since others may take instances off it.
Who is well enough to be wanted is the agent's to say.
"""

from __future__ import annotations

import asyncio
import logging
import random

import msgspec

from discovery.agent.declared import Key
from discovery.client import (
    Client,
    ClientError,
    Fields,
    Instance,
    Lease,
    NotRegistered,
    Refused,
    Unavailable,
    pace,
)
from discovery.client.client import LAST_CALL
from discovery.client.ownership import withdraw

LOOK_EVERY = 5  # heartbeats between two looks at what is on the lease

log = logging.getLogger("discovery.client")


class _Held(msgspec.Struct):
    """`made`: the answer to its put, None while there is none."""

    fields: Fields
    made: Instance | None = None

    @property
    def name(self) -> str | None:
        return self.made.name if self.made is not None else None


class SharedLease:
    """`ttl`: seconds; another one counts from the next lease on."""

    def __init__(self, client: Client, ttl: int) -> None:
        self.ttl = ttl
        self.registered = asyncio.Event()  # all that is wanted
        self._client = client
        self._wanted: dict[Key, Fields] = {}
        self._held: dict[Key, _Held] = {}  # what was put under this lease, whatever came back
        self._refused: dict[Key, Fields] = {}  # what a node said no to, until the next round
        # What is another that is wanted in other words, until something else is wanted.
        self._doubles: set[Key] = set()
        self._lease: Lease | None = None
        self._away = False
        self._left = False
        self._beats = 0
        self._due = 0.0  # the loop's time at which to beat
        self._every: float | None = None
        self._calling = asyncio.Lock()
        self._wake = asyncio.Event()

    def want(self, key: Key, fields: Fields | None) -> None:
        """None: it is to leave."""
        if fields == self._wanted.get(key):
            return
        if fields is None:
            del self._wanted[key]
        else:
            self._wanted[key] = fields
        self._refused.pop(key, None)
        self._doubles.clear()
        self.registered.clear()
        self._wake.set()

    @property
    def counts(self) -> tuple[int, int]:
        """How many instances are registered, and how many are wanted."""
        return sum(held.made is not None for held in self._held.values()), len(self._wanted)

    async def live(self) -> None:
        """For ever."""
        clock = asyncio.get_running_loop().time
        while True:
            self._wake.clear()
            async with self._calling:
                pause = await self._step(clock())
            try:
                async with asyncio.timeout(None if pause is None else max(0.0, pause - clock())):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def leave(self) -> float:
        """Takes all of it out for good, at once; seconds until no resolver can hold any of it. 0 when nothing was
        registered, or no node is in reach. Why it does not drain, Registration.leave says."""
        async with self._calling:
            self._left = True
            if self._lease is None:
                return 0.0
            longest = max((each.made.ttl for each in self._held.values() if each.made is not None), default=0)
            try:
                await self._revoke()
            except ClientError as error:
                log.warning("could not leave DNS: %s", error.detail)
                return 0.0
            return longest + pace.SPREAD

    async def end(self) -> None:
        """Takes all of it out; what cannot be taken out is logged, and runs out by itself."""
        if self._lease is not None:
            try:
                await self._revoke()
            except ClientError as error:
                log.warning(
                    "could not deregister (%s): the lease runs out by itself within %d s",
                    error.detail,
                    self._lease.ttl,
                )

    async def _revoke(self) -> None:
        assert self._lease is not None
        try:
            await self._client.revoke_lease(self._lease.id, seconds=LAST_CALL)
        except NotRegistered:
            pass  # it has ended already
        log.info("deregistered all under lease %s", self._lease.id)
        self._lost()

    # ------------------------------------------------------------ the loop

    @property
    def _patience(self) -> float:
        return pace.patience(self._every)

    def _lost(self) -> None:
        self._lease = None
        self._held.clear()
        self._refused.clear()

    async def _step(self, now: float) -> float | None:
        """All calls that are due; the loop's time of the next one, None: when something changes."""
        share = random.random()  # noqa: S311  # it spreads load
        try:
            if self._left or (self._lease is None and not self._wanted):
                self.registered.set()
                return None
            try:
                await self._bring_about(now, share)
            except NotRegistered:
                log.warning("lease %s is gone; registering all of it again", self._lease and self._lease.id)
                self._lost()
                await self._bring_about(now, share)
        except Unavailable as error:
            if not self._away:
                log.warning("%s; trying again until a node is back", error.detail)
            self._away = True
            return now + pace.next_try(self._every, share, error.retry_after)
        except Refused as error:
            log.warning("%s; trying again now and then", error.detail)
            return now + pace.REFUSED
        if self._away:
            log.warning("a node is back")
        self._away = False
        if self._refused:
            return min(self._due, now + pace.REFUSED)
        self.registered.set()
        return self._due

    async def _bring_about(self, now: float, share: float) -> None:
        """Raises NotRegistered when the lease is gone."""
        if self._lease is None:
            self._lease = await self._client.grant_lease(self.ttl, seconds=self._patience)
            self._every = self._lease.heartbeat_every or self._lease.ttl / 3
            self._due, self._beats = now + pace.next_beat(self._every, share), 0
        elif now >= self._due:
            beat = await self._client.lease_heartbeat(self._lease.id, seconds=self._patience)
            self._every = beat.heartbeat_every
            self._due = now + pace.next_beat(self._every, share)
            self._beats += 1
            self._refused.clear()
            if self._beats % LOOK_EVERY == 0:
                await self._look()
        await self._differences()

    async def _look(self) -> None:
        """Forgets what is no longer on the lease, so that it is put there again."""
        assert self._lease is not None
        there = {
            each.name for each in await self._client.lease_instances(self._lease.id, seconds=self._patience)
        }
        for key, held in list(self._held.items()):
            if held.name is not None and held.name not in there:
                log.warning("%s was taken off the lease; registering it again", held.name)
                del self._held[key]

    async def _differences(self) -> None:
        """What is wanted comes first: so what only its file names otherwise than before is there all the time."""
        assert self._lease is not None
        for key, fields in list(self._wanted.items()):
            held = self._held.get(key)
            if key in self._refused or key in self._doubles:
                continue
            if held is None or held.made is None or held.fields != fields:
                await self._put(key, fields)
        for key in [key for key in self._held if key not in self._wanted and key not in self._refused]:
            held = self._held[key]
            try:
                if held.made is None:  # what a lost call may have made
                    await self._client.deregister(*key, seconds=self._patience)
                elif self._holder(held.made, key) is None:
                    await withdraw(self._client, *key, held.made, seconds=self._patience)
            except NotRegistered:
                pass  # gone already
            except Refused as error:
                log.warning("%s of %s: %s; trying again now and then", key[1], key[0], error.detail)
                self._refused[key] = held.fields
                continue
            log.info("deregistered %s", held.name or f"{key[1]} of {key[0]}")
            del self._held[key]

    def _holder(self, made: Instance, but: Key) -> Key | None:
        """Which other key, in other words, is this very instance, and wanted."""
        same = (key for key, held in self._held.items() if held.name == made.name and key in self._wanted)
        return next((key for key in same if key != but), None)

    async def _put(self, key: Key, fields: Fields) -> None:
        assert self._lease is not None
        before = self._held.get(key)
        if before is None:
            self._held[key] = _Held(fields)
        on_lease: Fields = {**fields, "lease": self._lease.id}
        try:
            made = await self._client.register(*key, seconds=self._patience, **on_lease)
        except NotRegistered:
            raise  # of the lease: an instance is made where there is none
        except Refused as error:
            log.warning("%s of %s: %s; trying again now and then", key[1], key[0], error.detail)
            self._refused[key] = fields
            if before is None:
                del self._held[key]
            return
        if (other := self._holder(made, key)) is not None:
            log.warning(
                "%s of %s is %s of %s in other words (%s): give one of them another instance",
                *(key[1], key[0], other[1], other[0], made.name),
            )
            self._doubles.add(key)
            del self._held[key]
            await self._put(other, self._wanted[other])  # as it was
            return
        log.info("registered %s", made.name)
        self._held[key] = _Held(fields, made)

"""The registry: register, heartbeat, deregister. The rules, and the only writer to the store.

Owns what a registration does to keys and leases. It never answers a question (the view does) and knows no HTTP.
How: a write reads the key as the store has it, or takes it as the view has it where the transaction will tell if that
is late, decides, and commits in one transaction that compares the key's modification revision; a lost race begins anew.
After a write it waits until the view holds the write's own revision, which lies below the prefix, so that this node's
DNS answers with it.

Keys as they are, and whose lease a key hangs on, are `raw`'s (raw_keys).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from discovery import drained, names, service
from discovery.drained import DrainedInstances
from discovery.draining import Draining, no_instance
from discovery.errors import InvalidField, PreconditionFailed
from discovery.feed import Feed
from discovery.kv.contract import KV, Lease, LeaseNotFound, Put, Store
from discovery.metrics import Metrics
from discovery.names import Path
from discovery.raw_keys import ATTEMPTS, WAIT_FOR_VIEW, RawKeys, contended, stored_service, unchanged
from discovery.service import Service
from discovery.settings import LeasesConfig
from discovery.view import View

MAX_REVISION = (1 << 63) - 1

Revisions = frozenset[int] | Literal["*"]


class Precondition(msgspec.Struct, frozen=True):
    """RFC 9110 sections 13.1.1 and 13.1.2, on modification revisions; "*" is any present one. None: not asked."""

    if_match: Revisions | None = None
    if_none_match: Revisions | None = None

    def matches(self, revision: int) -> bool:
        """Whether `If-None-Match` names what is there (0: nothing is)."""
        wanted = self.if_none_match
        return wanted is not None and revision != 0 and (wanted == "*" or revision in wanted)

    def check(self, revision: int) -> None:
        """For a write. Raises PreconditionFailed. `revision` is what is there, 0: nothing."""
        self.check_read(revision)
        if self.matches(revision):
            raise PreconditionFailed(
                f"If-None-Match does not hold, it is there at revision {revision}: read it and decide anew"
            )

    def check_read(self, revision: int) -> None:
        """For a read, where only If-Match can fail. Raises PreconditionFailed."""
        wanted = self.if_match
        if wanted is not None and (revision == 0 or (wanted != "*" and revision not in wanted)):
            present = f"it is at revision {revision}" if revision else "there is none"
            raise PreconditionFailed(f"If-Match does not hold, {present}: read it again and decide anew")


ALWAYS = Precondition()


class Registered(msgspec.Struct, frozen=True, gc=False):
    """`service` as stored; `lease` 0: permanent; `lease_ttl` as granted (of an own lease in a batch as stored).

    `revision` is the instance's; `reflects` that of the store which this is the answer of, never less. `drained_at`:
    when it was taken out of DNS (seconds since the epoch); None: it is in DNS.
    """

    created: bool
    service: Service
    revision: int
    reflects: int
    lease: int
    lease_ttl: int
    drained_at: float | None = None


def lease_text(lease_id: int) -> str:
    """As etcdctl prints it: 16 hex digits."""
    return f"{lease_id:016x}"


class Registry:
    """`prefix` without a final slash; `limits` are the TTLs a lease may be asked for; `wall` gives seconds since the
    epoch. `instances` are those that were taken out of DNS."""

    def __init__(
        self,
        store: Store,
        view: View,
        feed: Feed,
        metrics: Metrics,
        instances: DrainedInstances,
        *,
        prefix: str,
        limits: LeasesConfig,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._view = view
        self._feed = feed
        self._metrics = metrics
        self._prefix = prefix
        self._limits = limits
        self.raw = RawKeys(store, view, feed, prefix=prefix)
        self.draining = Draining(store, view, feed, self.raw, instances, prefix=prefix, wall=wall)

    # ------------------------------------------------------------ instances

    async def register(
        self,
        path: Path,
        fields: Service,
        *,
        lease: int | None = None,
        lease_ttl: int | None = None,
        when: Precondition = ALWAYS,
    ) -> Registered:
        """Puts the instance, on `lease` when one is given, else on a lease of its own of `lease_ttl` seconds.

        `lease_ttl` 0: permanent; None: the configured default. What would change nothing only renews the lease.
        What was drained stays drained.
        Raises InvalidField, PreconditionFailed, LeaseNotFound, Conflict, and the store's errors.
        """
        key = names.key_of(path, self._prefix)
        ttl = self.checked_ttl(lease_ttl, "lease_ttl") if lease_ttl != 0 else 0
        async with self.raw.locks.hold(key):
            return await self._register(path, key, fields, lease, ttl, when)

    async def _register(
        self, path: Path, key: bytes, fields: Service, lease: int | None, ttl: int, when: Precondition
    ) -> Registered:
        away = self.draining.instances.find(path)  # first as known here: the transaction compares it
        for attempt in range(ATTEMPTS):
            seen = self._viewed(path, key, fields, when) if not attempt and away is None else None
            if seen is not None:
                present, stored = seen
                held = present
            else:
                present = await self.raw.read(key)
                if present is not None:
                    away = None
                elif attempt:
                    away = await self.draining.read(path)
                held = away.original if away is not None else present
                when.check(held.mod_revision if held else 0)
                stored = stored_service(held)
            use = granted = grant = 0
            if lease is not None:
                use, granted = lease, await self.lease_heartbeat(lease)
                new = msgspec.structs.replace(fields, lease_ttl=granted)
            elif ttl == 0:
                new = fields
            else:
                new = msgspec.structs.replace(fields, lease_ttl=ttl, own_lease=True)
                if held and stored and stored.own_lease and stored.lease_ttl == ttl and held.lease:
                    granted = await self._store.lease_keepalive(held.lease)
                use, grant = (held.lease, 0) if held and granted else (0, ttl)
            if held and stored == new and held.lease == use and not grant:
                if away is not None and not attempt and await self.draining.read(path) != away:
                    continue  # what is known here may be late; where something is written, the transaction compares
                self._metrics.registrations_unchanged += 1
                if away is None:
                    await self._feed.wait(held.mod_revision, WAIT_FOR_VIEW)
                reflects = max(held.mod_revision, self._view.revision)
                at = away.at if away is not None else None
                return Registered(False, new, held.mod_revision, reflects, use, granted, at)
            compares = [unchanged(key, present)]
            value = service.write(new)
            put = Put(key, value, use)
            if present is None:  # nor may it be drained, or come back, meanwhile
                kept = away.kv if away is not None else None
                compares.append(unchanged(kept.key if kept is not None else drained.drained_key(key), kept))
            if away is not None:
                put = Put(away.kv.key, drained.write(away.at, value), use)
            self._view.expected[key] = value, new
            try:
                done = await self._store.txn(compares, [put], grant_ttl=grant)
                if done.succeeded and away is None:
                    await self._feed.wait(done.revision, WAIT_FOR_VIEW)
            except LeaseNotFound:
                continue  # it ended just now; the next attempt finds out which way to go
            finally:
                self._view.expected.pop(key, None)
            if not done.succeeded:
                continue
            if done.lease is not None:
                use, granted = done.lease.id, done.lease.ttl
            self._metrics.registrations += 1
            await self.raw.release(held, use, stored)
            if away is not None:
                self.draining.instances.put(
                    KV(put.key, put.value, away.kv.create_revision, done.revision, away.kv.version + 1, use)
                )
                return Registered(False, new, done.revision, done.revision, use, granted, away.at)
            return Registered(held is None, new, done.revision, done.revision, use, granted)
        raise contended(key)

    def _viewed(
        self, path: Path, key: bytes, fields: Service, when: Precondition
    ) -> tuple[KV | None, Service | None] | None:
        """What the view has there, but for its value, and what that says. None: the store must be asked.

        It need not be where something is written whatever it has: then the transaction tells if the view is late.
        """
        if when != ALWAYS:
            return None
        record = self._view.record(path)
        if record is None:
            return None, None
        if record.key != key or record.fields is None:
            return None
        if msgspec.structs.replace(record.fields, lease_ttl=0, own_lease=False) == fields:
            return None
        return KV(key, b"", record.create_revision, record.revision, 0, record.lease), record.fields

    async def deregister(self, path: Path, when: Precondition = ALWAYS) -> int:
        """Removes the instance; the revision. Raises NotFound, PreconditionFailed, Conflict."""
        key = names.key_of(path, self._prefix)
        async with self.raw.locks.hold(key):
            for _ in range(ATTEMPTS):
                held = await self.draining.registered(path)
                away = await self.draining.read(path) if held is None else None
                there = held if away is None else away.kv
                when.check(there.mod_revision if there is not None else 0)
                if away is not None:
                    revision = await self.draining.remove(away)
                elif held is not None:
                    revision = await self.raw.remove(held)
                else:
                    raise no_instance(path)
                if revision:
                    self._metrics.deregistrations += 1
                    return revision
            raise contended(key)

    async def heartbeat(self, path: Path) -> Lease | None:
        """Renews the instance's lease, which may be shared; None when it is permanent. Raises NotFound when gone."""
        record = self._view.record(path)  # of what is drained the store is asked, which few do
        tried = record.lease if record is not None else 0
        if tried and (ttl := await self._store.lease_keepalive(tried)):
            self._metrics.heartbeats += 1
            return Lease(tried, ttl)
        held = await self.draining.registered(path)  # the view may be behind: on another lease, or just put
        if held is None and (away := await self.draining.read(path)) is not None:
            held = away.kv
        if held is not None and held.lease == 0:
            return None
        if held is not None and held.lease != tried:
            ttl = await self._store.lease_keepalive(held.lease)
            if ttl:
                self._metrics.heartbeats += 1
                return Lease(held.lease, ttl)
        self._metrics.heartbeats_refused += 1
        raise no_instance(path)

    # ------------------------------------------------------------ leases

    async def lease_grant(self, ttl: int) -> Lease:
        """A lease for many instances. Raises InvalidField when the TTL is outside the configured limits."""
        return await self._store.lease_grant(self.checked_ttl(ttl, "ttl"))

    async def lease_heartbeat(self, lease_id: int) -> int:
        """The granted TTL. Raises LeaseNotFound."""
        ttl = await self._store.lease_keepalive(lease_id)
        if not ttl:
            self._metrics.heartbeats_refused += 1
            raise LeaseNotFound(
                f"the lease {lease_text(lease_id)} does not exist or has expired: "
                "grant a new one and register its instances again",
                field="lease",
            )
        self._metrics.heartbeats += 1
        return ttl

    async def lease_heartbeat_many(self, lease_ids: Sequence[int]) -> Sequence[int]:
        """Those of them that are gone."""
        gone = await self._store.lease_keepalive_many(lease_ids)
        self._metrics.heartbeats += len(lease_ids) - len(gone)
        self._metrics.heartbeats_refused += len(gone)
        return gone

    async def lease_revoke(self, lease_id: int) -> None:
        """Ends the lease and removes all it holds. Raises LeaseNotFound."""
        keys = await self._store.lease_keys(lease_id)
        with self.raw.recent.removing(keys):
            await self._store.lease_revoke(lease_id)
            for key in keys:
                self.draining.instances.remove(key, MAX_REVISION)
            held = [path for key in keys if (path := names.path_of(key, self._prefix)) is not None]
            if held:  # all go in one revision, so one of them tells for all
                path, key = held[0], names.key_of(held[0], self._prefix)
                await self._feed.wait_until(lambda: self._lease_at(path, key) != lease_id, WAIT_FOR_VIEW)

    def _lease_at(self, path: Path, key: bytes) -> int | None:
        branch = self._view.find(path)
        records = branch.records if branch is not None else ()
        return next((record.lease for record in records if record.key == key), None)

    # ------------------------------------------------------------ inside

    def checked_ttl(self, ttl: int | None, field: str) -> int:
        """The TTL that a lease is asked for. Raises InvalidField."""
        if ttl is None:
            return self._limits.default_ttl
        low, high = self._limits.min_ttl, self._limits.max_ttl
        if not low <= ttl <= high:
            permanent = ", or 0 for a permanent record" if field == "lease_ttl" else ""
            raise InvalidField(
                f"{field}: {ttl} is not from {low} to {high} seconds{permanent}; choose another", field=field
            )
        return ttl

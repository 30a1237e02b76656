"""The registry: register, heartbeat, deregister. The rules, and the only writer to the store.

Owns what a registration does to keys and leases, for `/v1` and for the raw keys of `/v2/keys`. It never answers a
question (the view does) and knows no HTTP. How: a write reads the key as the store has it, decides, and commits in
one transaction that compares the key's modification revision; a lost race begins anew. After a write it waits until
the view holds the write's own revision, which lies below the prefix, so that this node's DNS answers with it.

Whose lease: a value written here says `own_lease` when its lease was granted for it alone. A raw value can't say so;
its lease's id does (`own_lease_id`). Any other lease counts as shared, and is never revoked by a write of a key.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Sequence
from typing import Literal

import msgspec

from discovery import names, service
from discovery.errors import Conflict, InvalidField, NotFound, PreconditionFailed, StoreError
from discovery.feed import Feed
from discovery.kv.contract import (
    KV,
    Compare,
    Delete,
    DeleteResult,
    Lease,
    LeaseExists,
    LeaseNotFound,
    Put,
    Store,
    Target,
    prefix_end,
)
from discovery.metrics import Metrics
from discovery.names import Path
from discovery.service import Service
from discovery.settings import LeasesConfig
from discovery.view import View

log = logging.getLogger(__name__)

WAIT_FOR_VIEW = 2.0  # seconds
ATTEMPTS = 16  # of a write that loses races; each loss means that another writer has won
NONCE_BITS = 15

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


class Registered(msgspec.Struct, frozen=True):
    """`service` as stored; `lease` 0: permanent; `lease_ttl` as granted.

    `revision` is the instance's; `reflects` that of the store which this is the answer of, never less.
    """

    created: bool
    service: Service
    revision: int
    reflects: int
    lease: int
    lease_ttl: int


class RawPut(msgspec.Struct, frozen=True):
    kv: KV
    replaced: KV | None
    lease_ttl: int


def lease_text(lease_id: int) -> str:
    """As etcdctl prints it: 16 hex digits."""
    return f"{lease_id:016x}"


def own_lease_id(key: bytes, nonce: int) -> int:
    """The id of a lease that is the raw key's own: 48 bits of the key's digest, then 15 bits of `nonce`."""
    digest = int.from_bytes(hashlib.sha256(key).digest()[:6], "big")
    return digest << NONCE_BITS | nonce


class Registry:
    """`prefix` without a final slash; `limits` are the TTLs a lease may be asked for."""

    def __init__(
        self, store: Store, view: View, feed: Feed, metrics: Metrics, *, prefix: str, limits: LeasesConfig
    ) -> None:
        self._store = store
        self._view = view
        self._feed = feed
        self._metrics = metrics
        self._prefix = prefix
        self._limits = limits

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
        Raises InvalidField, PreconditionFailed, LeaseNotFound, Conflict, and the store's errors.
        """
        key = names.key_of(path, self._prefix)
        ttl = self._checked_ttl(lease_ttl, "lease_ttl") if lease_ttl != 0 else 0
        for _ in range(ATTEMPTS):
            held = await self._read(key)
            when.check(held.mod_revision if held else 0)
            stored = _stored(held)
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
                self._metrics.registrations_unchanged += 1
                await self._feed.wait(held.mod_revision, WAIT_FOR_VIEW)
                reflects = max(held.mod_revision, self._view.revision)
                return Registered(False, new, held.mod_revision, reflects, use, granted)
            try:
                done = await self._store.txn(
                    [_unchanged(key, held)], [Put(key, service.write(new), use)], grant_ttl=grant
                )
            except LeaseNotFound:
                continue  # it ended just now; the next attempt finds out which way to go
            if not done.succeeded:
                continue
            if done.lease is not None:
                use, granted = done.lease.id, done.lease.ttl
            self._metrics.registrations += 1
            await self._release(held, use)
            await self._feed.wait(done.revision, WAIT_FOR_VIEW)
            return Registered(held is None, new, done.revision, done.revision, use, granted)
        raise _contended(key)

    async def deregister(self, path: Path, when: Precondition = ALWAYS) -> int:
        """Removes the instance; the revision. Raises NotFound, PreconditionFailed, Conflict."""
        for _ in range(ATTEMPTS):
            held = await self._find(path)
            when.check(held.mod_revision if held else 0)
            if held is None:
                raise _no_instance(path)
            revision = await self._delete(held)
            if revision:
                self._metrics.deregistrations += 1
                return revision
        raise _contended(names.key_of(path, self._prefix))

    async def heartbeat(self, path: Path) -> Lease | None:
        """Renews the instance's lease, which may be shared; None when it is permanent. Raises NotFound when gone."""
        record = self._view.record(path)
        tried = record.lease if record is not None else 0
        if tried and (ttl := await self._store.lease_keepalive(tried)):
            self._metrics.heartbeats += 1
            return Lease(tried, ttl)
        held = await self._find(path)  # the view may be behind: put on another lease, or just now
        if held is not None and held.lease == 0:
            return None
        if held is not None and held.lease != tried:
            ttl = await self._store.lease_keepalive(held.lease)
            if ttl:
                self._metrics.heartbeats += 1
                return Lease(held.lease, ttl)
        self._metrics.heartbeats_refused += 1
        raise _no_instance(path)

    # ------------------------------------------------------------ leases

    async def lease_grant(self, ttl: int) -> Lease:
        """A lease for many instances. Raises InvalidField when the TTL is outside the configured limits."""
        return await self._store.lease_grant(self._checked_ttl(ttl, "ttl"))

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
        await self._store.lease_revoke(lease_id)
        held = [path for key in keys if (path := names.path_of(key, self._prefix)) is not None]
        if held:  # all go in one revision, so one of them tells for all
            path, key = held[0], names.key_of(held[0], self._prefix)
            await self._feed.wait_until(lambda: self._lease_at(path, key) != lease_id, WAIT_FOR_VIEW)

    def _lease_at(self, path: Path, key: bytes) -> int | None:
        branch = self._view.find(path)
        records = branch.records if branch is not None else ()
        return next((record.lease for record in records if record.key == key), None)

    # ------------------------------------------------------------ raw keys (/v2/keys)

    async def put_raw(self, key: bytes, value: bytes, ttl: int) -> RawPut:
        """Puts the value under a lease of the key's own of `ttl` seconds; 0: permanent. Raises Conflict."""
        fresh: Lease | None = None
        for _ in range(ATTEMPTS):
            held = await self._read(key)
            use = granted = 0
            if ttl and fresh is None and held is not None and _is_own_id(held):
                granted = await self._store.lease_keepalive(held.lease)
                use = held.lease if granted == ttl else 0
            if ttl and not use:
                fresh = fresh or await self._grant_own(key, ttl)
                use, granted = fresh.id, fresh.ttl
            try:
                done = await self._store.txn([_unchanged(key, held)], [Put(key, value, use)])
            except LeaseNotFound:
                fresh = None
                continue
            if not done.succeeded:
                continue
            created, version = (held.create_revision, held.version + 1) if held else (done.revision, 1)
            kv = KV(key, value, created, done.revision, version, use)
            await self._release(held, use)
            if fresh is not None and not ((stored := _stored(kv)) and stored.lease_ttl):
                self._view.learn_lease(use, granted)
            await self._feed.wait(done.revision, WAIT_FOR_VIEW)
            return RawPut(kv, held, granted if use else 0)
        raise _contended(key)

    async def delete_raw(self, key: bytes) -> tuple[KV, int]:
        """What was there, and the revision that removed it. Raises NotFound, Conflict."""
        for _ in range(ATTEMPTS):
            held = await self._read(key)
            if held is None:
                raise NotFound(f"there is no key {key.decode(errors='backslashreplace')}")
            revision = await self._delete(held)
            if revision:
                return held, revision
        raise _contended(key)

    async def delete_tree(self, key: bytes) -> int:
        """Removes the key and all below it in one revision, which it returns; 0 when there was nothing.

        The prefix itself is no key of ours, so only what lies below it goes. The leases of what is removed are
        left to end by themselves: there may be very many.
        """
        below = key + b"/"
        deletes = [Delete(below, prefix_end(below))]
        if key != self._prefix.encode():
            deletes.append(Delete(key))
        done = await self._store.txn([], deletes)
        if not any(isinstance(each, DeleteResult) and each.deleted for each in done.responses):
            return 0
        await self._feed.wait(done.revision, WAIT_FOR_VIEW)
        return done.revision

    # ------------------------------------------------------------ inside

    def _checked_ttl(self, ttl: int | None, field: str) -> int:
        if ttl is None:
            return self._limits.default_ttl
        low, high = self._limits.min_ttl, self._limits.max_ttl
        if not low <= ttl <= high:
            permanent = ", or 0 for a permanent record" if field == "lease_ttl" else ""
            raise InvalidField(
                f"{field}: {ttl} is not from {low} to {high} seconds{permanent}; choose another", field=field
            )
        return ttl

    async def _read(self, key: bytes) -> KV | None:
        found = (await self._store.range(key)).kvs
        return found[0] if found else None

    async def _find(self, path: Path) -> KV | None:
        """The instance as the store has it; where only others wrote it, under a key with capitals, that one."""
        key = names.key_of(path, self._prefix)
        held = await self._read(key)
        if held is None:
            record = self._view.record(path)
            if record is not None and record.key != key:
                held = await self._read(record.key)
        return held

    async def _delete(self, held: KV) -> int:
        """The revision; 0 when the key has changed since it was read."""
        done = await self._store.txn([_unchanged(held.key, held)], [Delete(held.key)])
        if not done.succeeded:
            return 0
        await self._release(held, 0)
        await self._feed.wait(done.revision, WAIT_FOR_VIEW)
        return done.revision

    async def _release(self, held: KV | None, use: int) -> None:
        """Revokes the lease that a key was taken off, when it was the key's own and nothing else hangs on it."""
        if held is None or held.lease in (0, use):
            return
        stored = _stored(held)
        if not _is_own_id(held) and not (stored and stored.own_lease):
            return
        try:
            if not await self._store.lease_keys(held.lease):
                await self._store.lease_revoke(held.lease)
        except LeaseNotFound:
            pass  # it ended by itself
        except StoreError as error:
            log.info("the lease %s, now empty, is left to end by itself: %s", lease_text(held.lease), error)

    async def _grant_own(self, key: bytes, ttl: int) -> Lease:
        for _ in range(ATTEMPTS):
            try:
                return await self._store.lease_grant(ttl, own_lease_id(key, secrets.randbits(NONCE_BITS)))
            except LeaseExists:
                continue  # one of the key's former leases that has not ended yet
        raise _contended(key)


def _stored(held: KV | None) -> Service | None:
    """What the key holds as a service; None when there is nothing, or nothing readable."""
    try:
        return service.read(held.value) if held is not None else None
    except service.Unreadable:
        return None


def _is_own_id(held: KV) -> bool:
    return held.lease != 0 and held.lease >> NONCE_BITS == own_lease_id(held.key, 0) >> NONCE_BITS


def _unchanged(key: bytes, held: KV | None) -> Compare:
    return Compare(key, Target.MOD, "=", held.mod_revision if held is not None else 0)


def _no_instance(path: Path) -> NotFound:
    return NotFound(f"there is no instance {names.to_text(path)}, or its lease has expired: register it")


def _contended(key: bytes) -> Conflict:
    text = key.decode(errors="backslashreplace")
    return Conflict(f"others keep changing {text} at the same time: try again, and see who else writes it")

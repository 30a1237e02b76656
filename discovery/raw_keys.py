"""Raw keys: what `/v2/keys` writes, and whose lease a key hangs on. A part of the registry, the only writer.

Owns the writes of single keys and of trees as they are. It never reads a value but to see whose the lease is.
How: as the registry. A write reads the key, asks the caller's `check`, and commits in one transaction that compares
the key's modification revision; a lost race begins anew.

Whose lease: a value written by the registry says `own_lease` when its lease was granted for it alone. A raw value
can't say so; its lease's id does (`own_lease_id`). Any other lease is shared, and is never revoked by a write of a key.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence

import msgspec

from discovery import service
from discovery.errors import Conflict, NotFound, StoreError
from discovery.feed import Feed
from discovery.key_locks import KeyLocks
from discovery.kv.contract import (
    KV,
    Compare,
    Delete,
    DeleteResult,
    Lease,
    LeaseExists,
    LeaseNotFound,
    Op,
    Put,
    Store,
    Target,
    prefix_end,
)
from discovery.recent_writes import RecentWrites, Written
from discovery.service import Service
from discovery.view import View

log = logging.getLogger(__name__)

WAIT_FOR_VIEW = 2.0  # seconds
ATTEMPTS = 16  # of a write that loses races; each loss means that another writer has won
NONCE_BITS = 15
RELEASED = 1_000  # leases that the removal of a tree ends; further ones end by themselves
RELEASED_AT_ONCE = 64
IN_ORDER = b"/discovery/in-order"  # put with every key in order, so that of two at once one begins anew

Check = Callable[[KV | None], None]
"""Asked with what is there before each attempt; raises what the write then fails with."""


def anything(held: KV | None) -> None:
    """The check that always holds."""


class RawPut(msgspec.Struct, frozen=True):
    """`replaced_left`: seconds that what was replaced had left; 0: it was permanent, or there was nothing."""

    kv: KV
    replaced: KV | None
    lease_ttl: int
    replaced_left: int = 0


class RawKeys:
    """`prefix` without a final slash."""

    def __init__(self, store: Store, view: View, feed: Feed, *, prefix: str) -> None:
        self._store = store
        self._view = view
        self._feed = feed
        self._prefix = prefix.encode()
        self.recent = RecentWrites()
        self.locks = KeyLocks()

    # ------------------------------------------------------------ writes

    async def put(
        self, key: bytes, value: bytes | None, ttl: int, *, action: str = "set", check: Check = anything
    ) -> RawPut:
        """Puts the value under a lease of the key's own of `ttl` seconds; 0: permanent.

        `value` None: what is there stays, and gets its full time again; no more than a keep-alive where `ttl` stays.
        Raises NotFound (only then), Conflict, and what `check` raises.
        """
        async with self.locks.hold(key):
            return await self._put(key, value, ttl, action, check)

    async def _put(self, key: bytes, value: bytes | None, ttl: int, action: str, check: Check) -> RawPut:
        fresh: Lease | None = None
        try:
            for _ in range(ATTEMPTS):
                held = await self.read(key)
                check(held)
                if value is None and held is None:
                    raise NotFound(f"there is no key {_text(key)}")
                left = await self._seconds_left(held)
                use = granted = 0
                if ttl and fresh is None and held is not None and is_own_lease(key, held.lease):
                    granted = await self._store.lease_keepalive(held.lease)
                    use = held.lease if granted == ttl else 0
                    if use and value is None:
                        return RawPut(held, held, granted, left)
                if ttl and not use:
                    fresh = fresh or await self._grant_own(key, ttl)
                    use, granted = fresh.id, fresh.ttl
                new = held.value if value is None and held is not None else value or b""
                try:
                    kv = await self._commit(Put(key, new, use), held, action, quiet=value is None)
                except LeaseNotFound:
                    fresh = None
                    continue
                if kv is None:
                    continue
                used, fresh = fresh, None
                await self.release(held, use)
                if used is not None:
                    self._learn(kv, used)
                await self._feed.wait(kv.mod_revision, WAIT_FOR_VIEW)
                return RawPut(kv, held, granted if use else 0, left)
        finally:
            if fresh is not None:
                await self._drop(fresh.id)
        raise contended(key)

    async def put_in_order(self, directory: bytes, value: bytes, ttl: int) -> RawPut:
        """Puts a new key below `directory`, named so that it sorts behind all that were put so before.

        Raises Conflict.
        """
        for _ in range(ATTEMPTS):
            found = await self._store.range(IN_ORDER)
            marker = found.kvs[0] if found.kvs else None
            key = directory + b"/%020d" % (found.revision + 1)
            fresh = await self._grant_own(key, ttl) if ttl else None
            put = Put(key, value, fresh.id if fresh is not None else 0)
            kv = None
            try:
                mark = unchanged(IN_ORDER, marker)
                kv = await self._commit(put, None, "create", when=[mark], also=[Put(IN_ORDER, b"")])
            finally:
                if kv is None and fresh is not None:
                    await self._drop(fresh.id)
            if kv is None:
                continue
            if fresh is not None:
                self._learn(kv, fresh)
            await self._feed.wait(kv.mod_revision, WAIT_FOR_VIEW)
            return RawPut(kv, None, fresh.ttl if fresh is not None else 0)
        raise contended(directory)

    async def delete(
        self, key: bytes, *, action: str = "delete", check: Check = anything
    ) -> tuple[KV, int, int]:
        """What was there, the seconds it had left (0: permanent), and the revision that removed it.

        Raises NotFound, Conflict, and what `check` raises.
        """
        async with self.locks.hold(key):
            for _ in range(ATTEMPTS):
                held = await self.read(key)
                check(held)
                if held is None:
                    raise NotFound(f"there is no key {_text(key)}")
                left = await self._seconds_left(held)
                revision = await self.remove(held, action)
                if revision:
                    return held, left, revision
            raise contended(key)

    async def delete_tree(self, key: bytes) -> int:
        """Removes the key and all below it in one revision, which it returns; 0 when there was nothing.

        The prefix itself is no key of ours, so only what lies below it goes. The keys' own leases end with them.
        """
        below = key + b"/"
        deletes = [Delete(below, prefix_end(below))]
        held: list[KV] = []
        if key != self._prefix:
            deletes.append(Delete(key))
            held += (await self._store.range(key)).kvs
        held += (await self._store.range(below, prefix_end(below), limit=RELEASED)).kvs
        with self.recent.running(), self.recent.removing(kv.key for kv in held):
            done = await self._store.txn([], deletes)
            if not any(isinstance(each, DeleteResult) and each.deleted for each in done.responses):
                return 0
            self.recent.note(done.revision, Written("delete", tree=key))
        leased = [kv for kv in held if kv.lease]
        for start in range(0, len(leased), RELEASED_AT_ONCE):
            await asyncio.gather(*(self.release(kv, 0) for kv in leased[start : start + RELEASED_AT_ONCE]))
        await self._feed.wait(done.revision, WAIT_FOR_VIEW)
        return done.revision

    # ------------------------------------------------------------ for the registry too

    async def read(self, key: bytes) -> KV | None:
        found = (await self._store.range(key)).kvs
        return found[0] if found else None

    async def remove(self, held: KV, action: str = "delete") -> int:
        """The revision; 0 when the key has changed since it was read."""
        with self.recent.running(), self.recent.removing([held.key]):
            done = await self._store.txn([unchanged(held.key, held)], [Delete(held.key)])
            if not done.succeeded:
                return 0
            self.recent.note(done.revision, Written(action, held))
        await self.release(held, 0)
        await self._feed.wait(done.revision, WAIT_FOR_VIEW)
        return done.revision

    async def release(self, held: KV | None, use: int, stored: Service | None = None) -> None:
        """Revokes the lease that a key was taken off, when it was the key's own and nothing else hangs on it.

        `stored`: what `held` says, where that was read already.
        """
        if held is None or held.lease in (0, use):
            return
        stored = stored or stored_service(held)
        if is_own_lease(held.key, held.lease) or (stored and stored.own_lease):
            await self._drop(held.lease)

    # ------------------------------------------------------------ inside

    async def _commit(
        self,
        put: Put,
        held: KV | None,
        action: str,
        *,
        quiet: bool = False,
        when: Sequence[Compare] = (),
        also: Sequence[Op] = (),
    ) -> KV | None:
        """What is stored now; None when `held` is no longer what is there, or `when` fails. Raises LeaseNotFound."""
        with self.recent.running():
            done = await self._store.txn([unchanged(put.key, held), *when], [put, *also])
            if not done.succeeded:
                return None
            self.recent.note(done.revision, Written(action, held, quiet=quiet))
        created, version = (held.create_revision, held.version + 1) if held else (done.revision, 1)
        return KV(put.key, put.value, created, done.revision, version, put.lease)

    def _learn(self, kv: KV, lease: Lease) -> None:
        """Tells the view what a raw value can't: its lease's TTL."""
        stored = stored_service(kv)
        if not (stored and stored.lease_ttl):
            self._view.learn_lease(lease.id, lease.ttl)

    async def _seconds_left(self, held: KV | None) -> int:
        if held is None or not held.lease:
            return 0
        try:
            return (await self._store.lease_ttl(held.lease))[1]
        except LeaseNotFound:
            return 0  # it ends just now

    async def _drop(self, lease_id: int) -> None:
        """Revokes a lease that nothing hangs on."""
        try:
            if not await self._store.lease_keys(lease_id):
                await self._store.lease_revoke(lease_id)
        except LeaseNotFound:
            pass  # it ended by itself
        except StoreError as error:
            log.info("the lease %016x, now empty, is left to end by itself: %s", lease_id, error)

    async def _grant_own(self, key: bytes, ttl: int) -> Lease:
        for _ in range(ATTEMPTS):
            try:
                return await self._store.lease_grant(ttl, own_lease_id(key, secrets.randbits(NONCE_BITS)))
            except LeaseExists:
                continue  # one of the key's former leases that has not ended yet
        raise contended(key)


def own_lease_id(key: bytes, nonce: int) -> int:
    """The id of a lease that is the raw key's own: 48 bits of the key's digest, then 15 bits of `nonce`."""
    digest = int.from_bytes(hashlib.sha256(key).digest()[:6], "big")
    return digest << NONCE_BITS | nonce


def is_own_lease(key: bytes, lease: int) -> bool:
    """Whether its id says that it is the raw key's own."""
    return lease != 0 and lease >> NONCE_BITS == own_lease_id(key, 0) >> NONCE_BITS


def stored_service(held: KV | None) -> Service | None:
    """What the key holds as a service; None when there is nothing, or nothing readable."""
    try:
        return service.read(held.value) if held is not None else None
    except service.Unreadable:
        return None


def unchanged(key: bytes, held: KV | None) -> Compare:
    return Compare(key, Target.MOD, "=", held.mod_revision if held is not None else 0)


def contended(key: bytes) -> Conflict:
    return Conflict(
        f"others keep changing {_text(key)} at the same time: try again, and see who else writes it"
    )


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")

"""The secrets of DNS cookies, shared by the nodes of a cluster and rolled over (RFC 9018 section 5).

Owns the one key that they are kept under, outside the services' prefix, and its form. Each node reads it every
LOOK seconds; whichever finds a new secret due writes it, and one that wrote first wins. It never makes a cookie.
While the store is out of reach a node goes on with the secrets it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from secrets import token_bytes

import msgspec

from discovery.dns.cookies import SECRET, STAGED, Secret, renewed
from discovery.errors import StoreError
from discovery.kv.contract import Compare, Put, Store, Target

log = logging.getLogger(__name__)

KEY = b"/discovery/dns/cookie-secrets"
LOOK = STAGED / 4  # seconds: every node knows a new secret well before it is used


class _Kept(msgspec.Struct, frozen=True):
    secrets: tuple[tuple[str, int], ...]  # in hexadecimal, and since when it is used; oldest first


class CookieSecrets:
    """Keeps `use` told of the secrets; calls it with every change."""

    def __init__(
        self,
        store: Store,
        use: Callable[[Sequence[Secret]], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._use = use
        self._wall = wall
        self._held: tuple[Secret, ...] = ()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except StoreError as error:
                log.debug("the secrets of cookies were not read: %s", error)  # the feed tells of the store
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Reads the secrets, and writes those that are due. Raises StoreError."""
        found = await self._store.range(KEY)
        revision = found.kvs[0].mod_revision if found.kvs else 0
        kept = _read(found.kvs[0].value) if found.kvs else ()
        due = renewed(kept, int(self._wall()), token_bytes)
        if due != kept:
            unchanged = Compare(KEY, Target.MOD, "=", revision)
            result = await self._store.txn([unchanged], [Put(KEY, _write(due))])
            if not result.succeeded:  # another node was first
                return await self.look()
        if due != self._held:
            self._held = due
            self._use(due)
        return None


def _read(value: bytes) -> tuple[Secret, ...]:
    """What is kept; nothing when it is unreadable, for then new secrets are the remedy."""
    try:
        kept = msgspec.json.decode(value, type=_Kept)
        secrets = tuple(Secret(bytes.fromhex(key), since) for key, since in kept.secrets)
    except ValueError:  # msgspec's own errors are such
        log.warning("the secrets of cookies under %s are unreadable; they are made anew", KEY.decode())
        return ()
    return secrets if all(len(secret.key) == SECRET for secret in secrets) else ()


def _write(secrets: Sequence[Secret]) -> bytes:
    return msgspec.json.encode(_Kept(tuple((secret.key.hex(), secret.since) for secret in secrets)))

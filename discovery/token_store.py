"""The tokens of a cluster: kept in the store, known to every node.

Owns the keys below `/discovery/tokens/`, and the list that calls are checked against. It decides nothing about calls.
How: a read and then a watch, so a token that was revoked is refused as soon as the watch has told; while the store is
out of reach the last list stands. This node's own changes hold for it at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping

import msgspec

from discovery import tokens
from discovery.errors import Conflict, NotFound, StoreError
from discovery.kv.contract import KV, Compare, Delete, Op, Put, Store, Target, prefix_end
from discovery.tokens import MARK, PREFIX, SECRET_BYTES, Configured, Grant, Role, Stored

log = logging.getLogger(__name__)

MAX_TOKENS = 10_000
ATTEMPTS = 16  # of a change while others change the tokens, too
IN_ORDER = b"/discovery/tokens-in-order"  # put with every change, so that of two at once one begins anew
RETRY = 1.0  # seconds after a failure


class Listed(msgspec.Struct, frozen=True):
    id: str
    stored: Stored


class Tokens:
    """`configured` are those of the configuration. `wall` gives seconds since the epoch."""

    def __init__(
        self, store: Store, configured: Configured, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self.configured = configured
        self._wall = wall
        self._stored: dict[bytes, tuple[str, Grant]] = {}  # by key; the hash and what it grants
        self._granted: Mapping[str, Grant] = {}
        self.loaded = asyncio.Event()  # the store's tokens are known
        self._reading = asyncio.Lock()
        self._read_at = 0  # the revision of the last reading
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="tokens")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ---------------------------------------------------------------- what calls are checked against

    @property
    def any(self) -> bool:
        """Whether there are tokens at all, expired ones too: where there are none, nobody can be asked for one."""
        return bool(self._stored) or self.configured.any

    def find(self, token: str) -> Grant | None:
        """What the token grants, expired or not; None: there is no such token."""
        hashed = tokens.hashed(token)
        return self.configured.tokens.get(hashed) or self._granted.get(hashed)

    # ---------------------------------------------------------------- what operators do

    async def make(self, stored: Stored) -> tuple[str, str]:
        """Keeps a new token with what `stored` says (its hash is set here); its id, and the token, told only now.

        Raises Conflict, and the store's errors.
        """
        token = MARK + secrets.token_urlsafe(SECRET_BYTES)
        kept = msgspec.structs.replace(stored, hash=tokens.hashed(token))
        name = secrets.token_hex(6)
        key, value = PREFIX + name.encode(), msgspec.json.encode(kept)

        def allowed() -> None:
            if len(self._stored) >= MAX_TOKENS:
                raise Conflict(f"there are {MAX_TOKENS} tokens: revoke those that nobody uses")
            if not self.any and (stored.role != "operate" or stored.expires_at):
                raise Conflict(
                    "this would be the first token, after which every call needs one: first make one of role operate "
                    "that does not expire, or nobody could make another"
                )

        revision = await self._change(Put(key, value), allowed)
        self._put(KV(key, value, revision, revision, 1, 0))
        self._rebuild()
        return name, token

    async def revoke(self, name: str) -> None:
        """Raises NotFound, Conflict, and the store's errors."""
        key = PREFIX + name.encode()

        def allowed() -> None:
            if key not in self._stored:
                raise NotFound(f"there is no token {name!r}: `discovery token list` shows them")
            if self._is_last_way_in(key):
                raise Conflict(
                    f"{name} is the last token of role operate that does not expire, so without it nobody could make "
                    "another: make one first, or set one in http.tokens"
                )

        await self._change(Delete(key), allowed)
        self._stored.pop(key, None)
        self._rebuild()

    async def _change(self, write: Op, allowed: Callable[[], None]) -> int:
        """The revision of a change that is allowed by the tokens that there are at that very time: of two changes at
        once, on any nodes, one begins anew and sees the other's.

        Raises what `allowed` raises, Conflict, and the store's errors.
        """
        for _ in range(ATTEMPTS):
            found = (await self._store.range(IN_ORDER)).kvs
            await self._read()
            allowed()
            mark = Compare(IN_ORDER, Target.MOD, "=", found[0].mod_revision if found else 0)
            done = await self._store.txn([mark], [write, Put(IN_ORDER, b"")])
            if done.succeeded:
                return done.revision
        raise Conflict("others keep changing the tokens at the same time: try again")

    def _is_last_way_in(self, key: bytes) -> bool:
        """Whether nothing else grants to operate, for ever. All may be revoked once a configured one does."""
        ways = [grant for at, (_, grant) in self._stored.items() if at != key]
        ways += [*self.configured.tokens.values(), *self.configured.certificates.values()]
        mine = self._stored.get(key)
        return (
            mine is not None
            and _is_way_in(mine[1])
            and len(ways) > 0
            and not any(_is_way_in(way) for way in ways)
        )

    async def listed(self) -> list[Listed]:
        """The stored ones, in the order they were made. Raises the store's errors."""
        found = await self._store.range(PREFIX, prefix_end(PREFIX))
        out = []
        for kv in found.kvs:
            try:
                name = kv.key.removeprefix(PREFIX).decode("ascii", "backslashreplace")
                out.append(Listed(name, msgspec.json.decode(kv.value, type=Stored)))
            except msgspec.DecodeError:
                continue  # told in the log when it was read
        return sorted(out, key=lambda each: (each.stored.created_at, each.id))

    # ---------------------------------------------------------------- following

    async def learn(self) -> None:
        """Reads the tokens where they are not known yet: a call that has to know need not wait for the next try.

        Raises the store's errors.
        """
        if not self.loaded.is_set():
            await self._read(again=False)

    async def _read(self, *, again: bool = True) -> tuple[int, str]:
        """The revision and history that were read. One at a time, so that nothing older takes a newer one's place."""
        async with self._reading:
            if self.loaded.is_set() and not again:
                return 0, ""
            found = await self._store.range(PREFIX, prefix_end(PREFIX))
            self._stored = {}
            for kv in found.kvs:
                self._put(kv)
            self._rebuild()
            self._read_at = found.revision
            self.loaded.set()
            return found.revision, found.history

    async def _follow(self) -> None:
        while True:
            try:
                revision, history = await self._read()
                # One early: the revision that a history is compacted to may lack its deletes.
                watch = self._store.watch(
                    PREFIX, prefix_end(PREFIX), from_revision=max(revision, 1), history=history
                )
                async with watch as batches:
                    async for batch in batches:
                        if batch.revision <= self._read_at:
                            continue  # what was revoked since must not come back for a moment
                        for event in batch.events:
                            if event.deleted:
                                self._stored.pop(event.kv.key, None)
                            else:
                                self._put(event.kv)
                        self._rebuild()
            except StoreError as error:
                log.debug("the tokens can't be followed: %s", error)  # the feed tells of the store
            await asyncio.sleep(RETRY)

    def _put(self, kv: KV) -> None:
        """An unreadable one grants nothing, but it is there: that must not open what was closed."""
        try:
            self._stored[kv.key] = tokens.read(kv.key, kv.value)
        except ValueError as error:
            self._stored[kv.key] = "", Grant(id="", name="", role=Role.NOBODY)
            log.warning("%s is unreadable, so it grants nothing: %s", kv.key.decode(errors="replace"), error)

    def _rebuild(self) -> None:
        self._granted = {hashed: grant for hashed, grant in self._stored.values() if hashed}


def _is_way_in(grant: Grant) -> bool:
    return grant.role is Role.OPERATE and not grant.expires_at

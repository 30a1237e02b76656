"""The live nodes: each says under a lease that it is there, and follows what the others say.

Owns the keys below `/discovery/nodes/`, one a running node, and the list that DNS's name servers (names.md, NS) and
`/v1/cluster` are made from. It judges nobody: who does not renew his lease is gone. How: a grant, a put, and a
renewal every third of the TTL; beside it a read and then a watch. While the store is out of reach the last list
stands. A node that stops takes its own key away, so that resolvers are no longer sent to it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Sequence

import msgspec

from discovery.errors import StoreError
from discovery.kv.contract import KV, LeaseNotFound, Store, prefix_end
from discovery.view import View

log = logging.getLogger(__name__)

PREFIX = b"/discovery/nodes/"
TTL = 15  # seconds after which a node that says nothing is gone
CLOSE_LIMIT = 1.0  # seconds
RETRY = 1.0  # seconds after a failure


class NodeRecord(msgspec.Struct, frozen=True):
    """What a node says of itself. `started_at`: RFC 3339, UTC. `addresses` are IP addresses, `http` URLs."""

    name: str
    addresses: tuple[str, ...]
    http: tuple[str, ...]
    version: str
    started_at: str


class Nodes:
    """Tells `view` of the live nodes. Two nodes of one name are two here and one name server in DNS."""

    def __init__(self, store: Store, view: View, me: NodeRecord) -> None:
        self._store = store
        self._view = view
        self._me = me
        self._key = PREFIX + f"{me.name}/{secrets.token_hex(8)}".encode()
        self._lease = 0
        self._live: dict[bytes, NodeRecord] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._announce(), name="nodes-announce"),
            asyncio.create_task(self._follow(), name="nodes-follow"),
        ]

    async def close(self) -> None:
        """Takes this node's key away, where the store can be reached."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lease, self._lease = self._lease, 0
        if lease:
            try:
                async with asyncio.timeout(CLOSE_LIMIT):
                    await self._store.lease_revoke(lease)
            except (StoreError, TimeoutError) as error:
                log.debug("this node's key is left to end by itself: %s", error)

    def others(self) -> Sequence[NodeRecord]:
        """The live nodes beside this one, in the order of their names."""
        return [self._live[key] for key in sorted(self._live) if key != self._key]

    # ---------------------------------------------------------------- inside

    async def _announce(self) -> None:
        while True:
            try:
                if not self._lease or not await self._store.lease_keepalive(self._lease):
                    lease = (await self._store.lease_grant(TTL)).id
                    await self._store.put(self._key, msgspec.json.encode(self._me), lease=lease)
                    self._lease = lease  # only now: a put that failed is tried again
                await asyncio.sleep(TTL / 3)
            except LeaseNotFound:
                self._lease = 0  # it ended between the grant and the put
            except StoreError as error:
                log.debug(
                    "this node could not say that it is there: %s", error
                )  # the feed tells of the store
                await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        while True:
            try:
                found = await self._store.range(PREFIX, prefix_end(PREFIX))
                self._live = {}
                for kv in found.kvs:
                    self._put(kv)
                self._tell()
                start = found.revision + 1
                watch = self._store.watch(
                    PREFIX, prefix_end(PREFIX), from_revision=start, history=found.history
                )
                async with watch as batches:
                    async for batch in batches:
                        for event in batch.events:
                            if event.deleted:
                                self._live.pop(event.kv.key, None)
                            else:
                                self._put(event.kv)
                        self._tell()
            except StoreError as error:
                log.debug("the live nodes can't be followed: %s", error)
            await asyncio.sleep(RETRY)

    def _put(self, kv: KV) -> None:
        try:
            node = msgspec.json.decode(kv.value, type=NodeRecord)
            for text in node.addresses:
                ipaddress.ip_address(text)
            self._live[kv.key] = node
        except (msgspec.DecodeError, ValueError) as error:
            self._live.pop(kv.key, None)
            log.warning("%s says nothing that is known of a node: %s", kv.key.decode(errors="replace"), error)

    def _tell(self) -> None:
        nodes: dict[bytes, list[bytes]] = {}
        for _, node in sorted(self._live.items()):
            nodes.setdefault(node.name.encode(), []).extend(
                ipaddress.ip_address(text).packed for text in node.addresses
            )
        self._view.set_nodes([(name, tuple(dict.fromkeys(addresses))) for name, addresses in nodes.items()])

"""Which history a cluster's revisions belong to, and by how much they are raised.

Owns the cluster's identity as seen here and the revision base under `/discovery/`. How: a linearizable read of the
base's key tells all at once: the cluster's id, its term, its revision, and the base. Another id, a term that went
back (a restored copy keeps the id), or another base is another history: what was held must be read anew. The base
makes that revisions never go backwards: who holds a revision from before asks to `advance`, and the base is raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import BASE_KEY, Corrupt, FutureRevision, Unavailable
from discovery.kv.etcd_codec import Codec
from discovery.kv.etcd_endpoints import RANGE, TXN, Endpoints

log = logging.getLogger(__name__)

ATTEMPTS = 16  # to raise the base against others who do the same


class History:
    """`changed` is called when the history turned out to be another one; never for the first."""

    def __init__(self, endpoints: Endpoints, changed: Callable[[], None]) -> None:
        self._endpoints = endpoints
        self._changed = changed
        self._cluster = 0
        self._term = 0
        self._codec: Codec | None = None
        self._restores = 0  # terms that went back
        self._looks = 0
        self._looking = asyncio.Lock()

    @property
    def name(self) -> str:
        """Of the present history, for comparison in this process; "" before the cluster was ever seen."""
        return f"{self._cluster:x}/{self._restores}/{self._codec.base}" if self._codec is not None else ""

    @property
    def cluster_id(self) -> str:
        """In hex; "0" before the cluster was ever seen."""
        return f"{self._cluster:x}"

    async def codec(self) -> Codec:
        """Raises Unavailable before the cluster has been seen."""
        if self._codec is None:
            async with self._looking:
                if self._codec is None:
                    await self.look()
        assert self._codec is not None
        return self._codec

    async def codec_of(self, header: wire.ResponseHeader) -> Codec:
        """The one for an answer, which may come from another cluster than the last."""
        if header.cluster_id != self._cluster:
            await self.look()
        return await self.codec()

    def see(self, header: wire.ResponseHeader) -> None:
        """Raises FutureRevision when a stream's answer comes from another cluster."""
        if self._cluster and header.cluster_id != self._cluster:
            raise FutureRevision(f"another cluster answers: {header.cluster_id:x}, it was {self._cluster:x}")

    async def look(self) -> int:
        """The store's revision now, raised. Raises Unavailable, AuthError, Corrupt."""
        looks = self._looks
        found = await self._endpoints.call(RANGE, wire.RangeRequest(key=BASE_KEY), repeatable=True)
        base, header = _base_of(found), found.header
        before = self.name
        if header.raft_term < self._term:
            if looks != self._looks:
                return await self.look()  # another look has overtaken this one, and may have seen an election
            self._restores += 1
        self._looks += 1
        self._cluster, self._term = header.cluster_id, header.raft_term
        if self._codec is None or self._codec.base != base:
            self._codec = Codec(base)
        if before and self.name != before:
            log.warning("etcd: the cluster was replaced, restored or moved: all is read anew")
            self._changed()
        return header.revision + base

    async def confirm(self, name: str, from_revision: int) -> None:
        """That a watch may begin there. Raises FutureRevision: it must begin with a read; and Unavailable."""
        revision = await self.look()
        if name and name != self.name:
            raise FutureRevision("the store was replaced or restored: read the state anew")
        if from_revision > revision + 1:
            raise FutureRevision(
                f"the store is at revision {revision}, which {from_revision} does not follow: read the state anew"
            )

    async def advance(self, revision: int) -> None:
        """Raises the base so that the store's revision is greater than `revision`, where it is not.

        Raises Unavailable.
        """
        for _ in range(ATTEMPTS):
            found = await self._endpoints.call(RANGE, wire.RangeRequest(key=BASE_KEY), repeatable=True)
            if found.header.revision + _base_of(found) > revision:
                await self.look()
                return
            as_found = wire.Compare(key=BASE_KEY, target=wire.Compare.MOD, result=wire.Compare.EQUAL)
            as_found.mod_revision = found.kvs[0].mod_revision if found.kvs else 0
            base = revision - found.header.revision  # the put is a revision of its own
            put = wire.RequestOp(request_put=wire.PutRequest(key=BASE_KEY, value=b"%d" % base))
            request = wire.TxnRequest(compare=[as_found], success=[put])
            await self._endpoints.call(TXN, request, repeatable=True)
        raise Unavailable(f"others keep changing {BASE_KEY.decode()}: look who writes it")


def _base_of(found: wire.RangeResponse) -> int:
    value = found.kvs[0].value if found.kvs else b"0"
    if not value.isdigit():
        raise Corrupt(
            f"the key {BASE_KEY.decode()} holds {value!r}, which is no number: "
            "write the greatest X-Revision ever seen into it"
        )
    return int(value)

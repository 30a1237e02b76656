"""The etcd engine: the contract on a cluster of etcd v3.

Owns the running store: the calls, and the look around every LOOK_EVERY that finds a cluster out of reach, replaced
or restored, and watches on a member that hangs. It holds no state of the cluster. Members and the login are
`etcd_endpoints`', identity and the revision base `etcd_history`'s, watches `etcd_watch`'s, keep-alives
`etcd_keepalive`'s. A write that was not answered raises Unavailable(maybe_applied=True) and is never repeated here:
who wrote it reads and decides, as after any lost race.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from discovery.errors import StoreError
from discovery.histogram import Histogram
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import (
    Compacted,
    Compare,
    InvalidRequest,
    Lease,
    LeaseNotFound,
    Member,
    Op,
    Put,
    Range,
    RangeResult,
    Seat,
    Status,
    TxnResult,
    Unavailable,
    WatchBatch,
)
from discovery.kv.etcd_admin import give_room
from discovery.kv.etcd_codec import Codec, start_of
from discovery.kv.etcd_endpoints import (
    COMPACT,
    DELETE,
    GRANT,
    LEASES,
    PUT,
    REVOKE,
    TIME_TO_LIVE,
    TXN,
    Access,
    Endpoints,
)
from discovery.kv.etcd_history import History
from discovery.kv.etcd_keepalive import KeepAlives
from discovery.kv.etcd_members import alarms, ask_members, follow_members
from discovery.kv.etcd_pages import read_range
from discovery.kv.etcd_seats import give_seat, let_vote, take_seat
from discovery.kv.etcd_snapshot import write_snapshot
from discovery.kv.etcd_watch import Ended, EtcdWatch
from discovery.kv.requests import check_key, check_lease_id, check_range, check_ttl, check_txn

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0  # seconds
LOOK_YOUNG = (
    0.2  # while not all members are known, so that the loss of the only known one finds others to go to
)
YOUNG = 10.0  # seconds from the start; from then on whoever has no address does not run
FOLLOW_EVERY = 30  # looks around between two questions for the list of members
COUNT_EVERY = 30.0  # seconds between two counts of all leases, which the cluster lists one by one


class EtcdStore:
    """`Store` on the cluster behind `access`. `clock`: a monotonic clock in seconds.

    Raises ConfigError when the addresses or the files of `access` can't be used. `start` does not wait for the
    cluster: what it can't do, the first call says.
    """

    def __init__(self, access: Access, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoints = Endpoints(access)
        self._clock = clock
        self._history = History(self._endpoints, self._changed)
        self._keepalives = KeepAlives(self._endpoints, clock, self._history.codec_of)
        self._watches: set[EtcdWatch] = set()
        self._leases = 0
        self._counted = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._open = False

    @property
    def durations(self) -> Mapping[str, Histogram]:
        """By etcd's own names of its calls."""
        return self._endpoints.durations

    # ---------------------------------------------------------------- start and close

    async def start(self) -> None:
        self._open = True
        self._looking = asyncio.create_task(self._look_around(), name="etcd-look-around")

    async def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for watch in list(self._watches):
            watch.interrupt(Ended())
        await self._keepalives.close()
        await self._endpoints.close()

    # ---------------------------------------------------------------- keys

    async def range(
        self, key: bytes, end: bytes = b"", *, limit: int = 0, keys_only: bool = False, stale_ok: bool = False
    ) -> RangeResult:
        check_range(key, end, limit)
        await self._ready()
        request = wire.RangeRequest(
            key=start_of(key), range_end=end, limit=limit, keys_only=keys_only, serializable=stale_ok
        )
        return await read_range(self._endpoints, self._history, request)

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        check_key(key)
        check_lease_id(lease)
        await self._ready()
        request = wire.PutRequest(key=key, value=value, lease=lease)
        done = await self._endpoints.call(PUT, request, repeatable=False)
        return (await self._history.codec_of(done.header)).raised(done.header.revision)

    async def delete(self, key: bytes, end: bytes = b"") -> tuple[int, int]:
        check_range(key, end)
        await self._ready()
        request = wire.DeleteRangeRequest(key=start_of(key), range_end=end)
        done = await self._endpoints.call(DELETE, request, repeatable=False)
        codec = await self._history.codec_of(done.header)
        return codec.raised(done.header.revision), done.deleted

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        check_txn(when, then, otherwise, grant_ttl)
        codec = await self._ready()
        lease = await self.lease_grant(grant_ttl) if grant_ttl else None
        hung_on = lease.id if lease is not None else 0
        request = wire.TxnRequest(
            compare=map(codec.compare, when),
            success=[codec.op(op, hung_on) for op in then],
            failure=[codec.op(op, hung_on) for op in otherwise],
        )
        reads = all(isinstance(op, Range) for op in (*then, *otherwise))
        try:
            done = await self._endpoints.call(TXN, request, repeatable=reads)
        except Unavailable:
            raise  # it may have been applied: the lease is left to end by itself, with what hangs on it
        except StoreError:
            await self._drop(lease)
            raise
        taken = then if done.succeeded else otherwise
        if lease is not None and not any(isinstance(op, Put) for op in taken):
            await self._drop(lease)
            lease = None
        codec = await self._history.codec_of(done.header)
        revision = codec.raised(done.header.revision)
        responses = [codec.response(each, revision) for each in done.responses]
        return TxnResult(revision, done.succeeded, responses, lease)

    # ---------------------------------------------------------------- watches

    def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        check_range(key, end)
        if from_revision < 1:
            raise InvalidRequest(f"a watch begins at revision 1 or later, not at {from_revision}")
        self._need_open()
        watch = EtcdWatch(
            self._endpoints,
            self._history,
            key,
            end,
            from_revision,
            history,
            self._clock,
            self._watches.discard,
        )
        self._watches.add(watch)
        return watch

    # ---------------------------------------------------------------- leases

    async def lease_grant(self, ttl: int, lease_id: int = 0) -> Lease:
        check_ttl(ttl)
        check_lease_id(lease_id)
        await self._ready()
        # Asked twice without an id there is one lease too many, which ends by itself.
        request, begin = wire.LeaseGrantRequest(TTL=ttl, ID=lease_id), self._clock()
        done = await self._endpoints.call(GRANT, request, repeatable=not lease_id)
        self._keepalives.note(done.ID, done.TTL, begin)
        return Lease(done.ID, done.TTL)

    async def lease_keepalive(self, lease_id: int) -> int:
        await self._ready()
        return await self._keepalives.renew(lease_id)

    async def lease_keepalive_many(self, lease_ids: Sequence[int]) -> Sequence[int]:
        await self._ready()
        return await self._keepalives.renew_many(lease_ids)

    async def lease_revoke(self, lease_id: int) -> None:
        await self._ready()
        self._keepalives.forget(lease_id)
        await self._endpoints.call(REVOKE, wire.LeaseRevokeRequest(ID=lease_id), repeatable=False)
        self._keepalives.forget(lease_id)  # a keep-alive may have been under way

    async def lease_ttl(self, lease_id: int) -> tuple[int, int]:
        told = await self._lease(lease_id, keys=False)
        return told.grantedTTL, told.TTL

    async def lease_keys(self, lease_id: int) -> Sequence[bytes]:
        return sorted((await self._lease(lease_id, keys=True)).keys)

    async def _lease(self, lease_id: int, *, keys: bool) -> wire.LeaseTimeToLiveResponse:
        await self._ready()
        request = wire.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        told = await self._endpoints.call(TIME_TO_LIVE, request, repeatable=True)
        if told.TTL < 0 or not told.grantedTTL:
            raise LeaseNotFound(f"the lease {lease_id:016x} does not exist or has expired", field="lease")
        return told

    async def _drop(self, lease: Lease | None) -> None:
        if lease is None:
            return
        try:
            await self.lease_revoke(lease.id)
        except StoreError as error:
            log.info("the lease %016x, never used, is left to end by itself: %s", lease.id, error)

    # ---------------------------------------------------------------- the store itself

    async def compact(self, revision: int) -> None:
        codec = await self._ready()
        request = wire.CompactionRequest(revision=codec.lowered(revision))
        try:
            await self._endpoints.call(COMPACT, request, repeatable=False)
        except Compacted:
            raise Compacted(revision) from None

    async def snapshot(self, target: Path) -> int:
        """A file for `etcdctl snapshot restore`; the revision is the store's when it began."""
        await self._ready()
        revision = await self._history.look()
        await write_snapshot(self._endpoints, target)
        return revision

    async def advance(self, revision: int) -> None:
        await self._ready()
        await self._history.advance(revision)

    async def status(self) -> Status:
        codec = await self._ready()
        members = await self.members()
        answered = [member for member in members if member.round_trip is not None]
        if not answered:
            raise Unavailable("no member of the etcd cluster answers")
        best = max(answered, key=lambda member: member.revision)
        return Status(
            revision=codec.raised(best.revision),
            compact_revision=0,
            size=max(member.size for member in answered),
            size_in_use=max(member.size_in_use for member in answered),
            leases=await self._count_leases(),
            version=f"etcd {best.version}",
            leader=next((member.name for member in answered if member.role == "leader"), ""),
            members=[member.name for member in members],
            errors=await alarms(self._endpoints),
        )

    async def members(self) -> Sequence[Member]:
        await self._ready()
        return await ask_members(self._endpoints)

    # ---------------------------------------------------------------- the cluster itself (ClusterStore)

    async def add_member(self, peer: str) -> Sequence[Seat]:
        await self._ready()
        return await give_seat(self._endpoints, peer)

    async def remove_member(self, name_or_id: str) -> Sequence[Seat]:
        await self._ready()
        return await take_seat(self._endpoints, name_or_id)

    async def promote_member(self, name_or_id: str) -> Sequence[Seat]:
        await self._ready()
        return await let_vote(self._endpoints, name_or_id)

    async def give_room(self) -> tuple[Sequence[str], Sequence[str]]:
        await self._ready()
        return await give_room(self._endpoints)

    # ---------------------------------------------------------------- inside

    async def _ready(self) -> Codec:
        """Raises Unavailable when the store is not open, or the cluster was never seen and does not answer."""
        self._need_open()
        return await self._history.codec()

    def _need_open(self) -> None:
        if not self._open:
            raise Unavailable("the store is not open: start it first")

    def _changed(self) -> None:
        """The cluster is another one: watches end as soon as they look, and no renewal of before counts."""
        self._keepalives.forget_all()
        for watch in list(self._watches):
            watch.replaced()

    async def _count_leases(self) -> int:
        now = self._clock()
        if now - self._counted > COUNT_EVERY:
            told = await self._endpoints.call(LEASES, wire.LeaseLeasesRequest(), repeatable=True)
            self._leases, self._counted = len(told.leases), now
        return self._leases

    async def _look_around(self) -> None:
        """Every LOOK_EVERY: is there a cluster, is it the same, do the watches follow it?"""
        looks, begun = 0, self._clock()
        while True:
            try:
                revision = await self._history.look()
                for watch in list(self._watches):
                    watch.look(revision)
                if looks % FOLLOW_EVERY == 0:
                    _, are_all = await follow_members(self._endpoints)
                    looks -= not are_all  # a cluster that has just begun: ask again at the next look
                looks += 1
            except StoreError as error:
                for watch in list(self._watches):
                    watch.interrupt(error)
            except Exception:
                log.exception("looking around in the etcd cluster failed; it goes on: please report this")
            young = not looks and self._clock() - begun < YOUNG
            await asyncio.sleep(LOOK_YOUNG if young else LOOK_EVERY)

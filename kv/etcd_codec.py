"""The contract's values as etcd's messages, and back.

Owns the translation and the revision base: what every revision of the cluster is raised by, so that none goes
backwards when the cluster was restored from an older copy or took over from another store (kv.md). Pure.
A revision of 0 means "none" on both sides and is never raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import (
    KV,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Op,
    Put,
    PutResult,
    RangeResult,
    Target,
    WatchBatch,
)

_RESULTS = {
    "=": wire.Compare.EQUAL,
    "!=": wire.Compare.NOT_EQUAL,
    "<": wire.Compare.LESS,
    ">": wire.Compare.GREATER,
}
_NO_REVISION = -1  # compares as a revision that no key has


def start_of(key: bytes) -> bytes:
    """etcd has no empty key; the first that can be is the one zero byte."""
    return key or b"\0"


class Codec:
    """`base` >= 0 is added to what comes from etcd and taken off what goes there."""

    __slots__ = ("base",)

    def __init__(self, base: int) -> None:
        self.base = base

    def raised(self, revision: int) -> int:
        return revision + self.base if revision else 0

    def lowered(self, revision: int) -> int:
        """For a revision to compare with or to begin at; one from before the base is none that a key has."""
        if revision == 0:
            return 0
        return revision - self.base if revision > self.base else _NO_REVISION

    def kv(self, kv: wire.KeyValue) -> KV:
        base = self.base
        created = kv.create_revision
        return KV(
            kv.key,
            kv.value,
            created + base if created else 0,
            kv.mod_revision + base,
            kv.version,
            kv.lease,
        )

    def event(self, event: wire.Event) -> Event:
        kv = event.kv
        if event.type == wire.Event.DELETE:
            return Event(KV(kv.key, b"", 0, kv.mod_revision + self.base, 0, 0), True)
        return Event(self.kv(kv))

    def batches(self, events: Iterable[wire.Event]) -> Iterator[WatchBatch]:
        """Events in etcd's order, one batch a revision."""
        for revision, group in groupby(events, lambda event: event.kv.mod_revision):
            yield WatchBatch(revision + self.base, [self.event(each) for each in group])

    def compare(self, compare: Compare) -> wire.Compare:
        made = wire.Compare(key=compare.key, result=_RESULTS[compare.op])
        operand = compare.operand
        if isinstance(operand, bytes):
            made.target, made.value = wire.Compare.VALUE, operand
        elif compare.target is Target.VERSION:
            made.target, made.version = wire.Compare.VERSION, operand
        elif compare.target is Target.CREATE:
            made.target, made.create_revision = wire.Compare.CREATE, self.lowered(operand)
        elif compare.target is Target.MOD:
            made.target, made.mod_revision = wire.Compare.MOD, self.lowered(operand)
        else:
            made.target, made.lease = wire.Compare.LEASE, operand
        return made

    def op(self, op: Op, lease: int) -> wire.RequestOp:
        """`lease` other than 0 is the one that every put hangs on."""
        if isinstance(op, Put):
            put = wire.PutRequest(key=op.key, value=op.value, lease=lease or op.lease)
            return wire.RequestOp(request_put=put)
        start = start_of(op.key)
        if isinstance(op, Delete):
            return wire.RequestOp(request_delete_range=wire.DeleteRangeRequest(key=start, range_end=op.end))
        return wire.RequestOp(request_range=wire.RangeRequest(key=start, range_end=op.end, limit=op.limit))

    def response(self, response: wire.ResponseOp, revision: int) -> PutResult | DeleteResult | RangeResult:
        """`revision` is the transaction's, raised."""
        kind = response.WhichOneof("response")
        if kind == "response_put":
            return PutResult()
        if kind == "response_delete_range":
            return DeleteResult(response.response_delete_range.deleted)
        found = response.response_range
        return RangeResult(revision, self.kvs(found.kvs), found.more)

    def kvs(self, kvs: Iterable[wire.KeyValue]) -> Sequence[KV]:
        return list(map(self.kv, kvs))

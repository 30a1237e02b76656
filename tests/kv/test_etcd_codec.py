"""The contract's values as etcd's messages and back, and the base that every revision is raised by."""

from __future__ import annotations

import pytest

from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import (
    KV,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Put,
    PutResult,
    Range,
    RangeResult,
    Target,
)
from discovery.kv.etcd_codec import Codec, start_of

KEPT = wire.KeyValue(key=b"k", value=b"v", create_revision=3, mod_revision=5, version=2, lease=9)


@pytest.mark.parametrize("base", [0, 1000])
def test_every_revision_is_raised_by_the_base_but_for_none(base: int) -> None:
    codec = Codec(base)
    assert codec.kv(KEPT) == KV(b"k", b"v", 3 + base, 5 + base, 2, 9)
    assert (codec.raised(7), codec.raised(0)) == (7 + base, 0)
    assert (codec.lowered(7 + base), codec.lowered(0)) == (7, 0)


def test_a_revision_from_before_the_base_is_one_that_no_key_has() -> None:
    for revision in (1, 999, 1000):
        assert Codec(1000).lowered(revision) == -1
    mod = Codec(1000).compare(Compare(b"k", Target.MOD, "=", 999))
    assert (mod.target, mod.mod_revision) == (wire.Compare.MOD, -1)
    absent = Codec(1000).compare(Compare(b"k", Target.CREATE, "=", 0))  # "does not exist" stays what it is
    assert absent.create_revision == 0


def test_versions_leases_and_values_are_never_raised() -> None:
    codec = Codec(1000)
    assert codec.compare(Compare(b"k", Target.VERSION, ">", 2)).version == 2
    assert codec.compare(Compare(b"k", Target.LEASE, "!=", 9)).lease == 9
    value = codec.compare(Compare(b"k", Target.VALUE, "<", b"v"))
    assert (value.value, value.result) == (b"v", wire.Compare.LESS)


def test_events_of_one_revision_are_one_batch_in_etcd_s_order() -> None:
    events = [
        wire.Event(kv=wire.KeyValue(key=b"b", value=b"1", create_revision=5, mod_revision=5, version=1)),
        wire.Event(type=wire.Event.DELETE, kv=wire.KeyValue(key=b"a", mod_revision=5)),
        wire.Event(kv=wire.KeyValue(key=b"b", value=b"2", create_revision=5, mod_revision=6, version=2)),
    ]
    batches = list(Codec(10).batches(events))
    assert [batch.revision for batch in batches] == [15, 16]
    put, deleted = batches[0].events
    assert (put.kv, put.deleted) == (KV(b"b", b"1", 15, 15, 1, 0), False)
    assert deleted == Event(KV(b"a", b"", 0, 15, 0, 0), True)
    assert batches[1].events == [Event(KV(b"b", b"2", 15, 16, 2, 0))]


def test_operations_carry_the_lease_that_was_granted_for_them() -> None:
    codec = Codec(0)
    assert codec.op(Put(b"k", b"v", 7), 0).request_put.lease == 7
    assert codec.op(Put(b"k", b"v", 7), 9).request_put.lease == 9
    assert codec.op(Delete(b"", b"\0"), 9).request_delete_range.key == b"\0"
    found = codec.op(Range(b"k", b"l", 3), 9).request_range
    assert (found.key, found.range_end, found.limit) == (b"k", b"l", 3)


def test_answers_of_a_transaction() -> None:
    codec = Codec(10)
    assert codec.response(wire.ResponseOp(response_put=wire.PutResponse()), 15) == PutResult()
    deleted = wire.DeleteRangeResponse(deleted=3)
    assert codec.response(wire.ResponseOp(response_delete_range=deleted), 15) == DeleteResult(3)
    found = wire.RangeResponse(kvs=[KEPT], more=True)
    result = codec.response(wire.ResponseOp(response_range=found), 15)
    assert result == RangeResult(15, [KV(b"k", b"v", 13, 15, 2, 9)], True)


def test_the_empty_key_is_the_first_that_etcd_can_have() -> None:
    assert (start_of(b""), start_of(b"k")) == (b"\0", b"k")

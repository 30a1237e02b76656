"""What a call may ask: the checks that need no look at the store.

Owns the rules of the contract's InvalidRequest. Pure: no I/O, no state. They are etcd's rules, so that a call
that one engine takes is taken by the other: one key is changed at most once in a transaction, and a put may not
lie in a range that the same branch deletes.
"""

from __future__ import annotations

from collections.abc import Sequence

from discovery.kv.contract import MAX_LEASE_ID, Compare, Delete, InvalidRequest, Op, Put, Target

MAX_TTL = 9_000_000_000
"""Seconds; etcd's limit."""


def check_key(key: bytes) -> None:
    if not key:
        raise InvalidRequest("the key is empty: a key has at least one byte")


def check_range(key: bytes, end: bytes, limit: int = 0) -> None:
    """`(b"", end)` is allowed: it is what the empty prefix makes."""
    if not end:
        check_key(key)
    if limit < 0:
        raise InvalidRequest(f"the limit is {limit}: it counts keys, and 0 means all")


def check_ttl(ttl: int) -> None:
    if not 1 <= ttl <= MAX_TTL:
        raise InvalidRequest(f"the TTL is {ttl}: it is from 1 to {MAX_TTL} seconds")


def check_lease_id(lease_id: int) -> None:
    if not 0 <= lease_id <= MAX_LEASE_ID:
        raise InvalidRequest(f"the lease id is {lease_id}: it is from 1 to {MAX_LEASE_ID}, or 0 for none")


def check_txn(when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], grant_ttl: int) -> None:
    if grant_ttl:
        check_ttl(grant_ttl)
    value = Target.VALUE
    for compare in when:
        check_key(compare.key)
        kind = bytes if compare.target is value else int
        if not isinstance(compare.operand, kind):
            raise InvalidRequest(
                f"{compare.target.value} is compared with {kind.__name__}, not {compare.operand!r}"
            )
    for branch in (then, otherwise):
        _check_branch(branch)


def _check_branch(ops: Sequence[Op]) -> None:
    puts: set[bytes] = set()
    deletes: list[Delete] = []
    for op in ops:
        if isinstance(op, Put):
            check_key(op.key)
            check_lease_id(op.lease)
            if op.key in puts:
                raise InvalidRequest(f"the key {op.key!r} is put twice in one transaction")
            puts.add(op.key)
        else:
            check_range(op.key, op.end, 0 if isinstance(op, Delete) else op.limit)
            if isinstance(op, Delete):
                deletes.append(op)
    for delete in deletes:
        hit = next((key for key in puts if covers(delete.key, delete.end, key)), None)
        if hit is not None:
            raise InvalidRequest(f"the key {hit!r} is both put and deleted in one transaction")


def covers(start: bytes, end: bytes, key: bytes) -> bool:
    """Whether `key` lies in `[start, end)`, with the contract's two special ends."""
    if not end:
        return key == start
    return start <= key and (end == b"\0" or key < end)

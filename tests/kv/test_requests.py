"""The rules a call is held to before it reaches the store."""

from __future__ import annotations

import pytest

from discovery.kv.contract import Delete, InvalidRequest, Op, Put, Range, prefix_end
from discovery.kv.requests import MAX_TTL, check_lease_id, check_range, check_ttl, check_txn, covers


@pytest.mark.parametrize(
    ("start", "end", "key", "inside"),
    [
        (b"a", b"", b"a", True),
        (b"a", b"", b"aa", False),
        (b"a", b"c", b"a", True),
        (b"a", b"c", b"bzz", True),
        (b"a", b"c", b"c", False),
        (b"b", b"c", b"a", False),
        (b"b", b"\0", b"\xff\xff", True),
        (b"b", b"\0", b"a", False),
        (b"", b"\0", b"a", True),
        (b"c", b"a", b"b", False),
    ],
)
def test_covers(start: bytes, end: bytes, key: bytes, inside: bool) -> None:
    assert covers(start, end, key) is inside


@pytest.mark.parametrize(
    "branch",
    [
        [Put(b"a", b""), Put(b"a", b"")],
        [Put(b"a", b""), Delete(b"a")],
        [Delete(b"a", prefix_end(b"a")), Put(b"ab", b"")],
        [Put(b"x", b""), Delete(b"", b"\0")],
        [Delete(b"")],
        [Range(b"a", b"b", -1)],
        [Put(b"a", b"", -1)],
        [Put(b"a", b"", 1 << 63)],
    ],
)
def test_branches_that_are_refused(branch: list[Op]) -> None:
    for then, otherwise in ((branch, []), ([], branch)):
        with pytest.raises(InvalidRequest):
            check_txn([], then, otherwise, 0)


def test_branches_that_are_allowed() -> None:
    check_txn(
        [], [Put(b"a", b""), Delete(b"b"), Delete(b"b"), Range(b"a"), Range(b"", b"\0")], [Put(b"a", b"")], 5
    )


def test_numbers_have_limits() -> None:
    for ttl in (0, -1, MAX_TTL + 1):
        with pytest.raises(InvalidRequest):
            check_ttl(ttl)
    for lease_id in (-1, 1 << 63):
        with pytest.raises(InvalidRequest):
            check_lease_id(lease_id)
    with pytest.raises(InvalidRequest):
        check_range(b"a", b"b", -1)

"""Many writes cut into transactions that any etcd takes."""

from __future__ import annotations

import pytest

from discovery.pieces import MOST_BYTES, pieces


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([], []),
        ([1], [1]),
        ([1] * 7, [3, 3, 1]),
        ([MOST_BYTES, 1, 1], [2, 1]),
        ([MOST_BYTES + 1] * 3, [1, 1, 1]),
        ([1, 1, MOST_BYTES, 1], [3, 1]),
    ],
)
def test_neither_too_many_nor_too_large_and_none_is_left_out(sizes: list[int], wanted: list[int]) -> None:
    numbered = list(enumerate(sizes))
    found = list(pieces(numbered, 3, lambda item: item[1]))
    assert [len(each) for each in found] == wanted
    assert [item for each in found for item in each] == numbered

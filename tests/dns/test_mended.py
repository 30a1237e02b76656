"""What names.md calls mended and no other test here shows: each fails with SkyDNS's own behaviour."""

from __future__ import annotations

import math

import pytest

from tests.support.dns import World


def skydns_weight(weight: int, total: int) -> int:
    """Floats, rounded down."""
    return math.floor(weight * (100.0 / total))


@pytest.mark.parametrize(("weight", "others"), [(97, 97), (1, 999)])
def test_weights_are_counted_without_floats_and_never_zero(weight: int, others: int) -> None:
    world = World(
        {"1.web": {"host": "10.0.0.1", "weight": weight}, "2.web": {"host": "10.0.0.2", "weight": others}}
    )
    share = max(1, weight * 100 // (weight + others))
    assert share != skydns_weight(weight, weight + others)
    assert f"web 5 SRV 10 {share} 0 1.web" in world.says("web", "SRV")

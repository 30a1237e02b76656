"""What an answer was made from, in as few stamps as are quick to check.

Owns the trade between an answer that stands through changes elsewhere and one that is checked in no time. Each hit
looks at every stamp: above MOST, those of one tree become one, that of the deepest branch above them all. A change
there that the answer did not read makes it anew once more; one that it read never goes unseen.
"""

from __future__ import annotations

from collections.abc import Mapping

from discovery.dns.source import Branch

MOST = 32  # checked in about 1 us

Stamps = tuple[tuple[Branch, int], ...]


def few(noted: Mapping[Branch, int]) -> Stamps:
    """The stamps to keep for the branches that were read, which have these versions now."""
    if len(noted) <= MOST:
        return tuple(noted.items())
    trees: dict[Branch, list[Branch]] = {}  # by its root: the way down to the deepest branch above all so far
    for branch in noted:
        way = _way_to(branch)
        known = trees.setdefault(way[0], way)
        same = 0
        for ours, theirs in zip(known, way, strict=False):
            if ours is not theirs:
                break
            same += 1
        if same < len(known):
            del known[same:]
    return tuple((known[-1], known[-1].version) for known in trees.values())


def _way_to(branch: Branch) -> list[Branch]:
    """The branches from the root down to this one."""
    way = []
    at: Branch | None = branch
    while at is not None:
        way.append(at)
        at = at.parent
    way.reverse()
    return way

"""Which faults a chaos run makes, and when: drawn from a seed. Pure: the same seed and length, the same schedule.

Two rows of faults run beside each other, one on members of the store and one on nodes, so that either may meet the
other; of the nodes at most one ails at a time, so that clients have somewhere to go. Each row deals its kinds from a
shuffled deck, so that all kinds come before one comes again, and leaves a calm after each deck, long enough for leases
to run out under one leader. Who leads is not known beforehand: "leader" is looked up when the time has come.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FIRST = 3.0  # seconds before the first fault
LASTS = (1.5, 5.0)
GAP = (0.8, 2.5)
CALM = 14.0

# "killed" is kill -9 and a new start, "stopped" SIGSTOP and SIGCONT; the rest are cuts of the network, `out` and `in`
# of one direction as seen from the target.
MEMBER_FAULTS = (
    ("killed", "leader"),
    ("killed", "any"),
    ("stopped", "leader"),
    ("stopped", "any"),
    ("cut off", "leader"),
    ("cut off out", "leader"),
    ("cut off in", "leader"),
    ("cut off out", "any"),
    ("isolated", "any"),
    ("two killed", "any"),
    ("two stopped", "any"),
    ("all apart", "any"),
)
NODE_FAULTS = (
    ("killed", "any"),
    ("stopped", "any"),
    ("cut off", "any"),
    ("cut off out", "any"),
    ("cut off in", "any"),
    ("cut from one", "any"),
    ("cut from one out", "any"),
    ("cut from one in", "any"),
)


class Fault(NamedTuple):
    """`at` and `lasts` in seconds. `target`: a name such as m1, or "leader". `other`: for "two …" the second member
    (the next one when it is the first), for "cut from one" the member."""

    at: float
    lasts: float
    side: str
    kind: str
    target: str
    other: str

    def __str__(self) -> str:
        other = f" ({self.other})" if self.other else ""
        return f"{self.at:7.2f} s for {self.lasts:.2f} s: {self.side} {self.target}{other}: {self.kind}"


def schedule(seed: int, seconds: float, members: Sequence[str], nodes: Sequence[str]) -> list[Fault]:
    """All end within `seconds`. In order of time."""
    chance = random.Random(seed)
    faults = list(_row(chance, seconds, "member", MEMBER_FAULTS, members, members))
    faults += _row(chance, seconds, "node", NODE_FAULTS, nodes, members)
    return sorted(faults)


def _row(
    chance: random.Random,
    seconds: float,
    side: str,
    kinds: Sequence[tuple[str, str]],
    targets: Sequence[str],
    members: Sequence[str],
) -> Iterator[Fault]:
    at = FIRST + chance.uniform(*GAP)
    while True:
        for kind, who in chance.sample(kinds, len(kinds)):
            lasts = round(chance.uniform(*LASTS), 2)
            if at + lasts > seconds:
                return
            target = "leader" if who == "leader" else chance.choice(targets)
            second = kind.startswith(("two ", "cut from one"))
            yield Fault(round(at, 2), lasts, side, kind, target, chance.choice(members) if second else "")
            at += lasts + chance.uniform(*GAP)
        at += CALM

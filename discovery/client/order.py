"""The order in which the servers of a service are to be tried (RFC 2782).

Owns the Endpoint and the draw by priority and weight. Pure: the randomness is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec


class Endpoint(msgspec.Struct, frozen=True):
    """Where an instance listens. `target` is its name or address; `addresses` are those that came with the answer,
    IPv4 first, and none for a name that is to be looked up elsewhere."""

    target: str
    port: int
    priority: int = 0
    weight: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """What to connect to: the first address, else the name."""
        return self.addresses[0] if self.addresses else self.target


def in_order(endpoints: Iterable[Endpoint], draw: Callable[[int], int]) -> list[Endpoint]:
    """All of them, as a client is to try them: lowest priority first, within one drawn by weight.

    `draw(n)` is a random whole number from 0 to n, both included. Weight 0 stands in front of the running sums, so
    it has a very small chance while others have weight, and an equal one when none has.
    """
    groups: dict[int, list[Endpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault(endpoint.priority, []).append(endpoint)
    out: list[Endpoint] = []
    for priority in sorted(groups):
        left = groups[priority]
        while left:
            out.append(left.pop(_drawn(left, draw)))
    return out


def _drawn(left: list[Endpoint], draw: Callable[[int], int]) -> int:
    """The position of the next one. The RFC leaves the order among weights of 0 open: here it is drawn, too."""
    total = sum(endpoint.weight for endpoint in left)
    if total == 0:
        return draw(len(left) - 1)
    mark = draw(total)
    zeros = [at for at, endpoint in enumerate(left) if endpoint.weight == 0]
    if mark == 0 and zeros:
        return zeros[draw(len(zeros) - 1)]
    running = 0
    for at, endpoint in enumerate(left):
        running += endpoint.weight
        if running >= mark:
            return at
    raise AssertionError  # the last running sum is the total

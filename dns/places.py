"""Places that are shared out among networks, so that none of them takes all.

Owns the count. Pure. A network may have as many places as are left for others: alone it gets half of them, beside it
the next half of the rest, and so on, so that there is always one for a network that comes.
"""

from __future__ import annotations


class Places:
    def __init__(self) -> None:
        self._of_network: dict[bytes, int] = {}
        self._taken = 0

    def take(self, network: bytes, most: int) -> bool:
        """Whether the network gets one more of `most` places in all; it is held until `leave`."""
        held = self._of_network.get(network, 0)
        if held >= most - self._taken:
            return False
        self._of_network[network] = held + 1
        self._taken += 1
        return True

    def leave(self, network: bytes) -> None:
        self._taken -= 1
        left = self._of_network[network] - 1
        if left:
            self._of_network[network] = left
        else:
            del self._of_network[network]

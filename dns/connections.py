"""The connections of DNS over TCP and TLS: how many there may be, and which of them end.

Owns the limits, in all and for one client, and the times after which a connection ends. It is given the time and does
no I/O of its own: a connection ends itself. When all places are taken, the one that has been idle for longest makes
room, so that a crowd of silent connections keeps nobody out; they are held in the order of their last queries, so that
it is found at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

from discovery.dns.clients import host_of

BACKLOG = 1024  # connections that the system holds until they are accepted
MAX_CONNECTIONS = 2000
MAX_PER_CLIENT = 500  # of one host (`clients.host_of`)
IDLE = 15.0  # seconds without a whole query; RFC 7766 section 6.2.3 wants seconds, not minutes
TOTAL = 3600.0  # seconds after which a connection ends at its next PAUSE, and after twice that at once
PAUSE = 1.0  # seconds without a whole query


class Held(Protocol):
    """A connection. `active`: when its last whole query came; `opened`: when it began; `client`: its packed address."""

    active: float
    opened: float
    client: bytes

    def close(self) -> None:
        """Ends it after what is answered."""

    def abort(self) -> None:
        """Ends it now."""


class Connections:
    """Those of one process, whatever socket they came by."""

    def __init__(
        self, *, max_connections: int = MAX_CONNECTIONS, max_per_client: int = MAX_PER_CLIENT
    ) -> None:
        self._max = max_connections
        self._max_per_client = max_per_client
        self._held: OrderedDict[Held, None] = OrderedDict()  # the longest idle first
        self._of_client: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(tuple(self._held))

    def admit(self, connection: Held, now: float) -> bool:
        """Whether there is room for one more; it is held until `remove`. Another may be ended for it."""
        place = host_of(connection.client)
        if self._of_client.get(place, 0) >= self._max_per_client:
            return False
        if len(self._held) >= self._max:
            idlest = next(iter(self._held))
            if idlest.active > now - PAUSE:
                return False
            self.remove(idlest)
            idlest.abort()
        self._held[connection] = None
        self._of_client[place] = self._of_client.get(place, 0) + 1
        return True

    def note(self, connection: Held, now: float) -> None:
        """A whole query of the connection came."""
        connection.active = now
        if connection in self._held:
            self._held.move_to_end(connection)

    def remove(self, connection: Held) -> None:
        """Forgets a connection that has ended; one that is not held is none of ours."""
        if connection not in self._held:
            return
        del self._held[connection]
        place = host_of(connection.client)
        left = self._of_client[place] - 1
        if left:
            self._of_client[place] = left
        else:
            del self._of_client[place]

    def sweep(self, now: float) -> None:
        """Ends those whose time is over: idle ones, a stalled client's, and very old ones."""
        for held in tuple(self._held):
            age = now - held.opened
            if held.active < now - IDLE or age > 2 * TOTAL:
                held.abort()
            elif age > TOTAL and held.active < now - PAUSE:
                held.close()

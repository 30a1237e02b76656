"""Which connections are held, and which requests are answered: the limits of `http` for each client and in all.

Owns the counts of connections, what is exempt from a client's limits, and the line in the log about connections that
were refused: every TELL_EVERY at most, since one who is refused comes again. It closes nothing (`connection` does) and
answers nothing (`app` does); the time is an argument. The limits may change while connections are open: they stay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from discovery.api.rate import RequestRate, client_of, packed
from discovery.dns.clients import is_loopback
from discovery.metrics import Metrics
from discovery.settings import HttpConfig

log = logging.getLogger(__name__)

TELL_EVERY = 30.0  # seconds
EXEMPT = b""


class Admission:
    """`is_exempt` is asked for an address of 4 or 16 bytes."""

    def __init__(
        self, http: HttpConfig, metrics: Metrics, *, is_exempt: Callable[[bytes], bool] = is_loopback
    ) -> None:
        self._http = http
        self._metrics = metrics
        self._is_exempt = is_exempt
        self._rate = RequestRate(http.rate)
        self._held = 0
        self._of_client: dict[bytes, int] = {}
        self._untold = 0
        self._told: float | None = None

    def limit(self, http: HttpConfig) -> None:
        """Holds these from the next connection and request on. Where the rate stays, its buckets do."""
        if http.rate != self._http.rate:
            self._rate = RequestRate(http.rate)
        self._http = http

    def __len__(self) -> int:
        """Connections held now."""
        return self._held

    @property
    def rate(self) -> int:
        """Requests a second of one client; 0: not limited."""
        return self._http.rate

    def client(self, peer: object) -> bytes:
        """What a connection is counted as, by its transport's `peername`; EXEMPT: in the sum of all alone.

        A Unix socket's has no address, and neither has a connection that was reset before it was accepted.
        """
        if not isinstance(peer, tuple):
            return EXEMPT
        address = packed(str(peer[0]))
        return EXEMPT if self._is_exempt(address) else client_of(address)

    def admit(self, client: bytes, peer: object, now: float) -> bool:
        """Whether there is room for one more connection; it is held until `leave`. `peer` is for the log."""
        if self._held >= self._http.max_connections:
            self._refuse(f"{self._held} are open (http.max_connections)", peer, now)
            return False
        if client != EXEMPT:
            held = self._of_client.get(client, 0)
            if held >= self._http.max_connections_per_client:
                self._refuse(f"its client has {held} (http.max_connections_per_client)", peer, now)
                return False
            self._of_client[client] = held + 1
        self._held += 1
        return True

    def leave(self, client: bytes) -> None:
        """An admitted connection has ended."""
        self._held -= 1
        if client == EXEMPT:
            return
        left = self._of_client[client] - 1
        if left:
            self._of_client[client] = left
        else:
            del self._of_client[client]

    def permits(self, client: bytes, now: float) -> bool:
        """Whether one more request of the client is answered."""
        if client == EXEMPT or self._rate.permits(client, now):
            return True
        self._metrics.http_rate_limited += 1
        return False

    def _refuse(self, why: str, peer: object, now: float) -> None:
        self._metrics.http_connections_refused += 1
        self._untold += 1
        if self._told is not None and now - self._told < TELL_EVERY:
            return
        host = peer[0] if isinstance(peer, tuple) else "a Unix socket"
        log.warning(
            "an HTTP connection from %s was closed at once: %s; %d since this was last told",
            host,
            why,
            self._untold,
        )
        self._untold, self._told = 0, now

"""DNS cookies: a proof that a client is at the address it sends from (RFC 7873), interoperable (RFC 9018).

Owns how server cookies are made and judged, and which of a node's secrets is in use when. Pure: the time is an argument
or a given clock, the secrets are given too and nodes of one cluster share them. It keeps nothing about a client.
How: a server cookie is version, time and a SipHash-2-4 of them, the client's cookie and address; SipHash comes from
`siphash24`, since in Python it costs 10 µs. A query pays for one hash: a cookie is made anew each time, not judged,
since nothing is denied to a client without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple

from siphash24 import siphash24

from discovery.dns import wire
from discovery.dns.clients import unmapped

CLIENT_COOKIE = 8  # bytes
SERVER_COOKIE = 16  # bytes, as RFC 9018 section 4 lays them out
SECRET = 16  # bytes
PAST, FUTURE = 3600, 300  # seconds that a server cookie may differ from now (RFC 9018 section 4.3)

STAGED = 600
"""Seconds between writing a secret and using it, within which every node has read it (RFC 9018 section 5)."""
LIFE = 86400
"""Seconds of use of a secret; RFC 7873 section 7.1 wants a day or so, never more than 36 days."""

_HEAD = Struct("!B3xI")
_OPTION = wire.encode_option(wire.OPTION_COOKIE, bytes(CLIENT_COOKIE + SERVER_COOKIE))[:4]


class Secret(NamedTuple):
    """`since`: seconds since 1970 from which cookies are made with it; accepted are cookies of any that is kept."""

    key: bytes
    since: int


def renewed(secrets: Sequence[Secret], now: int, draw: Callable[[int], bytes]) -> tuple[Secret, ...]:
    """The secrets to have at `now`, oldest first: a next one in time, those out of use for longer than PAST dropped.

    The same as given when nothing is due. `draw` gives that many unpredictable bytes.
    """
    kept = tuple(
        secret
        for place, secret in enumerate(secrets, 1)
        if place == len(secrets) or secrets[place].since > now - PAST - FUTURE
    )
    if not kept:
        return (Secret(draw(SECRET), now),)
    if kept[-1].since <= now - LIFE:
        kept += (Secret(draw(SECRET), now + STAGED),)
    return kept


class Cookies:
    """Makes and judges cookies. Without secrets it makes none. `wall` gives seconds since 1970."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._secrets: tuple[Secret, ...] = ()
        self._key = b""  # of the secret in use
        self._until = 0.0  # the time at which another comes into use

    def use(self, secrets: Sequence[Secret]) -> None:
        """Takes over these secrets, oldest first."""
        self._secrets = tuple(secrets)
        self._until = 0.0

    def option(self, client_cookie: bytes, client: bytes) -> bytes:
        """The whole COOKIE option for an answer: the client's own 8 bytes and a fresh server cookie.

        b"" without a secret, or for a client whose address is not known.
        """
        key, now = self.in_use()
        if not key or not client:
            return b""
        head = _HEAD.pack(1, now)
        hashed = siphash24(client_cookie + head + unmapped(client), key=key).digest()
        return b"".join((_OPTION, client_cookie, head, hashed))

    def in_use(self) -> tuple[bytes, int]:
        """The secret that cookies are made with now, b"" for none, and the time that goes into them."""
        now = self._wall()
        if now >= self._until:
            self._choose(now)
        return self._key, int(now) & 0xFFFFFFFF

    def is_valid(self, cookie: bytes, client: bytes) -> bool:
        """Whether `cookie`, an option's content, ends in a server cookie of ours, given to that address in time."""
        if len(cookie) != CLIENT_COOKIE + SERVER_COOKIE or cookie[8] != 1 or not client:
            return False
        age = (int(self._wall()) - int.from_bytes(cookie[12:16], "big") + (1 << 31)) % (1 << 32) - (1 << 31)
        if not -FUTURE <= age <= PAST:
            return False
        said, hashed = cookie[16:], cookie[:16] + unmapped(client)
        return any(siphash24(hashed, key=secret.key).digest() == said for secret in self._secrets)

    def _choose(self, now: float) -> None:
        self._key, self._until = b"", float("inf")
        for secret in self._secrets:
            if secret.since > now and self._key:
                self._until = secret.since
                break
            self._key = secret.key

"""How often a client may call: a bucket of one second of `http.rate` for each.

Owns what counts as one client: an IPv4 address, or a /64 of IPv6, which is what one host has at least. Pure: the time
is an argument. Bounded as `dns.buckets` is.
"""

from __future__ import annotations

from ipaddress import ip_address

from discovery.dns.buckets import MAX_BUCKETS, Buckets


class RequestRate:
    """`rate`: requests a second of one client; 0: not limited."""

    def __init__(self, rate: int, *, max_clients: int = MAX_BUCKETS) -> None:
        self._rate = rate
        self._buckets = Buckets(max_buckets=max_clients)

    def __len__(self) -> int:
        """Clients remembered now."""
        return len(self._buckets)

    def permits(self, client: bytes, now: float) -> bool:
        """Whether the client (`client_of`) may call at `now`, in seconds that only grow. A refusal is free."""
        if not self._rate:
            return True
        bucket = self._buckets.filled(client, self._rate, now)
        if bucket.left < 1.0:
            return False
        bucket.left -= 1.0
        return True


def packed(host: str) -> bytes:
    """The 4 or 16 bytes of an address as a socket tells it; an IPv4 address in an IPv6 one is an IPv4 address."""
    address = ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).packed


def client_of(address: bytes) -> bytes:
    """The 4 or 8 bytes by which a client with this address is counted."""
    return address if len(address) == 4 else address[:8]

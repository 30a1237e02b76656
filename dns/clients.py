"""Clients' addresses as bytes: which of them are one client's, as far as limits go.

Owns what an address counts as. Pure. An IPv4 client on an IPv6 socket is the IPv4 client that it is, everywhere.
"""

from __future__ import annotations

MAPPED = bytes(10) + b"\xff\xff"  # in front of an IPv4 address; RFC 4291 section 2.5.5.2
_LOOPBACK6 = bytes(15) + b"\1"


def unmapped(client: bytes) -> bytes:
    """Of an IPv4 client on an IPv6 socket the address that it has itself."""
    return client[12:] if len(client) == 16 and client.startswith(MAPPED) else client


def network_of(client: bytes) -> bytes:
    """The /24 or the /56 that an address (4 or 16 bytes) lies in."""
    client = unmapped(client)
    return client[:3] if len(client) == 4 else client[:7]


def host_of(client: bytes) -> bytes:
    """What counts as one host: an IPv4 address, or a /56 of IPv6, where addresses are to be had by the billion."""
    client = unmapped(client)
    return client if len(client) == 4 else client[:7]


def is_loopback(client: bytes) -> bool:
    client = unmapped(client)
    return client[0] == 127 if len(client) == 4 else client == _LOOPBACK6

"""Who may ask: `dns.allow` and `dns.deny`.

Owns the verdict on a client's address. Pure; it never answers anything itself. `deny` wins over `allow`; an empty
`allow` is everybody, as with `allow-query` of BIND and NSD.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

REMEMBERED = 16384  # clients


class Access:
    def __init__(
        self, allow: Sequence[IPv4Network | IPv6Network], deny: Sequence[IPv4Network | IPv6Network]
    ) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._known: dict[bytes, bool] = {}

    @property
    def is_open(self) -> bool:
        """Whether everybody may ask."""
        return not self._allow and not self._deny

    def permits(self, client: bytes) -> bool:
        """Whether the client with that address (4 or 16 bytes) may ask."""
        known = self._known.get(client)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[client] = self._judge(client)
        return known

    def _judge(self, client: bytes) -> bool:
        address = ip_address(client)
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped  # an IPv4 client on an IPv6 socket
        if any(address in network for network in self._deny):
            return False
        return not self._allow or any(address in network for network in self._allow)

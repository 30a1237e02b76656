"""The EDNS options that an answer carries because the query asked for them.

Owns which they are: the node's name (NSID, RFC 5001) and cookies (RFC 7873). Pure; it is given options that are known
to be whole, ignores what it does not know (RFC 6891 section 6.1.2), and never decides the answer itself.
"""

from __future__ import annotations

from discovery.dns import wire
from discovery.dns.cookies import CLIENT_COOKIE, Cookies

_COOKIE = wire.OPTION_COOKIE.to_bytes(2, "big")


class Options:
    """`nsid`: what the node says when it is asked who it is; b"": nothing."""

    def __init__(self, nsid: bytes, cookies: Cookies) -> None:
        self._nsid = wire.encode_option(wire.OPTION_NSID, nsid) if nsid else b""
        self._cookies = cookies

    def answer(self, asked: bytes, client: bytes) -> bytes:
        """The options for the answer to a query with the options `asked` from the address `client`."""
        if asked.startswith(_COOKIE) and len(asked) == 4 + int.from_bytes(asked[2:4], "big"):
            return self._cookies.option(asked[4 : 4 + CLIENT_COOKIE], client)  # a cookie alone, as dig sends
        said: dict[int, bytes] = {}
        at = 0
        while at < len(asked):
            code, length = (
                int.from_bytes(asked[at : at + 2], "big"),
                int.from_bytes(asked[at + 2 : at + 4], "big"),
            )
            at += 4
            if code == wire.OPTION_NSID:
                said[code] = self._nsid
            elif code == wire.OPTION_COOKIE and code not in said:  # the first counts (RFC 7873 section 5.2)
                said[code] = self._cookies.option(asked[at : at + CLIENT_COOKIE], client)
            at += length
        return b"".join(said.values())

    def secret(self) -> tuple[bytes, int]:
        """What a cookie is made with (`cookies.Cookies.in_use`)."""
        return self._cookies.in_use()

    def is_bad(self, cookie: bytes, client: bytes) -> bool:
        """Whether a COOKIE option's content has a server cookie, and that is not ours or too old."""
        return len(cookie) > CLIENT_COOKIE and not self._cookies.is_valid(cookie, client)

"""The ports of a managed member: free, and of this machine.

Owns the line that each trouble with them gets. An etcd whose node was killed takes seconds to end, so a start waits
for it where a member has run before. A name is listened on at the first address that it stands for here.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import urllib.parse

from discovery.errors import ConfigError
from discovery.kv.etcd_urls import is_local

FORMER_LIFE = 12.0  # seconds that an etcd of a former life may take to end


async def until_free(client: str, peer: str, limit: float = 0.0) -> None:
    """Waits up to `limit` seconds for both. Raises ConfigError."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    for setting, url in (("client", client), ("peer", peer)):
        while (complaint := _trouble(setting, url)) is not None:
            if loop.time() >= end:
                raise complaint
            await asyncio.sleep(0.2)


def _trouble(setting: str, url: str) -> ConfigError | None:
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    try:
        here = with_address(url)
        if is_local(here) and not is_local(url):
            stands_for = urllib.parse.urlsplit(here).hostname
            return _complaint(
                setting,
                f"{host} stands for {stands_for} here (/etc/hosts?), where no other machine comes: "
                "let it stand for the address that the others know",
            )
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as error:
        what = (
            f"{host} is no name that this machine knows ({error.strerror}): write an address of this machine"
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"{host}:{port} is taken by another program (Debian's etcd service?): stop it, or use another port"
        elif error.errno == errno.EADDRNOTAVAIL:
            what = f"{host} is no address of this machine: write one of `ip address`"
        else:
            what = f"{host}:{port} can't be listened on: {error.strerror}"
    else:
        return None
    return _complaint(setting, what)


def _complaint(setting: str, what: str) -> ConfigError:
    return ConfigError(f"store.member.{setting}: {what}", field=f"store.member.{setting}")


def with_address(url: str) -> str:
    """The URL with the address that its name stands for here, which `until_free` has seen. Blocks for a moment."""
    parts = urllib.parse.urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    host = str(found[0][4][0])
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port}"


def free_port() -> int:
    """Free now, on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

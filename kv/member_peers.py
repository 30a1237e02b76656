"""What other members say before this one runs: on their peer ports, without a login.

Owns these questions: to which cluster a peer belongs, whom it knows, and what its clock says. etcd answers them to any
HTTP client with a certificate of the cluster; the clock is the answer's Date, so it is known to the second only.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp
import msgspec

from discovery.kv.member_plan import MemberSettings

PEER_LIMIT = 2.0  # seconds


class PeerMember(msgspec.Struct, frozen=True):
    """A member as a peer lists it. It has no client URLs as long as it was never started."""

    id: int
    peerURLs: tuple[str, ...] = ()  # etcd's names
    name: str = ""
    clientURLs: tuple[str, ...] = ()


class Peer(NamedTuple):
    """`cluster_id` in hex. `ahead`: seconds by which its clock is ahead of ours. `error`: why it said nothing."""

    url: str
    cluster_id: str = ""
    members: Sequence[PeerMember] = ()
    ahead: float = 0.0
    error: str = ""


def tls_context(settings: MemberSettings) -> ssl.SSLContext | None:
    if not settings.cert:
        return None
    context = ssl.create_default_context(cafile=settings.ca)
    context.load_cert_chain(settings.cert, settings.key)
    return context


async def ask_peers(urls: Iterable[str], context: ssl.SSLContext | None) -> Sequence[Peer]:
    """Each within PEER_LIMIT, all at once."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PEER_LIMIT)) as session:
        return await asyncio.gather(*(_ask(session, url.rstrip("/"), context) for url in urls))


async def _ask(session: aiohttp.ClientSession, url: str, context: ssl.SSLContext | None) -> Peer:
    try:
        async with session.get(f"{url}/members", ssl=context or True) as answer:
            said = await answer.read()
            if answer.status != 200:
                return Peer(url, error=f"it answers {answer.status}")
            members = msgspec.json.decode(said, type=tuple[PeerMember, ...])
            sent = parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5
            return Peer(url, answer.headers["X-Etcd-Cluster-Id"], members, sent - time.time())
    except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError) as error:
        return Peer(url, error=str(error) or "it does not answer")

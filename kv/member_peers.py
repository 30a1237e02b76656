"""What other members say before this one runs: on their peer ports, without a login.

Owns these questions: to which cluster a peer belongs, whom it knows, and what its clock says. etcd answers them to any
HTTP client with a certificate of the cluster; the clock is the answer's Date, so it is known to the second only. It
judges nothing.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec

from discovery.kv.member_plan import MemberSettings
from discovery.kv.member_verdicts import Peer, PeerMember

PEER_LIMIT = 2.0  # seconds


def tls_context(settings: MemberSettings) -> ssl.SSLContext | None:
    if not settings.cert:
        return None
    context = ssl.create_default_context(cafile=settings.ca)
    context.load_cert_chain(settings.cert, settings.key)
    return context


async def ask_peers(urls: Iterable[str], context: ssl.SSLContext | None) -> Sequence[Peer]:
    """Each within PEER_LIMIT, all at once."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PEER_LIMIT)) as session:
        return await asyncio.gather(*(_ask(session, url, context) for url in urls))


async def _ask(session: aiohttp.ClientSession, url: str, context: ssl.SSLContext | None) -> Peer:
    try:
        async with session.get(f"{url}/members", ssl=context or True, allow_redirects=False) as answer:
            said = await answer.read()
            if answer.status != 200:
                return Peer(url, error=f"it answers with status {answer.status}", strange=True)
            members = msgspec.json.decode(said, type=tuple[PeerMember, ...])
            sent = parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5
            return Peer(url, answer.headers["X-Etcd-Cluster-Id"], members, sent - time.time())
    except aiohttp.ClientSSLError as error:
        return Peer(url, error=f"no TLS connection: {error.os_error}", strange=True)
    except (KeyError, ValueError):
        return Peer(url, error="it is no etcd", strange=True)
    except TimeoutError:
        return Peer(url, error="it does not answer")
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        return Peer(url, error=os.strerror(number).lower() if number else str(error))
    except (aiohttp.ClientError, OSError) as error:
        return Peer(url, error=str(error) or "it does not answer")

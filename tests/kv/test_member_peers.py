"""What a member's peers say, asked of real servers that say it, say something else, or say nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest
import trustme
from aiohttp import web

from discovery.kv.member_peers import ask_peers
from discovery.kv.member_verdicts import Peer, PeerMember

LISTING = b'[{"id":14753957143982939534,"peerURLs":["http://10.0.0.1:2380"],"name":"n1","clientURLs":["http://10.0.0.1:2379"]}]'


@asynccontextmanager
async def answering(response: web.Response, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of a server whose `/members` is that."""

    async def members(_: web.Request) -> web.Response:
        return response

    app = web.Application()
    app.router.add_get("/members", members)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def etcd(body: bytes = LISTING, ahead: float = 0.0, **headers: str) -> web.Response:
    import time

    date = formatdate(time.time() + ahead, usegmt=True)
    return web.Response(body=body, headers={"X-Etcd-Cluster-Id": "27cf", "Date": date} | headers)


async def ask(url: str, context: ssl.SSLContext | None = None) -> Peer:
    (peer,) = await ask_peers([url], context)
    return peer


async def test_a_member_says_its_cluster_its_members_and_the_time() -> None:
    async with answering(etcd()) as url:
        peer = await ask(url)
    assert (peer.url, peer.cluster_id, peer.error, peer.strange) == (url, "27cf", "", False)
    assert peer.members == (
        PeerMember(14753957143982939534, ("http://10.0.0.1:2380",), "n1", ("http://10.0.0.1:2379",)),
    )
    assert abs(peer.ahead) < 5


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
async def test_a_clock_far_off_is_seen(ahead: float) -> None:
    async with answering(etcd(ahead=ahead)) as url:
        assert abs((await ask(url)).ahead - ahead) < 5


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (web.Response(status=404), "it answers with status 404"),
        (web.Response(status=302, headers={"Location": "/elsewhere"}), "it answers with status 302"),
        (etcd(b"<html>"), "it is no etcd"),
        (etcd(b'{"members": 1}'), "it is no etcd"),
        (etcd(Date="yesterday"), "it is no etcd"),
        (web.Response(body=b"[]"), "it is no etcd"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_something_else_that_answers_is_strange(response: web.Response, error: str) -> None:
    async with answering(response) as url:
        peer = await ask(url)
    assert (peer.error, peer.strange) == (error, True)


async def test_nobody_there_is_an_error_and_not_strange() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, and nobody listens
        peer = await ask(f"http://127.0.0.1:{probe.getsockname()[1]}")
    assert (peer.error, peer.strange) == ("connection refused", False)


async def test_tls_on_one_side_only_or_of_another_authority_is_strange() -> None:
    authority, other = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting, wrong = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)
    other.configure_trust(wrong)
    async with answering(etcd(), server) as url:
        assert (await ask(url, trusting)).cluster_id == "27cf"
        untrusted = await ask(url, wrong)
        assert untrusted.strange
        assert untrusted.error.startswith("no TLS connection: ")
    async with answering(etcd()) as url:
        plain = await ask(url.replace("http:", "https:"), trusting)
        assert plain.strange

"""Which node is asked, and what its answers become, against real HTTP servers."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from discovery.client import BadCall, Client, Contradicted, NotAllowed, NotRegistered, Refused, Unavailable
from discovery.client.transport import node_urls
from discovery.errors import ConfigError
from tests.support.certificates import AUTHORITY, certificate
from tests.support.http_node import HttpNode, problem


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_the_next_node_is_asked_and_stayed_with() -> None:
    dead = f"http://127.0.0.1:{unused_port()}"
    with HttpNode() as one, HttpNode() as two:
        two.refusals.append(("PUT", problem(503, "no quorum")))
        async with Client([dead, two.url, one.url]) as client:
            await client.register("web", "i1", port=80)
            assert (one.count("PUT"), two.count("PUT")) == (1, 1)
            await client.heartbeat("web", "i1")
            assert (one.count("POST"), two.count("POST")) == (1, 0)
            one.stop()
            with pytest.raises(NotRegistered):
                await client.heartbeat("web", "i1")
            assert two.count("POST") == 1


async def test_no_node_at_all_says_what_each_said_and_when_to_come_back() -> None:
    dead = f"http://127.0.0.1:{unused_port()}"
    with HttpNode() as node:
        refusal = problem(503, "no quorum")
        refusal.headers["Retry-After"] = "7"
        node.refusals.append(("PUT", refusal))
        async with Client(f"{dead}, {node.url}") as client:
            with pytest.raises(Unavailable) as raised:
                await client.register("web", "i1")
    assert raised.value.retry_after == 7
    assert raised.value.detail == (f"no node answers at {dead} (Connection refused); {node.url}: no quorum")


async def test_a_node_that_hangs_is_left() -> None:
    with HttpNode() as hung, HttpNode() as well:
        hung.hangs = True
        async with Client([hung.url, well.url]) as client:
            await client.register("web", "i1", seconds=0.05)
            assert well.count("PUT") == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadCall),
        (413, BadCall),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotRegistered),
        (409, Contradicted),
        (412, Contradicted),
        (418, Refused),
    ],
)
async def test_a_no_is_an_error_of_its_kind(status: int, kind: type[Refused]) -> None:
    with HttpNode() as node:
        node.refusals.append(("PUT", problem(status, "it is wrong", "port")))
        async with Client([node.url, node.url]) as client:
            with pytest.raises(kind) as raised:
                await client.register("web", "i1", port=80)
    assert type(raised.value) is kind
    assert (raised.value.answered, raised.value.field) == (status, "port")
    assert raised.value.detail == "port: it is wrong"
    assert node.count("PUT") == 1  # a no is not asked for twice


async def test_what_is_no_node_is_refused() -> None:
    with HttpNode() as node:
        async with Client(node.url + "/html") as client:
            with pytest.raises(Unavailable, match="answered with 502"):
                await client.services()
        node.answers["GET", "/v1/services"] = [1, 2]
        async with Client(node.url) as client:
            with pytest.raises(Refused, match="is a node there"):
                await client.services()


async def test_the_token_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    with HttpNode() as node:
        monkeypatch.setenv("DISCOVERY_TOKEN_FILE", str(tmp_path / "token"))
        async with Client(node.url) as client:
            await client.services()
        monkeypatch.setenv("DISCOVERY_NODE", node.url)
        monkeypatch.setenv("DISCOVERY_TOKEN", "from-environment")
        async with Client() as client:
            await client.services()
        async with Client(token="given") as client:
            await client.services()
        sent = [each["Authorization"].removeprefix("Bearer ") for each in node.headers]
        assert sent == ["from-file", "from-environment", "given"]


async def test_a_connection_that_the_node_closed_meanwhile_costs_nothing() -> None:
    with HttpNode() as node:
        async with Client(node.url) as client:
            await client.register("web", "i1")
            node.stop()
            node.start()
            node.instances["web", "i1"] = {}
            await client.heartbeat("web", "i1")


@pytest.mark.parametrize("text", ["", "localhost:8053", "ftp://h", "http://", "http://a,,http://b", []])
def test_what_is_no_address_of_a_node(text: str | list[str]) -> None:
    with pytest.raises(ConfigError):
        node_urls(text)


def test_files_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"/nowhere\.pem cannot be used for TLS"):
        Client(ca="/nowhere.pem")
    with pytest.raises(ConfigError, match="without its certificate"):
        Client(key="/key.pem")
    monkeypatch.setenv("DISCOVERY_TOKEN_FILE", "/nowhere.token")
    with pytest.raises(ConfigError, match=r"/nowhere\.token cannot be read"):
        Client()
    monkeypatch.delenv("DISCOVERY_TOKEN_FILE")
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        Client(dns="10.0.0.1")


async def test_a_client_that_is_not_open() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client().services()


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    ca = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(files.cert, files.key)
    context.verify_mode = ssl.CERT_REQUIRED

    async def services(_: web.Request) -> web.Response:
        return web.json_response({"services": [{"service": "web", "instances": 1}]})

    app = web.Application()
    app.router.add_get("/v1/services", services)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with Client(url, ca=str(ca), cert=str(files.cert), key=str(files.key)) as client:
            assert await client.services() == {"web": 1}
        async with Client(url) as client:
            with pytest.raises(Unavailable, match="its certificate is not trusted"):
                await client.services()
        async with Client(url, ca=str(ca)) as client:
            with pytest.raises(Unavailable):
                await client.services()
    finally:
        await runner.cleanup()

"""Each check against a real server that is well, one that is not, and none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from grpc import RpcMethodHandler, aio, unary_unary_rpc_method_handler
from grpc import method_handlers_generic_handler as generic_handler

from discovery.agent import probes
from discovery.errors import ConfigError
from tests.discovery.client.test_transport import unused_port
from tests.support.api import until
from tests.support.certificates import certificate
from tests.support.live import LiveServer

HOST = "127.0.0.1"


@asynccontextmanager
async def http_server() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]), headers={"Location": "/200"})

    app = web.Application()
    app.router.add_get("/{status}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_http() -> None:
    async with http_server() as url:
        assert await probes.http(f"{url}/200")()
        assert await probes.http(f"{url}/204")()
        assert await probes.http(f"{url}/302")()
        for status in (404, 503):
            with pytest.raises(OSError, match=f"/{status} answered {status}"):
                await probes.http(f"{url}/{status}")()
        port = int(url.rpartition(":")[2])
        assert await probes.tcp(HOST, port)()
    with pytest.raises(OSError):
        await probes.http(f"{url}/200")()
    with pytest.raises(OSError):
        await probes.tcp(HOST, port)()


async def test_a_command() -> None:
    assert await probes.command(["true"])()
    with pytest.raises(OSError, match="false exited with 1"):
        await probes.command(["false"])()
    with pytest.raises(OSError):
        await probes.command(["/nonesuch"])()


async def test_a_command_that_hangs_is_killed_with_all_it_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! $$ > {pids}; wait"
    task = asyncio.ensure_future(probes.command(["sh", "-c", script])())
    await until(lambda: pids.exists() and pids.read_text().endswith("\n"), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()

    def running(pid: str) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"

    await until(lambda: not any(map(running, pids.read_text().split())), 30)


async def test_dns(tmp_path: Path) -> None:
    with LiveServer({"i1.web": {"host": "10.0.0.1", "port": 80}}, certificate(tmp_path)) as server:
        assert await probes.dns(HOST, server.port, "web.d.test", "A")()
        assert await probes.dns(HOST, server.port, "web.d.test", "srv")()
        assert not await probes.dns(HOST, server.port, "web.d.test", "AAAA")()
        with pytest.raises(OSError, match="NXDOMAIN"):
            await probes.dns(HOST, server.port, "nothing.d.test", "A")()
    with pytest.raises(ConfigError, match="no record type"):
        probes.dns(HOST, 53, "web.d.test", "B")


class Health:
    """grpc.health.v1 by its bytes: the server serves, `down` doesn't, others are unknown."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def check(self, request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        self.asked.append(request)
        return b"\x08\x02" if request.endswith(b"down") else b"\x08\x01"

    def handler(self) -> dict[str, RpcMethodHandler[bytes, bytes]]:
        return {"Check": unary_unary_rpc_method_handler(self.check)}


async def test_grpc() -> None:
    health, server = Health(), aio.server()
    server.add_generic_rpc_handlers((generic_handler("grpc.health.v1.Health", health.handler()),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    assert await probes.grpc(f"{HOST}:{port}", "")()
    assert await probes.grpc(f"{HOST}:{port}", "web.Web")()
    assert not await probes.grpc(f"{HOST}:{port}", "down")()
    assert health.asked == [b"", b"\x0a\x07web.Web", b"\x0a\x04down"]
    await server.stop(None)
    with pytest.raises(OSError, match="UNAVAILABLE"):
        await probes.grpc(f"{HOST}:{unused_port()}", "")()


def test_grpc_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ConfigError, match=r"install discovery-dns\[etcd\]"):
        probes.grpc("127.0.0.1:50051", "")

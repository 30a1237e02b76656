"""The checks that can be made of a service from outside: HTTP, TCP, a command, DNS, gRPC's health protocol.

Owns what each of them asks and which answer is a pass. Each is one question over a connection of its own, since a
service that takes no new connections is not well. How often, how long and what follows is `client.checks`'s.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

import aiohttp

from discovery.agent.signals import unblock
from discovery.client import Check
from discovery.client.questions import ask
from discovery.errors import ConfigError

_HEALTH = "/grpc.health.v1.Health/Check"
DNS_SECONDS = 60.0  # more than a check's own limit, which ends the question


def http(url: str) -> Check:
    """Passes when GET is answered with 2xx; redirects are followed, the body is not read."""

    async def check() -> bool:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            if response.status >= 300:
                raise OSError(f"{url} answered {response.status}")
            return True

    return check


def tcp(host: str, port: int) -> Check:
    """Passes when a connection opens."""

    async def check() -> bool:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True

    return check


def command(words: Sequence[str]) -> Check:
    """Passes when it exits with 0. What it prints is not read; cut short, it is killed with all it has started."""

    async def check() -> bool:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=unblock,
        )
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if status:
            raise OSError(f"{words[0]} exited with {status}")
        return True

    return check


def dns(host: str, port: int, name: str, type_: str) -> Check:
    """Passes when the server has at least one such record. Raises ConfigError for an unknown type."""
    from dnslib import QTYPE, RCODE

    number = QTYPE.reverse.get(type_.upper())
    if number is None:
        raise ConfigError(f"{type_!r} is no record type; try A, AAAA or SRV", field="type")

    async def check() -> bool:
        record = await ask(name, int(number), host, port, DNS_SECONDS)
        if record.header.rcode != RCODE.NOERROR:
            raise OSError(f"{host} port {port} answered {RCODE.get(record.header.rcode)}")
        return any(rr.rtype == number for rr in record.rr)

    return check


def grpc(target: str, service: str) -> Check:
    """Passes when grpc.health.v1 says SERVING of `service` ("": of the server), without TLS.

    Raises ConfigError when grpcio is not installed.
    """
    try:
        from grpc import aio
    except ImportError:
        raise ConfigError(
            "a grpc check needs the package grpcio: install discovery-dns[etcd]", field="grpc"
        ) from None
    name = service.encode()
    # HealthCheckRequest{service = 1} and HealthCheckResponse{status = 1: SERVING}: too little for generated messages
    request = b"\x0a" + bytes([len(name)]) + name if name else b""
    serving = b"\x08\x01"

    async def check() -> bool:
        async with aio.insecure_channel(target) as channel:
            call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_HEALTH)
            try:
                return bool(await call(request) == serving)
            except aio.AioRpcError as error:
                raise OSError(f"{target}: {error.code().name}") from None

    if len(name) > 127:
        raise ConfigError(f"the service's name {service!r} is longer than 127 bytes", field="service")
    return check

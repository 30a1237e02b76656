"""The ports of a member: free, taken, or of no address of this machine."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from discovery.errors import ConfigError
from discovery.kv.member_ports import free_port, until_free


def url(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


def taken() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


async def test_ports_that_are_free() -> None:
    await until_free(f"http://127.0.0.1:{free_port()}", f"http://[::1]:{free_port()}")


@pytest.mark.parametrize("which", ["client", "peer"])
async def test_a_port_that_is_taken_is_named(which: str) -> None:
    free = f"http://127.0.0.1:{free_port()}"
    with closing(taken()) as sock:
        urls = {"client": free, "peer": free} | {which: url(sock)}
        with pytest.raises(
            ConfigError, match=rf"^store\.member\.{which}: {url(sock)[7:]} is taken by another"
        ) as told:
            await until_free(urls["client"], urls["peer"])
    assert told.value.field == f"store.member.{which}"


async def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"peer: 192\.0\.2\.1 is no address of this machine: write one of `ip addr"
    ):
        await until_free(f"http://127.0.0.1:{free_port()}", "http://192.0.2.1:2380")


async def test_who_is_about_to_end_is_waited_for() -> None:
    with closing(taken()) as sock:
        waiting = asyncio.create_task(until_free(url(sock), url(sock), 60.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        sock.close()
        await waiting

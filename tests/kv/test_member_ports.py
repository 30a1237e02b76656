"""The ports of a member: free, taken, or of no address of this machine."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv.member_ports import free_port, until_free, with_address
from tests.support.node import ROOT


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


@pytest.mark.slow
def test_a_name_that_stands_for_loopback_is_named(tmp_path: Path) -> None:
    """As Debian's own name of a machine does, 127.0.1.1."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.1.1 n1.example.net\n")
    check = (
        "import asyncio; from discovery.kv.member_ports import until_free; "
        "asyncio.run(until_free('http://n1.example.net:2379', 'http://n1.example.net:2380'))"
    )
    bound = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", bound, "sh", sys.executable, "-c", check],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "store.member.client: n1.example.net stands for 127.0.1.1 here (/etc/hosts?)" in done.stderr


def test_an_address_takes_the_place_of_a_name() -> None:
    assert with_address("http://10.0.0.1:2379") == "http://10.0.0.1:2379"
    assert with_address("https://[::1]:2379") == "https://[::1]:2379"
    assert with_address("http://localhost:2379") in ("http://127.0.0.1:2379", "http://[::1]:2379")

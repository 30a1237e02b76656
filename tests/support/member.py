"""Members of a managed cluster in the test's own process, on free ports of 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from discovery.kv.member import EtcdMember
from discovery.kv.member_plan import MemberSettings
from tests.support.etcd import free_ports

LIMIT = 40.0  # seconds for what etcd does within a few on a machine that does nothing else


def alone(name: str = "n1", **changed: object) -> MemberSettings:
    client, peer = free_ports(2)
    settings = MemberSettings(
        name=name,
        binary="etcd",
        client=f"http://127.0.0.1:{client}",
        peer=f"http://127.0.0.1:{peer}",
        initial_cluster={},
        join="",
        cert="",
        key="",
        ca="",
    )
    return msgspec.structs.replace(settings, **changed)


def listed(*names: str) -> Sequence[MemberSettings]:
    """Of one cluster that begins with these members."""
    ports = iter(free_ports(2 * len(names)))
    urls = {name: (f"http://127.0.0.1:{next(ports)}", f"http://127.0.0.1:{next(ports)}") for name in names}
    peers = {name: peer for name, (_, peer) in urls.items()}
    return [
        alone(name, client=client, peer=peer, initial_cluster=peers) for name, (client, peer) in urls.items()
    ]


@asynccontextmanager
async def members(folder: Path, *all_settings: MemberSettings) -> AsyncIterator[list[EtcdMember]]:
    """Started together, each with its data in a folder of its name; those that run are ended."""
    started = [EtcdMember(folder / each.name, each) for each in all_settings]
    async with AsyncExitStack() as stack:
        for member in started:
            stack.push_async_callback(member.close)
        await asyncio.gather(*(member.start() for member in started))
        yield started


async def until(condition: Callable[[], bool], what: str) -> None:
    """Asks until it holds. Fails the test after LIMIT."""
    try:
        async with asyncio.timeout(LIMIT):
            while not condition():  # noqa: ASYNC110  # what is waited for is another process's
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT} s: {what}") from None

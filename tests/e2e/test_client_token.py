"""The client against a node that asks for a token."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from discovery.agent.shared_lease import SharedLease
from discovery.client import Client, NotAllowed, Registration
from tests.support.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LONG = 60.0  # seconds that only bound a wait
HOST = "10.0.0.1"


async def test_a_service_token_is_all_that_a_registration_and_an_agent_need(tmp_path: Path) -> None:
    token = "the-token-of-web-and-nothing-else"
    settings = ["http.tokens=['register web.prod the-token-of-web-and-nothing-else']"]
    with running_node(tmp_path / "store", settings) as node:
        async with Client(node.url, token=token) as client:
            async with Registration("web.prod", "i1", client=client, host=HOST, lease_ttl=1) as registration:
                await registration.registered(LONG)
                await asyncio.sleep(1)
                await registration.registered(LONG)
                async with Registration("db.prod", "i1", client=client, host=HOST) as other:
                    with pytest.raises(NotAllowed):
                        await other.registered(LONG)
            lease = SharedLease(client, 1)
            living = asyncio.create_task(lease.live())
            lease.want(("web.prod", "i2"), {"host": HOST})
            await asyncio.wait_for(lease.registered.wait(), LONG)
            await client.lease_instances(lease._lease.id if lease._lease else "")
            living.cancel()
            await lease.end()
            assert await client.services() == {}
        async with Client(node.url) as client:
            with pytest.raises(NotAllowed):
                await client.services()

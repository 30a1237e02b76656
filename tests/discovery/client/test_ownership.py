"""Two programs with one id, against the real API: the end of one takes out no more than its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.client import Client, Fields, Registration
from tests.support.api import running_api

LONG = 30.0  # seconds that only bound a wait
HOST: Fields = {"host": "10.0.0.1", "port": 80}


@pytest.mark.parametrize("port", [80, 81])
async def test_the_old_ones_end_leaves_the_new_one_alone(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a service is started anew while the old process still ends; with other fields and with the same."""
    async with running_api(tmp_path) as api, Client(f"http://{api.host}:{api.port}") as client:
        async with Registration("web", "i1", client=client, **HOST) as old:
            await old.registered(LONG)
            second: Fields = {"host": "10.0.0.1", "port": port}
            new = Registration("web", "i1", client=client, **second)
            await new.__aenter__()
            made = await new.registered(LONG)
        assert [each.revision for each in await client.instances("web")] == [made.revision]
        assert "registered anew by another program" in caplog.text
        await client.heartbeat("web", "i1")
        await new.__aexit__(None, None, None)
        assert await client.instances("web") == []


async def test_what_was_drained_or_came_back_is_its_own(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, Client(f"http://{api.host}:{api.port}") as client:
        for verbs in (["drain"], ["drain", "undrain"]):
            async with Registration("web", "i1", client=client, **HOST) as kept:
                await kept.registered(LONG)
                for verb in verbs:
                    assert (await api.call("POST", f"/v1/services/web/i1/{verb}")).status == 200
            assert await client.services() == {}
        assert await api.leases() == 0


async def test_what_a_crashed_one_left_is_made_its_own(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, Client(f"http://{api.host}:{api.port}") as client:
        crashed = await client.register("web", "i1", host="10.0.0.1", lease_ttl=77)
        async with Registration("web", "i1", client=client, host="10.0.0.1", lease_ttl=77) as kept:
            made = await kept.registered(LONG)
            assert made.lease_ttl == 77
            assert made.lease != crashed.lease
            assert await api.leases() == 1
        assert await client.services() == {}


async def test_a_permanent_one_has_no_lease_to_tell_it_by(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, Client(f"http://{api.host}:{api.port}") as client:
        await client.register("web", "i1", host="10.0.0.1", lease_ttl=0)
        async with Registration("web", "i1", client=client, host="10.0.0.1", lease_ttl=0) as kept:
            assert (await kept.registered(LONG)).lease is None
            assert await api.leases() == 0
        assert await client.services() == {}

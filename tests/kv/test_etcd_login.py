"""Users and passwords of etcd: who may, tokens that end, and what is told of a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.kv.contract import AuthError, Put, Unavailable
from discovery.kv.etcd_endpoints import Access, Endpoints
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import eventually, opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EtcdCluster]:
    """Users root, node (all keys) and part (only /skydns/), each with its name as the password."""
    with etcd_cluster(tmp_path / "guarded", flags=["--auth-token-ttl", "1"]) as cluster:
        for user in ("root", "node", "part"):
            cluster.ctl("user", "add", f"{user}:{user}")
        cluster.ctl("user", "grant-role", "root", "root")
        for role, prefix in (("node", ""), ("part", "/skydns/")):
            cluster.ctl("role", "add", role)
            cluster.ctl("role", "grant-permission", role, "readwrite", prefix, "--prefix=true")
            cluster.ctl("user", "grant-role", role, role)
        cluster.ctl("auth", "enable")
        cluster.ctl_flags = ["--user", "root:root"]
        yield cluster


def access(cluster: EtcdCluster, user: str, password: str | None = None) -> Access:
    return Access(cluster.endpoints, username=user, password=user if password is None else password)


class TestLogin:
    async def test_a_user_may_do_all_that_the_store_is_for(
        self, guarded: EtcdCluster, tmp_path: Path
    ) -> None:
        async with opened(access(guarded, "node")) as store:
            done = await store.txn([], [Put(b"/skydns/a", b"1")], grant_ttl=30)
            assert done.lease is not None
            async with store.watch(b"/skydns/", b"/skydns0", from_revision=done.revision) as batches:
                assert (await anext(batches)).revision == done.revision
            assert await store.lease_keepalive(done.lease.id) == 30
            assert (await store.lease_ttl(done.lease.id))[0] == 30
            status = await store.status()
            assert (status.errors, status.leases) == ([], 1)
            assert [member.error for member in await store.members()] == [""]
            await store.compact(done.revision)
            await store.lease_revoke(done.lease.id)
            with pytest.raises(AuthError, match="role root"):
                await store.snapshot(tmp_path / "snapshot")
        async with opened(access(guarded, "root")) as store:
            await store.snapshot(tmp_path / "snapshot")

    async def test_a_wrong_password_is_told_in_one_line(self, guarded: EtcdCluster) -> None:
        async with opened(access(guarded, "node", "wrong")) as store:
            with pytest.raises(AuthError, match=r"store\.etcd\.username") as refused:
                await store.put(b"/skydns/a", b"1")
            assert "invalid user ID or password" in refused.value.detail
            assert "\n" not in refused.value.detail

    async def test_no_user_where_one_is_asked_for_is_told(self, guarded: EtcdCluster) -> None:
        async with opened(guarded) as store:
            with pytest.raises(AuthError, match="login"):
                await store.put(b"/skydns/a", b"1")

    async def test_a_user_without_the_right_to_our_own_state_is_told(self, guarded: EtcdCluster) -> None:
        async with opened(access(guarded, "part")) as store:
            with pytest.raises(AuthError, match="/discovery/"):
                await store.put(b"/discovery/x", b"1")
            with pytest.raises(AuthError, match="/discovery/"):
                await store.range(b"/skydns/a")

    async def test_a_watch_that_is_not_permitted_is_told(self, guarded: EtcdCluster) -> None:
        """etcd says so in a message that cancels the watch."""
        base = ["/discovery/", "--prefix=true"]
        guarded.ctl("user", "add", "blind:blind")
        guarded.ctl("role", "add", "blind")
        guarded.ctl("role", "grant-permission", "blind", "readwrite", *base)
        guarded.ctl("user", "grant-role", "blind", "blind")
        async with opened(access(guarded, "blind")) as store:
            revision = await store.put(b"/discovery/x", b"1")
            with pytest.raises(AuthError, match="permission denied"):
                async with store.watch(b"/skydns/", b"/skydns0", from_revision=revision) as batches:
                    await anext(batches)

    async def test_a_token_that_ended_is_one_login_for_all(self, guarded: EtcdCluster) -> None:
        (member,) = guarded.members
        async with opened(access(guarded, "node")) as store:
            await store.put(b"/skydns/a", b"1")
            before = member.started("Authenticate")
            member.stop()  # tokens live in memory
            member.start()
            await asyncio.to_thread(member.until_healthy)
            before = member.started("Authenticate")
            await asyncio.gather(*(store.put(b"/skydns/%d" % number, b"") for number in range(100)))
            assert member.started("Authenticate") - before == 1

    async def test_a_stream_that_began_with_the_token_of_before_is_no_second_login(
        self, guarded: EtcdCluster
    ) -> None:
        endpoints = Endpoints(access(guarded, "node"))
        await endpoints.ready()
        old, held = (("token", "gone.1"),), endpoints.metadata(leader=False)
        await asyncio.gather(*(endpoints.login_anew(endpoints.current, old) for _ in range(3)))
        assert endpoints.metadata(leader=False) == held
        await asyncio.gather(*(endpoints.login_anew(endpoints.current, held) for _ in range(3)))
        assert endpoints.metadata(leader=False) != held
        assert guarded.members[0].started("Authenticate") == 2
        await endpoints.close()

    async def test_a_token_whose_time_is_over_is_renewed(self, guarded: EtcdCluster) -> None:
        (member,) = guarded.members
        async with opened(access(guarded, "node")) as store:
            await store.put(b"/skydns/a", b"0")
            before = member.started("Authenticate")
            await asyncio.sleep(2.5)  # of real time, which etcd's tokens live in: here for a second unused
            await store.put(b"/skydns/a", b"0")
            assert member.started("Authenticate") > before
            before = member.started("Authenticate")
            revision = await store.put(b"/skydns/a", b"1")
            held = store._endpoints._token
            store._endpoints._token = "gone.1"  # as one that etcd has forgotten
            async with store.watch(b"/skydns/a", from_revision=revision) as batches:
                assert (await anext(batches)).revision == revision
                assert store._endpoints._token not in ("", "gone.1", held)
                await store.put(b"/skydns/a", b"2")
                assert (await anext(batches)).revision == revision + 1
            assert member.started("Authenticate") - before <= 3

    async def test_many_who_wait_for_a_login_that_hangs_are_told_together(self, guarded: EtcdCluster) -> None:
        async with opened(access(guarded, "node")) as store, asyncio.timeout(20):
            await store.put(b"/skydns/a", b"")
            guarded.members[0].pause()
            store._endpoints._token = ""
            calls = (store.put(b"/skydns/%d" % number, b"") for number in range(50))
            told = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(each) for each in told} == {Unavailable}
            guarded.members[0].resume()
            await eventually(lambda: store.put(b"/skydns/a", b""))

    async def test_a_user_where_nobody_is_asked_does_no_harm(self, tmp_path: Path) -> None:
        with etcd_cluster(tmp_path / "open") as cluster:
            async with opened(access(cluster, "node")) as store:
                await store.put(b"/skydns/a", b"1")

"""discovery.token_store on a real store: what one node makes or revokes, the other knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.errors import Conflict, NotFound
from discovery.kv.contract import prefix_end
from discovery.kv.embedded import EmbeddedStore
from discovery.token_store import Tokens
from discovery.tokens import PREFIX, Configured, Role, RoleName, Stored, configured
from tests.support.api import until

NONE = Configured({}, {})


def wanted(role: RoleName = "operate", *, expires_at: float = 0) -> Stored:
    names = ("web.",) if role == "register" else ()
    return Stored(name="n", role=role, names=names, hash="", created_at=1, expires_at=expires_at)


@asynccontextmanager
async def two_nodes(path: Path, first: Configured = NONE) -> AsyncIterator[tuple[Tokens, Tokens]]:
    """The lists of two nodes over one store."""
    store = EmbeddedStore(path)
    await store.start()
    both = Tokens(store, first), Tokens(store, NONE)
    for each in both:
        each.start()
        await each.loaded.wait()
    try:
        yield both
    finally:
        for each in both:
            await each.close()
        await store.close()


async def test_a_token_holds_on_all_nodes_until_it_is_revoked(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, there):
        assert not here.any
        admin, _ = await here.make(wanted())
        made, token = await here.make(wanted("read"))
        found = here.find(token)
        assert found is not None
        assert (found.id, found.role) == (made, Role.READ)
        await until(lambda: there.find(token) == found)
        await there.revoke(made)
        assert there.find(token) is None
        await until(lambda: here.find(token) is None)
        assert [each.id for each in await here.listed()] == [admin]


async def test_only_a_hash_is_stored(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, _):
        _, token = await here.make(wanted())
        found = await here._store.range(PREFIX, prefix_end(PREFIX))
        assert len(found.kvs) == 1
        assert token.removeprefix("dsc_").encode() not in found.kvs[0].value
        assert len(token) >= 43 + 4  # 256 bits


async def test_the_first_token_lets_its_maker_in_for_ever(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, _):
        for role, end in (("read", 0.0), ("register", 0.0), ("operate", 9e9)):
            with pytest.raises(Conflict, match="first make one of role operate"):
                await here.make(wanted(role, expires_at=end))  # type: ignore[arg-type]


async def test_the_last_operator_stays(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, _):
        admin, _ = await here.make(wanted())
        other, _ = await here.make(wanted("read"))
        await here.make(wanted(expires_at=9e9))
        with pytest.raises(Conflict, match="last token of role operate"):
            await here.revoke(admin)
        second, _ = await here.make(wanted())
        await here.revoke(admin)
        await here.revoke(other)
        with pytest.raises(Conflict):
            await here.revoke(second)
        with pytest.raises(NotFound, match="no token"):
            await here.revoke(admin)


async def test_of_two_that_revoke_the_last_two_operators_at_once_one_is_refused(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (here, there):
        await here.make(wanted("operate"))
        await here.make(wanted("read"))
        for _ in range(5):
            second, _ = await there.make(wanted())
            first = next(
                each.id for each in await here.listed() if each.stored.role == "operate" and each.id != second
            )
            done = await asyncio.gather(here.revoke(first), there.revoke(second), return_exceptions=True)
            assert [type(each) for each in done if each is not None] == [Conflict], done


async def test_the_only_one_does_not_go_while_another_is_made(tmp_path: Path) -> None:
    """Or nobody could make a further one."""
    async with two_nodes(tmp_path) as (here, there):
        only, _ = await here.make(wanted())
        await until(lambda: there.any)
        done = await asyncio.gather(here.revoke(only), there.make(wanted("read")), return_exceptions=True)
        assert any(isinstance(each, Conflict) for each in done), done
        roles = {each.stored.role for each in await here.listed()}
        assert roles in (set(), {"operate", "read"})


async def test_one_alone_may_go_and_one_beside_the_configuration_too(tmp_path: Path) -> None:
    async with two_nodes(tmp_path, configured(["operate a-token-of-the-file"], ())) as (here, there):
        admin, _ = await here.make(wanted())
        await here.revoke(admin)
        await until(lambda: not there.any)
        alone, _ = await there.make(wanted())
        await there.revoke(alone)
        assert not there.any


async def test_an_unreadable_token_closes_and_never_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_nodes(tmp_path) as (here, _):
        with caplog.at_level(logging.WARNING):
            await here._store.put(PREFIX + b"x", b'{"hash": "never-shown"}')
            await until(lambda: here.any)
        assert "/discovery/tokens/x is unreadable" in caplog.text
        assert "never-shown" not in caplog.text
        assert await here.listed() == []

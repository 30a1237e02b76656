"""The secrets of cookies in the store: made once, shared by all nodes, rolled over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.cookie_secrets import KEY, CookieSecrets
from discovery.dns.cookies import LIFE, PAST, STAGED, Secret
from discovery.kv.contract import Compare, Op, TxnResult
from discovery.kv.embedded import EmbeddedStore

NOW = 1_800_000_000


class OneNode:
    """`told`: what it was told, in order."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.now = float(NOW)
        self.told: list[Sequence[Secret]] = []
        self.secrets = CookieSecrets(store, self.told.append, lambda: self.now)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(path)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def test_one_node_makes_them_and_the_others_find_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second = OneNode(store), OneNode(store)
        for node in (first, second, first):
            await node.secrets.look()
        ((secret,),) = first.told
        assert second.told == [(secret,)]
        assert (len(secret.key), secret.since) == (16, NOW)


async def test_they_outlive_the_node_and_roll_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        node = OneNode(store)
        await node.secrets.look()
        ((first,),) = node.told
        node = OneNode(store)
        node.now += LIFE
        await node.secrets.look()
        node.now += STAGED + PAST + 300
        await node.secrets.look()
        (both, (second,)) = node.told
        assert both == (first, second)
        assert second.since == NOW + LIFE + STAGED


async def test_a_node_that_was_not_first_takes_what_the_first_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes between its reading and its writing."""
    async with opened(tmp_path) as store:
        first, second = OneNode(store), OneNode(store)
        txn = store.txn

        async def late(when: Sequence[Compare], then: Sequence[Op]) -> TxnResult:
            monkeypatch.undo()
            await first.secrets.look()
            return await txn(when, then)

        monkeypatch.setattr(store, "txn", late)
        await second.secrets.look()
        assert first.told == second.told


@pytest.mark.parametrize(
    "value", [b"{", b'{"secrets":[["zz",1]]}', b'{"secrets":[["00",1]]}', b'{"secrets":[]}']
)
async def test_what_is_unreadable_is_made_anew(tmp_path: Path, value: bytes) -> None:
    async with opened(tmp_path) as store:
        await store.put(KEY, value)
        node = OneNode(store)
        await node.secrets.look()
        assert len(node.told[0][0].key) == 16

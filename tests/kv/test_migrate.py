"""The copy of a store that is written to meanwhile. Both stores are embedded: it asks the contract alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv import migrate
from discovery.kv.contract import Delete, Put, Store, Unavailable
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.migrate import Copy, Source

Held = dict[bytes, tuple[bytes, int]]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(path, clock=lambda: 0.0)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def copying(
    path: Path, *, left_out: set[bytes] | None = None
) -> AsyncIterator[tuple[EmbeddedStore, EmbeddedStore, Copy]]:
    """The store that is moved, where it goes, and what moves it."""
    async with opened(path / "old") as old, opened(path / "new") as new:
        source = Source(path / "old" / "store.db", left_out or set())
        copy = Copy(source, new, lambda written: None)
        try:
            yield old, new, copy
        finally:
            await copy.close()
            source.close()


async def held(store: Store) -> Held:
    return {kv.key: (kv.value, kv.lease) for kv in (await store.range(b"", b"\0")).kvs}


async def test_all_keys_and_leases_go_along_each_lease_with_its_id_and_ttl(tmp_path: Path) -> None:
    async with copying(tmp_path, left_out={b"/discovery/revision-base"}) as (old, new, copy):
        await old.lease_grant(5, 0xABC)
        await old.lease_grant(3600, 7)  # without keys
        await old.put(b"/discovery/revision-base", b"5")
        await old.put(b"/discovery/secret", bytes(range(256)))
        for first in range(0, 1200, 400):
            await old.txn([], [Put(b"/skydns/%d" % n, b"v%d" % n, 0xABC) for n in range(first, first + 400)])
        assert await copy.round() == 1203
        assert await copy.round() == 0
        kvs = await copy.finish()
        wanted = await held(old)
        del wanted[b"/discovery/revision-base"]
        assert await held(new) == wanted == {kv.key: (kv.value, kv.lease) for kv in kvs}
        assert {lease: (await new.lease_ttl(lease))[0] for lease in new.lease_ids()} == {0xABC: 5, 7: 3600}


async def test_what_changes_meanwhile_follows(tmp_path: Path) -> None:
    async with copying(tmp_path) as (old, new, copy):
        for lease in (1, 2, 3, 4):
            await old.lease_grant(10, lease)
        await old.txn([], [Put(b"/%d" % n, b"", n) for n in (1, 2, 3, 4)] + [Put(b"/5", b"")])
        await copy.round()
        await old.put(b"/1", b"permanent now")
        await old.lease_revoke(1)
        await old.lease_revoke(2)
        await old.lease_grant(20, 2)  # the same id, another lease
        await old.txn(
            [], [Put(b"/2", b"again", 2), Delete(b"/3"), Put(b"/5", b"changed", 4), Put(b"/6", b"")]
        )
        await copy.round()
        assert await held(new) == await held(old)
        await old.lease_revoke(4)
        await copy.finish()
        assert await held(new) == await held(old)
        assert sorted(new.lease_ids()) == [2, 3]
        assert (await new.lease_ttl(2))[0] == 20


async def test_a_lease_that_ran_out_where_it_goes_is_there_again_with_its_keys(tmp_path: Path) -> None:
    async with copying(tmp_path) as (old, new, copy):
        for lease in (1, 2):
            await old.lease_grant(10, lease)
            await old.put(b"/%d" % lease, b"", lease=lease)
        await copy.round()
        await new.lease_revoke(1)
        await old.put(b"/2", b"newer", lease=2)
        await new.lease_revoke(2)  # found out by the put, not by a renewal
        kvs = await copy.finish()
        assert await held(new) == await held(old)
        assert len(kvs) == 2


async def test_leases_that_never_stay_are_an_error_and_not_for_ever(tmp_path: Path) -> None:
    async with copying(tmp_path) as (old, new, copy):
        await old.lease_grant(10, 1)
        grant = new.lease_grant

        async def grant_and_end(ttl: int, lease_id: int = 0) -> None:
            await grant(ttl, lease_id)
            await new.lease_revoke(lease_id)

        new.lease_grant = grant_and_end  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable, match="leases run out faster than they are copied"):
            await copy.finish()


async def test_large_values_are_written_in_small_transactions(tmp_path: Path) -> None:
    async with copying(tmp_path) as (old, new, copy):
        for number in range(5):
            await old.put(b"/%d" % number, b"x" * (migrate.PIECE_BYTES // 2))
        before = (await new.range(b"/")).revision
        await copy.finish()
        assert (await new.range(b"/")).revision - before == 2  # three values, and two
        assert await held(new) == await held(old)


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    import sqlite3

    from discovery.kv.sqlite_file import close_writer, connect_writer

    file = tmp_path / "store.db"
    close_writer(connect_writer(file))
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET v = 99 WHERE k = 'schema'")
    connection.close()
    with pytest.raises(ConfigError, match="schema version 99"):
        Source(file)

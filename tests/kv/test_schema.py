"""Older files are brought up to date, whole or not at all; newer ones are refused."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv import offline, schema
from discovery.kv.contract import Corrupt
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.snapshot import BUMP, restore_snapshot
from discovery.kv.sqlite_file import connect_writer, read_meta

# What version 1 of the program wrote, word for word. It never changes.
VERSION_1 = """
CREATE TABLE kv (key BLOB PRIMARY KEY, create_rev INTEGER NOT NULL, mod_rev INTEGER NOT NULL,
                 version INTEGER NOT NULL, lease INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX kv_lease ON kv (lease) WHERE lease <> 0;
CREATE TABLE log (rev INTEGER NOT NULL, sub INTEGER NOT NULL, key BLOB NOT NULL, create_rev INTEGER NOT NULL,
                  version INTEGER NOT NULL, lease INTEGER NOT NULL, value BLOB, PRIMARY KEY (rev, sub)) WITHOUT ROWID;
CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL);
CREATE TABLE meta (k TEXT PRIMARY KEY, v INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', 1), ('revision', 3), ('compact', 0), ('clean', 0);
INSERT INTO lease VALUES (77, 3600), (78, 30);
INSERT INTO kv VALUES (x'61', 2, 2, 1, 0, x'31'), (x'62', 3, 3, 1, 77, x'32');
INSERT INTO log VALUES (2, 0, x'61', 2, 1, 0, x'31'), (3, 0, x'62', 3, 1, 77, x'32');
"""


def version_1(file: Path, *, wal: bool = True) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file)
    if wal:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.executescript(VERSION_1)
    connection.close()


async def test_a_file_of_version_1_is_opened_with_all_it_has(tmp_path: Path) -> None:
    version_1(tmp_path / "store.db")
    store = EmbeddedStore(tmp_path)
    await store.start()
    found = await store.range(b"", b"\0")
    assert [(kv.key, kv.value, kv.mod_revision, kv.lease) for kv in found.kvs] == [
        (b"a", b"1", 2, 0),
        (b"b", b"2", 3, 77),
    ]
    assert await store.lease_ttl(77) == (3600, 3600)
    assert await store.lease_ttl(78) == (30, 30)
    async with store.watch(b"", b"\0", from_revision=1) as batches:
        assert [(await anext(batches)).revision for _ in range(2)] == [2, 3]
    assert await store.put(b"c", b"") == 4
    await store.close()
    assert offline.check(tmp_path / "store.db").schema == schema.SCHEMA_VERSION


def test_a_migrated_file_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    version_1(tmp_path / "old" / "store.db")
    (tmp_path / "new").mkdir()
    columns = []
    for name in ("old", "new"):
        connection = connect_writer(tmp_path / name / "store.db")
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        columns.append([connection.execute(f"PRAGMA table_info({table})").fetchall() for table in tables])
        assert read_meta(connection, "schema") == schema.SCHEMA_VERSION
        connection.close()
    assert columns[0] == columns[1]


def test_a_migration_that_fails_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_1(tmp_path / "store.db")
    broken = {1: (*schema.MIGRATIONS[1], "ALTER TABLE nothing ADD COLUMN x")}
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    with pytest.raises(Exception, match="nothing"):
        connect_writer(tmp_path / "store.db")
    monkeypatch.undo()
    assert offline.summary(tmp_path / "store.db").schema == 1
    connection = connect_writer(tmp_path / "store.db")
    assert read_meta(connection, "schema") == schema.SCHEMA_VERSION
    connection.close()


def test_every_version_has_its_migration() -> None:
    assert sorted(schema.MIGRATIONS) == list(range(1, schema.SCHEMA_VERSION))


def test_a_snapshot_of_version_1_is_restored(tmp_path: Path) -> None:
    version_1(tmp_path / "copy", wal=False)
    assert restore_snapshot(tmp_path / "copy", tmp_path / "new", clock=lambda: 0.0) == 3 + BUMP
    assert offline.check(tmp_path / "new" / "store.db").schema == schema.SCHEMA_VERSION
    connection = sqlite3.connect(tmp_path / "copy")
    connection.execute("UPDATE meta SET v = 99 WHERE k = 'schema'")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigError, match="schema version 99"):
        restore_snapshot(tmp_path / "copy", tmp_path / "newer")
    assert not (tmp_path / "newer" / "store.db").exists()


@pytest.mark.parametrize(
    "statement", ["DELETE FROM meta WHERE k = 'schema'", "DELETE FROM meta WHERE k = 'revision'"]
)
def test_a_file_without_its_version_or_revision_is_corrupt(tmp_path: Path, statement: str) -> None:
    version_1(tmp_path / "store.db")
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(Corrupt, match=str(tmp_path / "store.db")):
        asyncio.run(EmbeddedStore(tmp_path).start())

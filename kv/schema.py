"""The tables in the store's file: how a new file gets them, and how an older one is brought up to date.

Owns the schema and its version, which the file carries in `meta.schema`. How: a migration takes a file from one
version to the next; all that a file needs run in one transaction, so that a kill leaves the old version or the new
one. There is no way back: a file of a greater version than this program's is refused.
"""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 2
FIRST_REVISION = 1  # of a new, empty store, as in etcd

SCHEMA = """
CREATE TABLE kv (key BLOB PRIMARY KEY, create_rev INTEGER NOT NULL, mod_rev INTEGER NOT NULL,
                 version INTEGER NOT NULL, lease INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX kv_lease ON kv (lease) WHERE lease <> 0;
CREATE TABLE log (rev INTEGER NOT NULL, sub INTEGER NOT NULL, key BLOB NOT NULL, create_rev INTEGER NOT NULL,
                  version INTEGER NOT NULL, lease INTEGER NOT NULL, value BLOB, PRIMARY KEY (rev, sub)) WITHOUT ROWID;
CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL, remaining INTEGER);
CREATE TABLE meta (k TEXT PRIMARY KEY, v INTEGER NOT NULL) WITHOUT ROWID
"""

MIGRATIONS = {
    1: ("ALTER TABLE lease ADD COLUMN remaining INTEGER",),  # seconds a long lease had left; NULL: all
}
"""Version -> the statements that make the next version of it."""


def create(connection: sqlite3.Connection) -> None:
    """The tables of a new, empty store, in the transaction that is open."""
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    start = {"schema": SCHEMA_VERSION, "revision": FIRST_REVISION, "compact": 0, "clean": 0}
    connection.executemany("INSERT INTO meta VALUES (?, ?)", start.items())


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Brings a file of an older `version` up to date, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for old in range(version, SCHEMA_VERSION):
            for statement in MIGRATIONS[old]:
                connection.execute(statement)
        connection.execute("UPDATE meta SET v = ? WHERE k = 'schema'", (SCHEMA_VERSION,))
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

"""The last view on disk, for a node that is restarted while its cluster is away.

Owns the file `view.db`: SQLite, written by nobody else and read once, at the start. It is a copy and never the truth:
what is damaged or of another prefix is thrown away, and nothing waits for it. How: the feed tells what the view was
told; once a second what came together goes into one transaction, in a thread. It may thus lack the last second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from discovery.errors import ConfigError
from discovery.kv.contract import KV, Event

log = logging.getLogger(__name__)

FILE_NAME = "view.db"
SAVE_EVERY = 1.0  # seconds
MARK_EVERY = 60.0  # seconds between two notes that nothing has changed
FORMAT = 1
_TABLES = """
CREATE TABLE kv(key BLOB PRIMARY KEY, value BLOB, create_rev INT, mod_rev INT, version INT, lease INT) WITHOUT ROWID;
CREATE TABLE meta(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
"""


class Saved(NamedTuple):
    """`age`: seconds since the view was last known to be what the store held."""

    kvs: Sequence[KV]
    revision: int
    age: float


class SavedView:
    """`directory` is made (0700) when it does not exist. `now`: seconds since the epoch."""

    def __init__(self, directory: Path, prefix: str, *, now: Callable[[], float] = time.time) -> None:
        self._file = directory / FILE_NAME
        self._prefix = prefix
        self._now = now
        self._connection: sqlite3.Connection | None = None
        self._whole: Sequence[KV] | None = None
        self._changed: dict[bytes, KV | None] = {}
        self._revision = 0
        self._current_at = 0.0
        self._marked_at = 0.0
        self._saving: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._failing = False

    async def open(self) -> None:
        """Raises ConfigError when the file can't be made, or another node has it open."""
        self._connection = await asyncio.to_thread(self._connect)
        self._saving = asyncio.create_task(self._keep_saving(), name="saved-view")

    async def close(self) -> None:
        """Saves what has come, and closes. Closing twice is allowed."""
        self._closing.set()
        saving, self._saving = self._saving, None
        if saving is not None:
            await saving  # never cancelled: its thread would go on with the connection all the same
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.to_thread(connection.close)

    @property
    def revision(self) -> int:
        """The view's that was saved, or is to be next; 0: none was. Known from `open` on."""
        return self._revision

    async def load(self) -> Saved | None:
        """None: nothing was saved yet."""
        assert self._connection is not None
        saved = await asyncio.to_thread(self._read, self._connection)
        if saved is not None:
            self._revision = saved.revision
        return saved

    # ---------------------------------------------------------------- told by the feed

    def restore(self, kvs: Iterable[KV], revision: int) -> None:
        self._whole, self._changed, self._revision = list(kvs), {}, revision
        self.confirm()

    def apply(self, events: Iterable[Event], revision: int) -> None:
        for event in events:
            self._changed[event.kv.key] = None if event.deleted else event.kv
        self._revision = revision

    def confirm(self) -> None:
        """The view is what the store holds, as of now."""
        self._current_at = self._now()

    # ---------------------------------------------------------------- inside

    async def _keep_saving(self) -> None:
        is_last = False
        while not is_last:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_EVERY):
                    await self._closing.wait()
            is_last = self._closing.is_set()
            assert self._connection is not None
            try:
                await self._save(self._connection)
            except Exception:
                log.exception("%s: a save failed; the next is tried all the same", self._file)

    async def _save(self, connection: sqlite3.Connection) -> None:
        whole, changed = self._whole, self._changed
        if whole is None and not changed and self._current_at - self._marked_at < MARK_EVERY:
            return
        self._whole, self._changed = None, {}
        meta = {"revision": self._revision, "saved_at": self._current_at}
        try:
            await asyncio.to_thread(_write, connection, whole, changed, meta)
        except sqlite3.Error as error:
            if not self._failing:
                log.error("%s: the view can't be kept for a restart without the store: %s", self._file, error)
            self._failing = True
            if self._whole is None:  # nothing newer has taken its place: it is tried again
                self._whole, self._changed = whole, changed | self._changed
            return
        if self._failing:
            log.info("%s: the view is kept again", self._file)
        self._failing = False
        self._marked_at = self._current_at

    def _connect(self) -> sqlite3.Connection:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigError(
                f"store.path: {self._file} can't be written ({error.strerror}): choose another folder",
                field="store.path",
            ) from None
        try:
            connection = self._prepared()
            found = connection.execute("SELECT v FROM meta WHERE k = 'revision'").fetchone()
            self._revision = int(found[0]) if found is not None else 0
            return connection
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ConfigError(
                    f"store.path: {self._file} is in use by another node: give each node a folder of its own",
                    field="store.path",
                ) from None
            raise ConfigError(
                f"store.path: {self._file} can't be opened: {error}", field="store.path"
            ) from None
        except sqlite3.DatabaseError as error:
            return self._begun_anew(error)

    def _begun_anew(self, error: sqlite3.Error) -> sqlite3.Connection:
        log.warning("%s is damaged and begun anew: %s", self._file, error)
        for path in (self._file, *(self._file.with_name(FILE_NAME + end) for end in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "PRAGMA synchronous=NORMAL"
            )  # a power cut may cost the last seconds, not the file
            connection.execute("BEGIN IMMEDIATE")
            is_new = connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT
            if not is_new:
                prefix = connection.execute("SELECT v FROM meta WHERE k = 'prefix'").fetchone()
                is_new = prefix != (self._prefix,)
            if is_new:
                for table in ("kv", "meta"):
                    connection.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in _TABLES.strip().split("\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('prefix', ?)", (self._prefix,))
                connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _read(self, connection: sqlite3.Connection) -> Saved | None:
        try:
            meta = dict(connection.execute("SELECT k, v FROM meta"))
            if "revision" not in meta:
                return None
            rows = connection.execute(
                "SELECT key, value, create_rev, mod_rev, version, lease FROM kv ORDER BY key"
            )
            kvs = [KV(*row) for row in rows]
        except sqlite3.DatabaseError as error:
            connection.close()
            self._connection = self._begun_anew(error)
            return None
        return Saved(kvs, meta["revision"], max(0.0, self._now() - meta["saved_at"]))


def _write(
    connection: sqlite3.Connection,
    whole: Sequence[KV] | None,
    changed: dict[bytes, KV | None],
    meta: dict[str, float],
) -> None:
    put = "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?, ?, ?)"
    connection.execute("BEGIN")
    try:
        if whole is not None:
            connection.execute("DELETE FROM kv")
            connection.executemany(put, map(_row, whole))
        connection.executemany(put, [_row(kv) for kv in changed.values() if kv is not None])
        connection.executemany(
            "DELETE FROM kv WHERE key = ?", [(k,) for k, kv in changed.items() if kv is None]
        )
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _row(kv: KV) -> tuple[bytes, bytes, int, int, int, int]:
    return kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease

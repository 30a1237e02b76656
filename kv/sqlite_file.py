"""The data directory on disk: its lock, the SQLite file in it, and SQLite's errors in our words.

Owns who may open the directory, what the file must look like, and how a connection is set up. It never reads
or writes a key. One process holds the lock file with flock(2). One connection (`connect_writer`) writes and
checkpoints; all others only read (SQLite before 3.51.3 can lose pages when two connections checkpoint a WAL).
`meta.clean` is 1 only between a clean close and the next open: any other end means the file is checked.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from discovery.errors import ConfigError, DiscoveryError, StoreError
from discovery.kv import schema
from discovery.kv.contract import Corrupt, NoSpace, Unavailable

FILE_NAME = "store.db"
LOCK_NAME = "lock"

log = logging.getLogger(__name__)


def translate(error: Exception, file: Path, *, maybe_applied: bool = False) -> StoreError:
    """The store's error for what SQLite raised about `file`. A sentence for an operator, with the way out."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte of an extended code is the primary one
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        code = sqlite3.SQLITE_FULL
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(
            f"no space left for {file}: free space on its disk; reads go on, writes resume by themselves"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(file, str(error))
    return Unavailable(f"the store's file {file} failed: {error}; see its disk", maybe_applied=maybe_applied)


def corrupt(file: Path, reason: str) -> Corrupt:
    return Corrupt(
        f"the store's file {file} is corrupt ({reason}): stop the node, look with `discovery store check`, "
        f"move the file and its -wal away and put a snapshot into {file.parent} with `discovery store restore`"
    )


class DirectoryLock:
    """Holds `directory` for this process, making it (0700) when it does not exist; freed by `release` or death."""

    def __init__(self, directory: Path) -> None:
        """Raises ConfigError when another process holds it or it can't be used."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the data directory {directory} cannot be used ({error.strerror}): "
                "make it readable and writable for this user, or set another store.path",
                field="store.path",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise ConfigError(
                f"the data directory {directory} is in use by another process (pid {holder or 'unknown'}): "
                "stop that process, or set another store.path",
                field="store.path",
            ) from None
        except OSError as error:
            os.close(self._fd)
            raise ConfigError(
                f"the data directory {directory} cannot be locked ({error.strerror}): "
                "set a store.path on a file system that has flock(2), best a local one",
                field="store.path",
            ) from error
        with suppress(OSError):  # a hint for a person, and a full disk must not keep the store from opening
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        _make_private(directory)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def connect_writer(file: Path, *, max_bytes: int = 0) -> sqlite3.Connection:
    """The one connection that writes; makes the file (0600) when there is none. `max_bytes` 0: no limit.

    Raises Corrupt, ConfigError (another schema version, a file of another user), NoSpace, Unavailable.
    """
    try:
        wal = file.with_name(file.name + "-wal")
        if _size(wal) and not _size(file):  # SQLite would take it for a new store and drop the log
            raise corrupt(
                file, f"it is missing or empty while {wal} is not: put the file back if you have it"
            )
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _connect(file)
    except OSError as error:
        raise _unusable(file, error) from error
    except sqlite3.Error as error:
        raise translate(error, file) from error
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")  # KiB
        connection.execute("PRAGMA wal_autocheckpoint = 8000")  # pages: 32 MB of WAL between two checkpoints
        if max_bytes:
            page_size = int(connection.execute("PRAGMA page_size").fetchone()[0])
            connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_size)}")
        _prepare(connection, file)
        sync_directory(file.parent)  # the names of the new files must survive a power cut too
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise translate(error, file) from error
    except DiscoveryError:
        connection.close()
        raise
    return connection


def connect_reader(file: Path) -> sqlite3.Connection:
    """A connection that can't write and never checkpoints."""
    connection = _connect(file)
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -8192")  # KiB: what is read often is in memory already
    return connection


def close_writer(connection: sqlite3.Connection) -> None:
    """Notes the clean end and closes; all other connections are closed before, so this one folds the WAL in."""
    try:
        connection.execute("UPDATE meta SET v = 1 WHERE k = 'clean'")
    except sqlite3.Error:
        pass  # all that was acknowledged is on disk; without the note the next start checks the file
    finally:
        connection.close()


def damage(connection: sqlite3.Connection, *, whole: bool = False) -> str:
    """What is wrong with the file, in a line; empty when it is sound. Takes about a second a GB.

    `whole` also compares each index with its table, which takes some times longer.
    """
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return "it holds no store of this program"
        check = "integrity_check" if whole else "quick_check"
        found = str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return str(error)
        raise
    return "" if found == "ok" else found.replace("\n", " ")


def read_meta(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT v FROM meta WHERE k = ?", (name,)).fetchone()
    return int(row[0])


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_private(directory: Path) -> None:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        try:
            directory.chmod(mode & ~0o077)
            log.warning("the data directory %s was open to others (%04o): now it is not", directory, mode)
        except OSError as error:
            log.warning(
                "the data directory %s is open to others (%04o) and cannot be closed to them (%s): make it 0700",
                *(directory, mode, error.strerror),
            )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _connect(file: Path) -> sqlite3.Connection:
    # check_same_thread: opened in one thread, used by exactly one other, closed in a third, never at once.
    connection = sqlite3.connect(file, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """A new file gets its tables; an old one is checked, all of it after an unclean end, and brought up to date."""
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        schema.create(connection)
        connection.execute("COMMIT")
        return
    connection.execute("ROLLBACK")
    version = schema_version(connection, file)
    if read_meta(connection, "clean") != 1 and (found := damage(connection)):
        raise corrupt(file, found)
    if version < schema.SCHEMA_VERSION:
        schema.migrate(connection, version)
    connection.execute("UPDATE meta SET v = 0 WHERE k = 'clean'")


def schema_version(connection: sqlite3.Connection, file: Path) -> int:
    """One that this program can open. Raises Corrupt (no store of ours), ConfigError (a newer version's)."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        raise corrupt(file, "it holds no store of this program")
    meta = dict(connection.execute("SELECT k, v FROM meta"))
    version = meta.get("schema")
    if not isinstance(version, int) or version < 1 or not meta.keys() >= {"revision", "compact", "clean"}:
        raise corrupt(file, "it has no schema version or no revision")
    if version > schema.SCHEMA_VERSION:
        raise ConfigError(
            f"the store's file {file} has schema version {version}, and this program knows "
            f"{schema.SCHEMA_VERSION}: run the version of the program that wrote it, or a newer one",
            field="store.path",
        )
    return version


def _unusable(file: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the store's file {file} cannot be opened ({error.strerror}): "
        "make it readable and writable for this user, or set another store.path",
        field="store.path",
    )

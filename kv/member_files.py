"""The folder of a managed etcd: whose data it holds, and that one process uses it.

Owns `member.json` and the folder `data` beside it, which is etcd's. It never looks into etcd's own files. What is
written takes its name when it is whole and synced.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from discovery.errors import ConfigError
from discovery.kv.member_plan import Identity
from discovery.kv.sqlite_file import DirectoryLock, sync_directory

FOLDER, IDENTITY, DATA, REMOVED = "etcd", "member.json", "data", "removed"


def votes(directory: Path) -> bool:
    """Whether a member with data that may vote lives below `directory`. False, too, for what can't be read. Blocks."""
    folder = directory / FOLDER
    try:
        held = msgspec.json.decode((folder / IDENTITY).read_bytes(), type=Identity)
    except (OSError, msgspec.DecodeError):
        return False
    return not held.learner and (folder / DATA / "member").exists()


class MemberFiles:
    """Below `directory`, which is `store.path`. Raises ConfigError when it can't be made or is in use. Blocks."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / FOLDER
        self.data = self.folder / DATA
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in (self.folder, self.data):
                each.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"store.path: {self.folder} can't be made ({error.strerror}): choose another folder",
                field="store.path",
            ) from None
        self._lock = DirectoryLock(self.folder)

    def close(self) -> None:
        self._lock.release()

    def has_data(self) -> bool:
        return (self.data / "member").exists()

    def identity(self) -> Identity | None:
        """Raises ConfigError when the file can't be read."""
        file = self.folder / IDENTITY
        try:
            return msgspec.json.decode(file.read_bytes(), type=Identity)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"store.path: {file} can't be read: {error}; move {self.folder} away and join the cluster anew",
                field="store.path",
            ) from None

    def write_identity(self, identity: Identity) -> None:
        self._write(IDENTITY, msgspec.json.encode(identity))

    def is_removed(self) -> bool:
        return (self.folder / REMOVED).exists()

    def mark_removed(self) -> None:
        """The cluster has put this member out: its data is worth nothing any more."""
        self._write(REMOVED, b"")

    def replace_data(self, new: Path, identity: Identity, moved: str) -> Path | None:
        """`new`, a folder in this one, becomes the data, and `identity` whose they are.

        What was there is kept as `moved`; the answer is where, None when there was none.
        """
        aside = self.folder / moved if self.has_data() else None
        if aside is not None:
            self.data.rename(aside)
        else:
            self.data.rmdir()
        new.rename(self.data)
        (self.folder / REMOVED).unlink(missing_ok=True)
        self.write_identity(identity)
        return aside

    def _write(self, name: str, content: bytes) -> None:
        partial = self.folder / f"{name}.partial"
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        partial.replace(self.folder / name)
        sync_directory(self.folder)

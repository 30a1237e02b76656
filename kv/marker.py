"""Whether the notes of long leases on disk count: they do while a marker file is there.

Owns that file. A heartbeat after a note must take the note off the disk, which a full disk does not let it; taking
a file away works even then. So when notes can't be taken back the marker goes, and the next start gives every
lease its full TTL. It knows no lease and no SQL. Who makes the marker has taken all older notes off before.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from discovery.kv.sqlite_file import sync_directory, translate

MARKER_NAME = "notes"


class Marker:
    """`there`: notes count."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / MARKER_NAME
        self._turn = asyncio.Lock()
        self._closed = False
        self.there = self._file.exists()

    async def make(self) -> None:
        """Durable when this returns. Raises NoSpace, Unavailable."""
        async with self._turn:
            if not self.there and not self._closed:
                try:
                    await asyncio.to_thread(self._make)
                except OSError as error:
                    raise translate(error, self._file) from error
                self.there = True

    async def take_away(self) -> bool:
        """Durable when this returns True; False: it could not be done, and notes may count."""
        async with self._turn:
            if self._closed:
                return False
            try:
                await asyncio.to_thread(self._take_away)
            except OSError:
                return False
            self.there = False
            return True

    async def close(self) -> None:
        """From here on the file is left as it is."""
        async with self._turn:
            self._closed = True

    def _make(self) -> None:
        os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_directory(self._file.parent)

    def _take_away(self) -> None:
        self._file.unlink(missing_ok=True)
        sync_directory(self._file.parent)

"""The audit log: who changed what, from where, with what result; and who was refused.

Owns its file, one JSON object a line, and the form of a line. It decides nothing about calls, and no line holds a
token, a query, or a body. Where the file can't be written, the log says so and calls go on: a full disk must not take
service discovery down.
"""

from __future__ import annotations

import logging
import os
from typing import Literal

import msgspec

from discovery.errors import ConfigError

log = logging.getLogger(__name__)

SETTING = "http.audit"
TO_LOG = "log"
MAX_PATH = 1000  # characters of a URL's path


class Entry(msgspec.Struct, frozen=True):
    """`who` is the token's or certificate's name, `token` its id, both "" for who proved nothing. `route` is what was
    asked as the API names it. `sender` is an address."""

    time: str
    who: str
    token: str
    sender: str = msgspec.field(name="from")
    method: str
    route: str
    path: str
    status: int
    result: Literal["done", "refused", "failed"]


class AuditLog:
    """`target`: a file, `log` for the node's own log, "" for none. Raises ConfigError when the file can't be opened."""

    def __init__(self, target: str = "") -> None:
        self._file = -1
        self._failing = False
        self.target = ""
        self.open(target)

    @property
    def wanted(self) -> bool:
        return bool(self.target)

    def open(self, target: str) -> None:
        """Opens the file, anew where it is open: whoever moves it away for rotation then sends SIGHUP."""
        file = -1
        if target and target != TO_LOG:
            try:
                file = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise ConfigError(
                    f"{SETTING}: {target} cannot be written: {error.strerror}", field=SETTING
                ) from error
        self.close()
        self._file, self.target = file, target

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write(self, entry: Entry) -> None:
        line = msgspec.json.encode(entry)
        if self._file < 0:
            if self.target:
                log.info("%s", line.decode())
            return
        try:
            os.write(self._file, line + b"\n")
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.error("the audit log %s cannot be written: %s", self.target, error.strerror)
            self._failing = True

"""What systemd is told of a service's state (sd_notify(3)), and how often it wants to hear of it.

Owns the datagrams to NOTIFY_SOCKET. Without systemd there is no such variable, and nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping


class Notify:
    """Takes its variables out of `environ`, so that no child of ours speaks in our name.

    `watchdog`: seconds between two signs of life, half of what systemd waits for; None: it wants none.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        wanted, meant_for = (environ.pop(f"WATCHDOG_{each}", "") for each in ("USEC", "PID"))
        mine = meant_for in ("", str(pid)) and wanted.isascii() and wanted.isdigit()
        self.watchdog = int(wanted) / 2_000_000 if mine and int(wanted) else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """`ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        path = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(os.fsencode(text), path)
            except OSError:
                pass  # systemd is being restarted; the next one reaches it

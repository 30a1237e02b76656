"""What systemd would be told, read from a real socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from discovery.agent.notify import Notify


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"@discovery-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        systemd.settimeout(10)
        environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7", "HOME": "/"}
        notify = Notify(environ, 7)
        assert environ == {"HOME": "/"}
        assert notify.watchdog == 1.5
        notify.ready("2 of 2")
        notify.alive()
        notify.reloading()
        notify.stopping()
        told = [systemd.recv(512).decode() for _ in range(4)]
    assert told[0] == "READY=1\nSTATUS=2 of 2"
    assert told[1] == "WATCHDOG=1"
    assert told[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[3] == "STOPPING=1"
    notify.stopping()  # nobody is there any more


def test_without_systemd() -> None:
    assert Notify({}, 7).watchdog is None
    Notify({}, 7).ready("")
    assert Notify({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, 7).watchdog is None

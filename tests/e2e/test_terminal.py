"""Live views on a real terminal, wide, narrow, without colours; ^C ends them and gives the terminal back."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl

import pytest

from tests.support.node import DISCOVERY, ROOT, RunningNode, environment, run_discovery, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMIT = 120.0  # seconds


class Terminal:
    """A program on a terminal of a size, and all that it was shown until now, without escape sequences."""

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self.process, self._leader = process, leader
        self.raw = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode(errors="replace"))

    def until(self, text: str) -> None:
        deadline = time.monotonic() + LIMIT
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} on {self.text[-2000:]!r}"
            assert self._read(), f"ended without {text!r}: {self.text[-2000:]!r}"

    def until_the_end(self) -> int:
        """The exit status."""
        deadline = time.monotonic() + LIMIT
        while self._read():
            assert time.monotonic() < deadline, self.text[-2000:]
        return self.process.wait(LIMIT)

    def end(self) -> int:
        """^C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.until_the_end()

    def _read(self) -> bool:
        """Waits a while for more; False when the program has closed the terminal."""
        if not select.select([self._leader], [], [], 1.0)[0]:
            return True
        try:
            part = os.read(self._leader, 65536)
        except OSError:
            return False
        self.raw += part
        return bool(part)


@contextmanager
def terminal(*arguments: str, columns: int, rows: int = 30, **more: str) -> Iterator[Terminal]:
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    own = {
        name: value for name, value in environment().items() if name not in ("NO_COLOR", "COLUMNS", "LINES")
    }
    process = subprocess.Popen(
        [*DISCOVERY, *arguments],
        cwd=ROOT,
        env=own | {"TERM": "xterm"} | more,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    try:
        yield Terminal(process, leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node") / "store") as node:
        node.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.1", "port": 80, "lease_ttl": 86400})
        yield node


@pytest.mark.parametrize("columns", [40, 100])
def test_top_shows_what_is_asked_most_and_what_ends_first(node: RunningNode, columns: int) -> None:
    with terminal("top", "--every", "0.3", "--node", node.url, columns=columns, rows=60) as shown:
        shown.until("the first figures")
        for _ in range(130):  # so that one of 64 is sampled
            node.ask("web.prod.discovery.internal.", "A")
        shown.until("asked most, of ")
        shown.until("web.prod.disc")
        shown.until("first to expire")
        shown.until("in 23 h")
        assert shown.end() == 130
        assert b"\x1b[?1049h" in shown.raw  # the alternate screen
        assert b"\x1b[?1049l" in shown.raw
        assert "Traceback" not in shown.text


def test_top_on_the_usual_terminal_shows_all_figures(node: RunningNode) -> None:
    with terminal("top", "--every", "0.3", "--node", node.url, columns=80, rows=24) as shown:
        for part in ("NXDOMAIN", "HTTP requests", "99 % of DNS within", "first to expire", "i1.web.prod"):
            shown.until(part)
        assert shown.end() == 130


@pytest.mark.parametrize("columns", [40, 100])
def test_a_list_that_follows_every_change(node: RunningNode, columns: int) -> None:
    with terminal("list", "web.prod", "--watch", "--node", node.url, columns=columns) as shown:
        shown.until("web.prod: ")
        node.call("PUT", f"/v1/services/web.prod/late{columns}", {"host": "10.0.0.2"})
        shown.until(f"late{columns}")
        assert shown.end() == 130
        assert "Traceback" not in shown.text


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("list", "web.prod"),
        ("list web.prod", "10.0.0.1"),
        ("show web.prod i1", "10.0.0.1"),
        ("cluster status", "ready"),
    ],
)
@pytest.mark.parametrize("no_colour", ["", "1"])
def test_a_narrow_terminal_cuts_nothing(node: RunningNode, command: str, part: str, no_colour: str) -> None:
    with terminal(*command.split(), "--node", node.url, columns=40, NO_COLOR=no_colour) as shown:
        shown.until(part)
        shown.until_the_end()
        assert max(len(line.rstrip()) for line in shown.text.splitlines()) <= 40
        assert "…" not in shown.text
        if no_colour:
            assert b"\x1b" not in shown.raw


def test_top_in_a_pipe_is_one_picture(node: RunningNode) -> None:
    done = run_discovery("top", "--every", "0.2", "--node", node.url, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "DNS questions" in done.stdout
    assert "first to expire" in done.stdout


@pytest.mark.parametrize(
    ("command", "part"), [("top --every 0.2", "first to expire"), ("list --watch", "web.prod")]
)
def test_live_views_go_without_colours(node: RunningNode, command: str, part: str) -> None:
    with terminal(*command.split(), "--node", node.url, columns=100, NO_COLOR="1") as shown:
        shown.until(part)
        assert shown.end() == 130
        assert b"\x1b[?1049h" in shown.raw
        styles = {
            number for found in re.findall(rb"\x1b\[([0-9;]*)m", shown.raw) for number in found.split(b";")
        }
        assert styles <= {b"", b"0", b"1", b"2"}, styles  # bold and dim are no colours


def test_live_views_where_the_cursor_does_not_move_are_one_picture_or_refused(node: RunningNode) -> None:
    with terminal("top", "--every", "0.2", "--node", node.url, columns=100, TERM="dumb") as shown:
        shown.until("first to expire")
        assert "\x1b" not in shown.raw.decode()
        assert shown.until_the_end() == 0
    with terminal("list", "--watch", "--node", node.url, columns=100, TERM="dumb") as shown:
        shown.until("`discovery watch` prints lines")
        assert shown.until_the_end() == 2

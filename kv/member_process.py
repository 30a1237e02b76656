"""The etcd process beside ours: started, listened to, started again, ended.

Owns the child and its log. It decides nothing about clusters. How: `setpriv --pdeathsig` makes the kernel end the child
with us, however we end; its JSON lines go to our log, an etcd `info` as debug and a `warn` as info, since neither
asks anything of anybody. One that ends by itself is started again, with a growing pause.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from discovery.errors import ConfigError

log = logging.getLogger("discovery.etcd")

STOP_LIMIT = 10.0  # seconds after SIGTERM
FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0  # seconds before it is started again
STEADY = 60.0  # seconds after which a pause begins small again
KEPT_LINES = 5
LONGEST_LINE = 1 << 20  # bytes

_LEVELS = {"debug": logging.DEBUG, "info": logging.DEBUG, "warn": logging.INFO}
_COMMON = ("level", "ts", "caller", "msg", "logger", "stacktrace")


class Line(NamedTuple):
    level: int
    text: str


def read_line(raw: bytes) -> Line:
    """A line of etcd's log: JSON, or what its libraries print as they like."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Line(logging.INFO, raw.decode(errors="replace").strip())
    level = _LEVELS.get(str(fields.get("level")), logging.ERROR)
    rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _COMMON)
    return Line(level, f"{fields.get('msg', '')} {rest}".strip())


def find_binary(binary: str) -> str:
    """Its path. Raises ConfigError."""
    found = shutil.which(binary)
    if found is None:
        raise ConfigError(
            f"store.member.binary: there is no program {binary}: install etcd (Debian: etcd-server), or name its file",
            field="store.member.binary",
        )
    return found


async def version_said(binary: str) -> str:
    """What `etcd --version` prints. Raises ConfigError when it can't be run."""
    try:
        child = await asyncio.create_subprocess_exec(
            binary, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        said, _ = await child.communicate()
    except OSError as error:
        raise ConfigError(
            f"store.member.binary: {binary} can't be run: {error.strerror}", field="store.member.binary"
        ) from None
    return said.decode(errors="replace")


class EtcdProcess:
    """`command`: the program and its arguments. `told` is called with every line of its log."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._child: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self.removed = asyncio.Event()  # the cluster has put this member out
        self.ended = asyncio.Event()  # it ended at least once by itself
        self.restarts = 0

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._child.pid if self._child is not None and self._child.returncode is None else 0

    @property
    def last_words(self) -> str:
        """What it complained about last."""
        return self._last[-1] if self._last else "it said nothing"

    async def start(self) -> None:
        await self._spawn()
        self._keeping = asyncio.create_task(self._keep(), name="etcd-process")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after STOP_LIMIT."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        child.send_signal(signal.SIGTERM)
        listening = asyncio.create_task(self._listen(child))
        try:
            async with asyncio.timeout(STOP_LIMIT):
                await child.wait()
        except TimeoutError:
            log.warning("etcd did not end within %.0f s and is killed", STOP_LIMIT)
            child.kill()
            await child.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    async def _spawn(self) -> None:
        setpriv = shutil.which("setpriv")
        bound = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []
        environment = {name: text for name, text in os.environ.items() if not name.startswith("ETCD_")}
        self._child = await asyncio.create_subprocess_exec(
            *bound,
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=LONGEST_LINE,
            start_new_session=True,  # ^C on the terminal is for us; we end it in our order
        )

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            begin = loop.time()
            assert self._child is not None
            await self._listen(self._child)
            code = await self._child.wait()
            self.ended.set()
            if self.removed.is_set():
                log.error("etcd ended: the cluster has removed this member")
                return
            if loop.time() - begin > STEADY:
                pause = FIRST_PAUSE
            log.error("etcd ended (%d) and is started again in %.1f s: %s", code, pause, self.last_words)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)
            self.restarts += 1
            await self._spawn()

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        assert child.stderr is not None
        while True:
            try:
                raw = await child.stderr.readline()
            except ValueError:  # longer than LONGEST_LINE: the rest comes as lines of their own
                continue
            if not raw:
                return
            line = read_line(raw)
            log.log(line.level, "%s", line.text)
            if line.level > logging.INFO:
                self._last.append(line.text)
            if "permanently removed from the cluster" in line.text:
                self.removed.set()

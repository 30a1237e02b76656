"""The etcd process beside ours: started, listened to, started again, ended.

Owns the child and its log. It decides nothing about clusters. How: `setpriv --pdeathsig` makes the kernel end the child
with us, however we end; its JSON lines go to our log, an etcd `info` as debug and a `warn` as info, since neither
asks anything of anybody. One that ends by itself is started again, with a growing pause; one that the cluster has
removed is not. It is spawned by `subprocess`, which uses vfork: the event loop's own way forks, and a fork while gRPC
is in use crashes in the child before etcd ever begins.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from discovery.errors import ConfigError

log = logging.getLogger("discovery.etcd")

VERSION_LIMIT = 10.0  # seconds for `etcd --version`
STOP_LIMIT = 10.0  # seconds after SIGTERM
FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0  # seconds before it is started again
STEADY = 60.0  # seconds after which a pause begins small again
KEPT_LINES = 5
LONGEST_LINE = 1 << 20  # bytes
REMOVED = "permanently removed from the cluster"  # etcd's words

_LEVELS = {"debug": logging.DEBUG, "info": logging.DEBUG, "warn": logging.INFO}
_COMMON = ("level", "ts", "caller", "msg", "logger", "stacktrace")


class Line(NamedTuple):
    level: int
    text: str
    is_plain: bool = False


def read_line(raw: bytes) -> Line:
    """A line of etcd's log: JSON, or what its libraries print as they like."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Line(logging.INFO, raw.decode(errors="replace").strip(), is_plain=True)
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
    """What `etcd --version` prints; "" when it does not end. Raises ConfigError when it can't be run."""
    command = [binary, "--version"]
    try:
        done = await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, timeout=VERSION_LIMIT
        )
    except OSError as error:
        raise ConfigError(
            f"store.member.binary: {binary} can't be run: {error.strerror}", field="store.member.binary"
        ) from None
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode(errors="replace")


class _Child:
    """One life of the process. `code` is -N when signal N ended it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        self.process = process
        self.lines = asyncio.StreamReader(LONGEST_LINE)
        self.code: asyncio.Future[int] = loop.create_future()
        self._pipe: asyncio.BaseTransport | None = None
        self._pidfd = os.pidfd_open(process.pid)
        loop.add_reader(self._pidfd, self._has_ended)

    async def listen(self) -> None:
        """Its log comes to `lines` from now on."""
        loop = asyncio.get_running_loop()
        assert self.process.stderr is not None
        self._pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.lines), self.process.stderr
        )

    def close(self) -> None:
        """Lets go of its log, whoever else may still hold the other end."""
        if self._pipe is not None:
            self._pipe.close()

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self.process.wait()
        if not self.code.done():
            self.code.set_result(code)

    @property
    def runs(self) -> bool:
        return not self.code.done()


class EtcdProcess:
    """`command` gives the program and its arguments, for every start anew."""

    def __init__(self, command: Callable[[], Sequence[str]]) -> None:
        self._command = command
        self._child: _Child | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._plain = ""  # the first line that is no entry of a log: what it thinks of its flags
        self.removed = asyncio.Event()  # the cluster has put this member out
        self.ended = asyncio.Event()  # it ended at least once by itself
        self.restarts = 0

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._child.process.pid if self._child is not None and self._child.runs else 0

    @property
    def last_words(self) -> str:
        """What it complained about last."""
        return self._last[-1] if self._last else self._plain or "it said nothing"

    async def start(self) -> None:
        """Raises ConfigError when it can't be started."""
        try:
            await self._spawn()
        except OSError as error:
            raise ConfigError(
                f"etcd can't be started: {error.strerror}", field="store.member.binary"
            ) from None
        self._keeping = asyncio.create_task(self._keep(), name="etcd-process")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after STOP_LIMIT."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        child, self._child = self._child, None
        if child is None:
            return
        if not child.runs:
            child.close()
            return
        child.process.send_signal(signal.SIGTERM)
        listening = asyncio.create_task(self._listen(child))
        try:
            async with asyncio.timeout(STOP_LIMIT):
                await asyncio.shield(child.code)
        except TimeoutError:
            log.warning("etcd did not end within %.0f s and is killed", STOP_LIMIT)
            child.process.kill()
            await child.code
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        child.close()

    async def _spawn(self) -> None:
        setpriv = shutil.which("setpriv")
        bound = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []
        if not bound:
            log.warning("there is no setpriv (util-linux): if this node is killed, its etcd goes on")
        environment = {name: text for name, text in os.environ.items() if not name.startswith("ETCD_")}
        self._child = _Child(
            subprocess.Popen(  # noqa: ASYNC220, S603  # a millisecond; the program is the operator's
                [*bound, *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # ^C on the terminal is for us; we end it in our order
            )
        )
        await self._child.listen()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            begin = loop.time()
            assert self._child is not None
            await self._listen(self._child)
            code = await asyncio.shield(self._child.code)
            self._child.close()
            self.ended.set()
            if self.removed.is_set():
                return
            if loop.time() - begin > STEADY:
                pause = FIRST_PAUSE
            log.error("etcd ended (%d) and is started again in %.1f s: %s", code, pause, self.last_words)
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE)
                self.restarts += 1
                try:
                    await self._spawn()
                    break
                except OSError as error:
                    log.error("etcd can't be started, and again in %.1f s: %s", pause, error)

    async def _listen(self, child: _Child) -> None:
        while True:
            try:
                raw = await child.lines.readline()
            except ValueError:  # longer than LONGEST_LINE: the rest comes as lines of their own
                continue
            if not raw:
                return
            line = read_line(raw)
            log.log(line.level, "%s", line.text)
            if line.level > logging.INFO:
                self._last.append(line.text)
            elif line.is_plain and not self._plain:
                self._plain = line.text
            if REMOVED in line.text:
                self.removed.set()

"""The workers: as many processes as are wanted, all told the same, none waited for beyond some seconds.

Owns their number. A process is spawned (a fresh interpreter, never a fork), told all there is (`opening`), then
everything that changes (`tell`). One that ends is replaced; one that leaves something unacknowledged for a second, or
for five while it is at work, is killed and replaced. Its sockets stay open here, and its neighbours look after its UDP
socket meanwhile, so no question is lost. It knows nothing of the view: what is told comes from `node`. What the workers
count is added up in `counters`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path as FilePath

from discovery import sockets
from discovery.dns.counters import DnsCounters
from discovery.errors import ConfigError
from discovery.metrics import Tally
from discovery.names import Path
from discovery.workers import messages
from discovery.workers.link import IDLE, Barrier, Link
from discovery.workers.messages import Ask, Handed, Tick, Told

log = logging.getLogger(__name__)

LOOK_EVERY = 0.2  # seconds between looks at what is unacknowledged
OVERDUE = 5 * IDLE  # as of `Link.overdue`: a second
STARTING = 150 * IDLE  # until the first acknowledgement: an interpreter may start slowly on a busy machine
NEIGHBOURS = 3  # other workers' UDP sockets that each worker looks after
ANSWER_SECONDS = 1.5  # for a word from all workers; those that owe it longer are being replaced by then
CLOSE_SECONDS = 0.7  # of the two that a node has to stop
MAX_BACK_OFF = 5.0  # seconds until a worker that does not come up is tried again
FAILURES = 3  # of one worker, one after the other, after which a node does not go on starting

_TICK = messages.frame(Tick())

Opening = Callable[[Handed], Iterator[Told]]
"""What a new worker is told, the first message at once, the last one `Loaded`."""


class _Place:
    """One worker's place: its sockets stay, the processes come and go."""

    def __init__(self, number: int, handed: Handed) -> None:
        self.number = number
        self.handed = handed
        self.link: Link | None = None
        self.failures = 0  # processes in a row that ended before they served


class Workers:
    """`counters` are added to; `opening` begins with what the sockets are."""

    def __init__(
        self,
        count: int,
        counters: DnsCounters,
        opening: Opening,
    ) -> None:
        self._count = count
        self._counters = counters
        self._opening = opening
        self._places: list[_Place] = []
        self._stack = ExitStack()
        self._ended: list[subprocess.Popen[bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()
        self._asked: dict[int, bool] = {}
        self._stopping = False
        self._empty = asyncio.Event()  # when stopping: no worker is left
        self.replaced = 0

    async def start(
        self, udp: Sequence[socket.socket], tcp: Sequence[socket.socket], tls: Sequence[socket.socket] = ()
    ) -> None:
        """Begins to answer on bound sockets, and takes them over. `settle` waits for the rest.

        Each worker gets a UDP socket of its own where that can be; all take connections from the same sockets.
        """
        shared = [sockets.share(sock, self._count) for sock in udp]
        for sock in (*itertools.chain(*shared), *tcp, *tls):
            self._stack.callback(sock.close)
        self._places = [_Place(number, _hand(number, shared, tcp, tls)) for number in range(self._count)]
        for place in self._places:
            self._run(self._spawn(place))
        self._run(self._look())

    async def close(self) -> None:
        """Lets the workers send out what they have, and ends those that take too long."""
        self._stopping = True
        if not self._links():
            self._empty.set()
        for link in self._links():
            link.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._empty.wait()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._links():
            link.give_up()
        for process in self._ended:
            process.wait()
        self._stack.close()

    @property
    def serving(self) -> int:
        """How many answer now, from a view that is ready."""
        return sum(link.serving and link.ready for link in self._links())

    def _links(self) -> list[Link]:
        return [place.link for place in self._places if place.link is not None]

    # ------------------------------------------------------------ telling

    def tell(self, message: Told) -> None:
        """Sends to all that have been told what came before."""
        self._send(messages.frame(message))

    def _send(self, frame: bytes) -> None:
        for link in self._links():
            link.send(frame)

    def load(self, telling: Callable[[], Iterator[Told]]) -> None:
        """Tells every worker something long, piece by piece."""
        for link in self._links():
            self._run(_tell(link, telling()))

    async def caught_up(self, seconds: float) -> bool:
        """True once all that was told is taken in by all that answer; False after `seconds` without."""
        behind = [link for link in self._links() if link.opened and link.acked < link.sent]
        if not behind:
            return True
        barrier = Barrier(len(behind))
        for link in behind:
            link.enter(barrier)
        try:
            async with asyncio.timeout(seconds):
                await barrier.done
        except TimeoutError:
            return False
        return True

    async def settle(self, *, ready: bool) -> None:
        """Returns when all answer and have taken in all they were told. Raises ConfigError.

        `ready`: from a view that is ready, too.
        """
        while not self._all_serve(ready) or not await self.caught_up(ANSWER_SECONDS):
            failed = next((place for place in self._places if place.failures >= FAILURES), None)
            if failed is not None:
                raise ConfigError(
                    f"dns.workers: worker {failed.number} ended {FAILURES} times before it answered: "
                    "see the log lines above for why; with 0 the main process answers",
                    field="dns.workers",
                )
            await asyncio.sleep(0.01)

    def _all_serve(self, ready: bool) -> bool:
        links = self._links()
        return len(links) == self._count and all(link.serving and (link.ready or not ready) for link in links)

    # ------------------------------------------------------------ asking

    async def tally(self) -> Tally:
        """How they are, with `counters` brought up to now."""
        self._send(_TICK)
        await self.caught_up(ANSWER_SECONDS)
        seconds: dict[int, float] = {}
        memory: dict[int, int] = {}
        for place in self._places:
            if place.link is not None:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    process = FilePath(f"/proc/{place.link.process.pid}")
                    memory[place.number] = _resident_bytes(process)
                    seconds[place.number] = _cpu_seconds(process)
        return Tally(self._count, self.serving, self.replaced, memory, seconds)

    async def is_kept(self, path: Path, qtype: int) -> bool:
        """Whether a worker keeps the answer to that question."""
        number = next(self._numbers)
        self._asked[number] = False
        self.tell(Ask(number, path, qtype))
        await self.caught_up(ANSWER_SECONDS)
        return self._asked.pop(number)

    def _on_kept(self, number: int) -> None:
        if number in self._asked:
            self._asked[number] = True

    # ------------------------------------------------------------ processes

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the DNS workers failed", exc_info=task.exception())

    async def _spawn(self, place: _Place) -> None:
        if place.failures:
            await asyncio.sleep(min(0.1 * 2 ** (place.failures - 1), MAX_BACK_OFF))
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _process(theirs, place.handed)
            except OSError as error:
                ours.close()
                log.error("DNS worker %d cannot be started: %s", place.number, error)
                place.failures += 1
                self._run(self._spawn(place))
                return
        link = Link(
            process,
            self._counters.add,
            self._on_kept,
            lambda gone: self._lost(place, gone),
            lambda counts: self._counters.busiest.add(counts, time.perf_counter()),
        )
        try:
            await link.connect(ours)
            if link.lost:
                return
            telling = self._opening(place.handed)
            link.send(messages.frame(next(telling)))
            place.link = link  # from here on it is told what changes
            await _tell(link, telling)
            link.opened = not link.lost
        except Exception:
            log.exception("DNS worker %d could not be told what there is", place.number)
            link.give_up()

    def _lost(self, place: _Place, link: Link) -> None:
        self._ended.append(link.process)
        place.link = None
        if self._stopping:
            if not self._links():
                self._empty.set()
            return
        self.replaced += 1
        place.failures = 0 if link.served else place.failures + 1
        log.warning("DNS worker %d (process %d) has ended: it is replaced", place.number, link.process.pid)
        self._run(self._spawn(place))

    def _reap(self) -> None:
        for process in tuple(self._ended):
            if (status := process.poll()) is not None:
                self._ended.remove(process)
                how = f"by signal {-status}" if status < 0 else f"with status {status}"
                log.info("process %d of a DNS worker ended %s", process.pid, how)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._reap()
            for place in self._places:
                link = place.link
                if link is None:
                    continue
                link.look(busy=is_busy(link.process.pid))
                if link.overdue >= (OVERDUE if link.acked else STARTING):
                    log.warning("DNS worker %d does not take in what it is told", place.number)
                    link.give_up()
            self._send(_TICK)


def is_busy(pid: int) -> bool:
    """Whether it computes, or would if it had a CPU: it is not stopped and waits for nothing (proc(5): the state)."""
    try:
        return _stat(FilePath(f"/proc/{pid}"))[0] == "R"
    except OSError:  # it has ended
        return False


def _stat(process: FilePath) -> list[str]:
    """From the third field of proc(5) on, the state: those before it hold the name, which may be anything."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def _resident_bytes(process: FilePath) -> int:
    return int((process / "statm").read_text().split()[1]) * resource.getpagesize()


def _cpu_seconds(process: FilePath) -> float:
    """User and system (proc(5): fields 14 and 15)."""
    fields = _stat(process)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _tell(link: Link, telling: Iterator[Told]) -> None:
    for message in telling:
        if link.lost:
            return
        link.send(messages.frame(message))
        await link.room()


def _process(theirs: socket.socket, handed: Handed) -> subprocess.Popen[bytes]:
    """Raises OSError."""
    return subprocess.Popen(  # noqa: S603  # our own interpreter and module
        [sys.executable, "-m", "discovery.workers.process", str(theirs.fileno()), str(os.getpid())],
        pass_fds=(theirs.fileno(), *handed.udp, *handed.neighbours, *handed.tcp, *handed.tls),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # ^C at the terminal is the main process's. No session of its own: on a busy machine Linux's autogroups would
        # let the worker wait for the CPU for tens of milliseconds.
        process_group=0,
    )


def _hand(
    number: int,
    udp: Sequence[Sequence[socket.socket]],
    tcp: Sequence[socket.socket],
    tls: Sequence[socket.socket],
) -> Handed:
    """A worker's own UDP socket of each address, and those of the next few workers, which it looks after."""
    own, near = [], []
    for shared in udp:
        at = number % len(shared)
        own.append(shared[at].fileno())
        steps = range(1, min(NEIGHBOURS + 1, len(shared)))
        near += [shared[(at + step) % len(shared)].fileno() for step in steps]
    return Handed(own, near, [sock.fileno() for sock in tcp], [sock.fileno() for sock in tls])

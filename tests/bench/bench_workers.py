"""What workers are worth: answers a second on all cores, and DNS beside busy HTTP clients.

    python -m tests.bench.bench_dns workers busy memory

Here nothing is bound to a core: client and server share all there are, as they would on one machine, and what counts
is answers a second, not CPU time. The client is several processes (sender.c), since the kernel deals clients out to
workers; for kept answers it needs as much CPU as the server. The scenarios run with the others of `bench_dns`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

from tests.bench.bench_dns import (
    CLIENT_CORE,
    PACE,
    ROUNDS,
    SERVER_CORE,
    SERVICES,
    WINDOW,
    Bench,
    changing,
    compiled,
    cpu_seconds,
    fill,
    hot,
    instances,
    memory_mib,
    pin,
    started,
    tasks,
)
from tests.bench.peers import ZONE
from tests.bench.sender import Counted, Sender
from tests.support.node import RunningNode

SENDERS = 4
ROUND = 2.0  # seconds
WORKERS = (0, 1, 2)
MANY = 100_000


def kinds() -> list[bool]:
    """Whether pure Python, for each way the program can run here."""
    return [True, False] if compiled() else [True]


@contextmanager
def serving(bench: Bench, workers: int, *, pure: bool, count: int = 0) -> Iterator[RunningNode]:
    """With `count` instances, or as many as the other scenarios have."""
    directory = Path(tempfile.mkdtemp(dir=bench.directory))
    asyncio.run(fill(directory / "store", instances(count // 10, 10) if count else instances()))
    with started(directory / "store", f"dns.workers={workers}", pure=pure) as running:
        yield running


def ask(
    bench: Bench, running: RunningNode, mode: str, seconds: float, number: int, missing: bool = False
) -> list[Counted]:
    """What each of the senders counted, which together have `number` under way, or send as many a second.

    They ask for what is kept, or for ever new names that are `missing`.
    """
    if missing:
        names = ((f"xxxxxxxxxxxx.web{n}.prod.{ZONE}", "A") for n in range(SERVICES))
        questions, flags = bench.questions("missing", names), "m"
    else:
        questions, flags = bench.questions("hot", hot()), "-"
    sender = Sender(bench.directory, None)
    with ThreadPoolExecutor(SENDERS) as pool:
        runs = [
            pool.submit(sender.run, mode, running.dns_port, questions, seconds, number // SENDERS, flags)
            for _ in range(SENDERS)
        ]
        return [run.result() for run in runs]


def workers(bench: Bench) -> None:
    """6: kept answers over UDP, and missing names, on all cores."""
    cores = len(os.sched_getaffinity(0))
    for pure, missing in product(kinds(), (False, True)):
        name = "discovery python" if pure else "discovery compiled"
        asked = "random missing names" if missing else "SRV and A"
        with ExitStack() as stack:
            nodes = {count: stack.enter_context(serving(bench, count, pure=pure)) for count in WORKERS}
            best: dict[int, float] = {}
            for number, (count, running) in product(range(ROUNDS + 1), nodes.items()):
                before = cpu_seconds(running.process.pid)
                counted = ask(bench, running, "udp", ROUND if number else 1.0, WINDOW, missing)
                spent = cpu_seconds(running.process.pid) - before
                total = sum(each.answered for each in counted)
                rate = total / max(each.seconds for each in counted)
                bad, lost = (sum(getattr(each, what) for each in counted) for what in ("bad", "lost"))
                print(
                    f"    {name}, {count} workers, {asked}: {rate:.0f} a second, {total / spent:.0f} a CPU second, "
                    f"{bad} bad, {lost} lost, answered {[each.answered for each in counted]}",
                    flush=True,
                )
                if number:  # the first round warms
                    best[count] = max(rate, best.get(count, 0.0))
        for count, rate in best.items():
            what = f"6. answers a second on {cores} cores beside the client, {asked}, {count} workers: {name}"
            wanted = "more than one" if count == 2 else ""
            bench.row(what, f"{rate:,.0f}", f"{rate / best[1]:.2f} of one worker", wanted)


def busy(bench: Bench) -> None:
    """How long answers take while HTTP clients do what they can.

    The HTTP clients and the main process share a core, the worker and the DNS client the other one. Without workers the
    main process is with the DNS client.
    """
    questions = bench.questions("hot", hot())
    sender = Sender(bench.directory, SERVER_CORE)
    for count in (0, 1):
        with serving(bench, count, pure=not compiled()) as running:
            pin(running.process.pid, SERVER_CORE)
            if count:
                for task in Path(f"/proc/{running.process.pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), {CLIENT_CORE})
            for name in ("quiet", "busy"):
                best: Counted | None = None
                for _ in range(ROUNDS):
                    with ExitStack() as stack:
                        begin, changed = time.monotonic(), None
                        if name == "busy":
                            changed = stack.enter_context(changing(running, 1, rate=1e9))
                        counted = sender.run("paced", running.dns_port, questions, 3.0, PACE // 10)
                        puts = 0.0 if changed is None else changed() / (time.monotonic() - begin)
                    if best is None or counted.p99_us < best.p99_us:
                        best = counted
                    print(f"    {count} workers, {puts:.0f} PUTs a second: {counted}", flush=True)
                assert best is not None
                what = f"p50 and p99 of {PACE // 10:,} questions a second, {count} workers, {name} HTTP"
                bench.row(
                    what, f"{best.p50_us / 1e3:.2f} and {best.p99_us / 1e3:.2f} ms", f"{best.lost} lost"
                )


def memory(bench: Bench) -> None:
    """What a worker holds, and how soon it is replaced."""
    for count in (10, MANY):
        with serving(bench, 2, pure=not compiled(), count=count) as running:
            main, *others = dict.fromkeys(int(task.parts[2]) for task in tasks(running.process.pid))
            sizes = " and ".join(f"{memory_mib(pid):.0f}" for pid in others)
            what = f"memory with {count:,} instances, 2 workers"
            bench.row(what, f"{memory_mib(main):.0f} MiB", f"the workers {sizes} MiB")
            begin = time.monotonic()
            os.kill(others[0], signal.SIGKILL)
            while not is_replaced(running):
                time.sleep(0.02)  # the main process has something better to do
            bench.row(
                f"a killed worker is back, {count:,} instances",
                f"{time.monotonic() - begin:.2f} s",
                "",
                "1 s",
            )


def is_replaced(running: RunningNode) -> bool:
    text = urllib.request.urlopen(running.url + "/metrics").read()
    return b"discovery_dns_workers 2.0" in text and b"discovery_dns_workers_replaced_total 1.0" in text


SCENARIOS = {each.__name__: each for each in (workers, busy, memory)}

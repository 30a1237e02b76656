"""How fast DNS is answered, beside NSD, Knot and dnsmasq with the same records, all in one run.

    python -m tests.bench.bench_dns [SCENARIO ...]

The client (sender.c) runs on one core, each server on the other, one server at a time. Counted is the CPU time of the
server's process, user and system, so that a busy neighbour shows little. Every figure is the best of ROUNDS short
rounds, in which the servers take turns. With no scenario named all run and `RESULTS.md` is written anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from discovery import __version__
from discovery.kv.contract import Lease, Put
from discovery.kv.embedded import EmbeddedStore
from discovery.transfer import import_items
from tests.bench.peers import ZONE, Instance, Server, dnsmasq, knot, nsd, zone_file
from tests.bench.sender import Counted, Sender, write_questions
from tests.support.node import RunningNode, running_node

SERVICES, EACH = 1000, 3
SECONDS = 3.0  # a round
ROUNDS = 3
WINDOW = 256  # questions under way
HOT = 2000  # names asked of the large nodes
BIG = 10_000  # instances of the one big name
CHANGES = 1000  # a second
AT_ONCE = 20  # changes in one batch
PACE = 20_000  # questions a second while latency is measured
RESULTS = Path(__file__).with_name("RESULTS.md")
SERVER_CORE, CLIENT_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))


def instances(services: int = SERVICES, each: int = EACH) -> Iterator[Instance]:
    for service in range(services):
        for number in range(each):
            at = service * each + number
            host = f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}"
            yield Instance(f"web{service}.prod", f"i{number}", host)


def compiled() -> bool:
    """Whether the program has its compiled part here."""
    return find_spec("discovery.dns._fast") is not None


# ---------------------------------------------------------------- nodes


async def fill(store: Path, wanted: Iterator[Instance]) -> None:
    """Writes the instances as registration does: each under a lease of its own."""
    opened = EmbeddedStore(store)
    await opened.start()
    try:

        def items() -> Iterator[Lease | Put]:
            for number, (service, label, host) in enumerate(wanted, 1):
                key = "/skydns/" + "/".join(reversed(f"{label}.{service}.{ZONE[:-1]}".split(".")))
                yield Lease(number, 86400)
                value = f'{{"host":"{host}","port":8080,"lease_ttl":86400,"own_lease":true}}'
                yield Put(key.encode(), value.encode(), number)

        await import_items(opened, items(), overwrite=False, progress=lambda done: None)
    finally:
        await opened.close()


@contextmanager
def node(store: Path, *settings: str, pure: bool = True) -> Iterator[RunningNode]:
    """A node on the server's core, `pure`ly Python or with its compiled part."""
    with started(store, *settings, pure=pure) as running:
        pin(running.process.pid, SERVER_CORE)
        yield running


@contextmanager
def started(store: Path, *settings: str, pure: bool) -> Iterator[RunningNode]:
    """A node, `pure`: without its compiled part, in its workers too."""
    with ExitStack() as stack:
        if pure:
            alone = stack.enter_context(tempfile.TemporaryDirectory())
            Path(alone, "sitecustomize.py").write_text(
                "import sys; sys.modules['discovery.dns._fast'] = None\n"
            )
            os.environ["PYTHONPATH"] = alone
        try:
            running = stack.enter_context(running_node(store, settings))
        finally:
            os.environ.pop("PYTHONPATH", None)
        yield running


def tasks(pid: int) -> Iterator[Path]:
    """The threads of a process and of all below it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield task
        for child in (task / "children").read_text().split():
            yield from tasks(int(child))


def cpu_seconds(pid: int) -> float:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks(pid)) / 1e9


def pin(pid: int, core: int) -> None:
    for task in tasks(pid):
        os.sched_setaffinity(int(task.name), {core})


def memory_mib(pid: int) -> float:
    """What the process holds (RSS)."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


# ---------------------------------------------------------------- measuring


class Rate(NamedTuple):
    """The best round."""

    per_cpu_second: float
    counted: Counted


class Bench:
    """The servers of one run, and the rows for RESULTS.md."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.sender = Sender(directory, CLIENT_CORE)
        self.rows: list[tuple[str, str, str, str]] = []
        self._stack = stack
        self._servers: dict[str, Server] = {}

    def questions(self, name: str, wanted: Iterator[tuple[str, str]]) -> Path:
        return write_questions(self.directory / f"{name}.questions", wanted)

    def server(self, name: str) -> Server:
        """Started when it is first asked for."""
        if name not in self._servers:
            directory = self.directory / name.replace(" ", "-")
            directory.mkdir()
            started: Server
            if name == "nsd":
                started = self._stack.enter_context(nsd(directory, zone_file(instances(), EACH)))
            elif name == "knot":
                started = self._stack.enter_context(knot(directory, zone_file(instances(), EACH)))
            elif name == "dnsmasq":
                started = self._stack.enter_context(dnsmasq(directory, instances()))
            else:
                settings = ("dns.answer_cache_bytes=0",) if name.startswith("uncached") else ()
                asyncio.run(fill(directory / "store", instances()))
                entered = node(directory / "store", *settings, pure=name.endswith("python"))
                running = self._stack.enter_context(entered)
                started = Server(name, running.dns_port, running.process.pid)
            pin(started.pid, SERVER_CORE)
            self._servers[name] = started
        return self._servers[name]

    def rates(
        self,
        servers: Sequence[Server],
        questions: Path,
        *,
        mode: str = "udp",
        number: int = WINDOW,
        flags: str = "-",
        seconds: float = SECONDS,
    ) -> dict[str, Rate]:
        best: dict[str, Rate] = {}
        for server in servers:  # warm
            self.sender.run(mode, server.port, questions, 1.0, number, flags)
        for _ in range(ROUNDS):
            for server in servers:
                before = cpu_seconds(server.pid)
                counted = self.sender.run(mode, server.port, questions, seconds, number, flags)
                rate = Rate(counted.answered / (cpu_seconds(server.pid) - before), counted)
                print(
                    f"    {server.name:18}{rate.per_cpu_second:10.0f} a CPU second, {counted.answered / seconds:10.0f} "
                    f"a second, {counted.bad} bad, {counted.lost} lost, p50 {counted.p50_us:.0f} us, "
                    f"p99 {counted.p99_us:.0f} us",
                    flush=True,
                )
                if server.name not in best or rate.per_cpu_second > best[server.name].per_cpu_second:
                    best[server.name] = rate
        return best

    def row(self, what: str, figure: str, beside: str = "", wanted: str = "") -> None:
        self.rows.append((what, figure, beside, wanted))
        print(f"{what}: {figure}  {beside}  {wanted}", flush=True)

    def compare(self, what: str, best: dict[str, Rate], peer: str, wanted: dict[str, str]) -> None:
        """A row for each server, with its ratio to the peer."""
        for name, rate in best.items():
            ratio = rate.per_cpu_second / best[peer].per_cpu_second
            beside = "" if name == peer else f"{ratio:.2f} of {peer}"
            self.row(f"{what}: {name}", f"{rate.per_cpu_second:,.0f}", beside, wanted.get(name, ""))


def ours() -> list[str]:
    return ["discovery python", *(["discovery compiled"] if compiled() else [])]


def hot(services: int = SERVICES) -> Iterator[tuple[str, str]]:
    for service in range(services):
        yield f"web{service}.prod.{ZONE}", "SRV"
        yield f"web{service}.prod.{ZONE}", "A"


# ---------------------------------------------------------------- scenarios


def hits(bench: Bench) -> None:
    """1: kept answers, half SRV, half A; then with a random cookie and letter case in each."""
    questions = bench.questions("hot", hot())
    servers = [bench.server(name) for name in (*ours(), "knot", "nsd", "dnsmasq")]
    best = bench.rates(servers, questions)
    wanted = {"discovery python": "0.75 of knot", "discovery compiled": "1.0 of knot"}
    bench.compare("1. UDP, SRV and A", best, "knot", wanted)
    best = bench.rates([server for server in servers if server.name != "dnsmasq"], questions, flags="cx")
    wanted = {"discovery python": "0.4 of knot", "discovery compiled": "0.9 of knot"}
    bench.compare("1. the same with a random cookie and letter case", best, "knot", wanted)


def single(bench: Bench) -> None:
    """1: one question under way."""
    questions = bench.questions("hot", hot())
    servers = [bench.server(name) for name in (*ours(), "knot", "nsd")]
    p50: dict[str, float] = {}
    for _ in range(ROUNDS):
        for server in servers:
            counted = bench.sender.run("single", server.port, questions, 2.0, 1)
            p50[server.name] = min(counted.p50_us, p50.get(server.name, 1e9))
    for name, microseconds in p50.items():
        beside = "" if name == "knot" else f"{microseconds / p50['knot']:.2f} of knot"
        wanted = "at most 1.2 of knot" if name.startswith("discovery") else ""
        bench.row(f"1. p50, one question under way: {name}", f"{microseconds:.1f} µs", beside, wanted)


def churn(bench: Bench) -> None:
    """2: the same while instances change over HTTP, one or AT_ONCE a request; with a DNS worker its CPU time counts,
    else the whole node's, HTTP and all."""
    for name in ours():
        for workers, at_once in ((1, AT_ONCE), (1, 1), (0, AT_ONCE), (0, 1)):
            told = f"{name}, dns.workers {workers}, {at_once} a request"
            _churn(bench, told, workers=workers, at_once=at_once, pure=name.endswith("python"))


def _churn(bench: Bench, name: str, *, workers: int, at_once: int, pure: bool) -> None:
    questions = bench.questions("hot", hot())
    directory = bench.directory / name
    directory.mkdir()
    asyncio.run(fill(directory / "store", instances()))
    with node(directory / "store", f"dns.workers={workers}", pure=pure) as running:
        pid = running.process.pid
        if workers:
            pid = answering(pid)
            pin(running.process.pid, CLIENT_CORE)
            pin(pid, SERVER_CORE)
        server = Server(name, running.dns_port, pid)
        quiet = bench.rates([server], questions)[name]
        with changing(running, at_once) as changed:
            begin, before = time.monotonic(), changed()
            busy = bench.rates([server], questions)[name]
            paced = bench.sender.run("paced", server.port, questions, 5.0, PACE, first=True)
            changes = (changed() - before) / (time.monotonic() - begin)
    ratio = busy.per_cpu_second / quiet.per_cpu_second
    what = f"2. while {changes:.0f} instances a second change: {name}"
    bench.row(what, f"{busy.per_cpu_second:,.0f}", f"{ratio:.2f} of its quiet figure", "0.7")
    beside = f"{paced.lost} of {int(PACE * paced.seconds)} lost"
    what = f"2. p99 then, at {PACE} questions a second: {name}"
    bench.row(what, f"{paced.p99_us / 1e3:.2f} ms", beside, "below 5 ms")


def answering(pid: int) -> int:
    """The one DNS worker of a node: its child with the most memory (the other is Python's resource tracker)."""
    children = {int(task.parent.parent.name) for task in tasks(pid)} - {pid}
    return max(children, key=memory_mib)


@contextmanager
def changing(running: RunningNode, at_once: int, rate: float = CHANGES) -> Iterator[Callable[[], int]]:
    """Changes the port of one instance after the other, `rate` a second, over kept HTTP connections.

    `at_once`: 1, each with a PUT of its own; more, that many with a POST /v1/batch.
    """
    connections = 32 if at_once == 1 else 2
    stop = threading.Event()
    done = [0]

    async def worker(number: int, workers: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.http_port)
        begin, sent = time.monotonic(), 0
        while not stop.is_set():
            ats = [
                (sent * workers + number + n * connections) * 7919 % (SERVICES * EACH) for n in range(at_once)
            ]
            if at_once == 1:
                target = f"PUT /v1/services/web{ats[0] // EACH}.prod/i{ats[0] % EACH}"
                body = json.dumps(_fields(ats[0], 1 + sent % 60000))
            else:
                target = "POST /v1/batch"
                puts = [
                    {
                        "service": f"web{at // EACH}.prod",
                        "instance": f"i{at % EACH}",
                        **_fields(at, 1 + (sent + n) % 60000),
                    }
                    for n, at in enumerate(ats)
                ]
                body = json.dumps({"operations": [{"put": put} for put in puts]})
            kind = "Content-Type: application/json"
            head = f"{target} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer[9:12] in (b"200", b"201"), answer
            content = await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", answer)[0]))
            assert b'"problem"' not in content, content
            done[0] += at_once
            sent += at_once
            await asyncio.sleep(max(0.0, begin + sent * workers / rate - time.monotonic()))
        writer.close()

    async def work() -> None:
        await asyncio.gather(*(worker(number, connections) for number in range(connections)))

    def run() -> None:
        os.sched_setaffinity(0, {CLIENT_CORE})
        asyncio.run(work())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: done[0]
    finally:
        stop.set()
        thread.join()


def _fields(at: int, port: int) -> dict[str, object]:
    return {"host": f"10.0.{at >> 8}.{at & 255}", "port": port, "lease_ttl": 86400}


def misses(bench: Bench) -> None:
    """3: names that do not exist, a new one each time; and answers made anew each time."""
    questions = bench.questions(
        "missing", ((f"xxxxxxxxxxxx.web{n}.prod.{ZONE}", "A") for n in range(SERVICES))
    )
    best = bench.rates([bench.server(name) for name in (*ours(), "knot")], questions, flags="m")
    wanted = dict.fromkeys(ours(), "40,000")
    bench.compare("3. random missing names", best, "knot", wanted)
    questions = bench.questions("srv", ((f"web{n}.prod.{ZONE}", "SRV") for n in range(SERVICES)))
    names = [name.replace("discovery", "uncached") for name in ours()]
    best = bench.rates([bench.server(name) for name in (*names, "knot")], questions)
    bench.compare("3. fresh SRV answers, cache off", best, "knot", dict.fromkeys(names, "20,000"))


def big(bench: Bench) -> None:
    """What the largest answers cost: a name for BIG instances, made anew each time."""
    directory = bench.directory / "big"
    directory.mkdir()
    wanted = (each._replace(service="big", label=f"i{n}") for n, each in enumerate(instances(1, BIG)))
    asyncio.run(fill(directory / "store", wanted))
    with node(directory / "store", "dns.answer_cache_bytes=0") as running:
        for rtype in ("SRV", "A"):
            question = bench.questions(f"big{rtype}", iter([(f"big.{ZONE}", rtype)]))
            before = cpu_seconds(running.process.pid)
            counted = bench.sender.run("single", running.dns_port, question, 4.0, 1)
            spent = cpu_seconds(running.process.pid) - before
            each = spent / max(1, counted.answered + counted.bad) * 1e3
            bench.row(f"one fresh {rtype} answer for {BIG:,} instances: discovery python", f"{each:.1f} ms")


def tcp(bench: Bench) -> None:
    """4: pipelined on kept connections."""
    questions = bench.questions("hot", hot())
    servers = [bench.server(name) for name in (*ours(), "knot", "nsd")]
    best = bench.rates(servers, questions, mode="tcp", number=100)
    bench.compare("4. TCP, pipelined", best, "knot", dict.fromkeys(ours(), "3 times knot"))


def large(bench: Bench) -> None:
    """5: many instances, the same hot names."""
    questions = bench.questions("hot", hot(HOT // 2))
    small = bench.rates([bench.server("discovery python")], questions)["discovery python"]
    for count in (100_000, 1_000_000):
        directory = bench.directory / f"large{count}"
        directory.mkdir()
        asyncio.run(fill(directory / "store", instances(count // 10, 10)))
        begin = time.monotonic()
        with node(directory / "store") as running:
            ready = time.monotonic() - begin
            server = Server(f"{count:,} instances", running.dns_port, running.process.pid)
            idle = memory_mib(server.pid)
            rate = bench.rates([server], questions)[server.name]
            ratio = rate.per_cpu_second / small.per_cpu_second
            what = f"5. {count:,} instances"
            bench.row(what, f"{rate.per_cpu_second:,.0f}", f"{ratio:.2f} of the small one", "0.8")
            wanted = "below 200 MiB" if count == 100_000 else ""
            beside = f"{idle / count * 1024:.2f} KiB an instance"
            bench.row(f"{what}: memory when ready", f"{idle:.0f} MiB", beside, wanted)
            bench.row(f"{what}: time to ready", f"{ready:.1f} s")


SCENARIOS = {each.__name__: each for each in (hits, single, churn, misses, big, tcp, large)}


# ---------------------------------------------------------------- results


def machine() -> list[str]:
    """What the figures were measured on."""
    model = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    kernel = platform.release().partition("-")[0]
    lines = [
        f"CPU: {model[0] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        f"kernel: {kernel}; load average at the end of the run: {os.getloadavg()[1]:.1f}",
        f"Python {platform.python_version()}, discovery {__version__}",
    ]
    for command in (("nsd", "-v"), ("knotd", "-V"), ("dnsmasq", "-v")):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": PATH})
        lines.append((done.stdout + done.stderr).splitlines()[0].partition("  Copyright")[0])
    return lines


PATH = os.environ["PATH"] + ":/usr/sbin"


def write_results(rows: Sequence[tuple[str, str, str, str]]) -> None:
    lines = [
        "# What `make bench-dns` measured",
        "",
        "Queries per CPU second of the server (user and system) unless a unit says otherwise; client and server on",
        f"a core each; {SERVICES:,} services of {EACH} instances. Written by `tests/bench/bench_dns.py` in one run.",
        "",
        *(f"- {line}" for line in machine()),
        "",
        "| what | figure | beside | wanted |",
        "| --- | ---: | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> None:
    from tests.bench import bench_workers  # which is made of what stands here

    scenarios = SCENARIOS | bench_workers.SCENARIOS
    unknown = set(arguments) - set(scenarios)
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: no such scenario; there are {', '.join(scenarios)}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        bench = Bench(Path(name), stack)
        for scenario in arguments or scenarios:
            print(f"{scenario}:", flush=True)
            scenarios[scenario](bench)
        if not arguments:
            write_results(bench.rows)


if __name__ == "__main__":
    main()

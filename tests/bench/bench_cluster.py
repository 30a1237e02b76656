"""Nodes over an etcd cluster: `python -m tests.bench.bench_cluster [--lease-seconds N] [ROW ...]`.

Three members and three nodes on this machine. Rows: `register` (a registration on node A to a DNS answer on node C),
`put` (a record that is put into etcd to a DNS answer), `leases` (LEASES leases of LEASE_TTL seconds kept alive through
one node for N seconds, none lost, with the CPU of etcd and of the node), `beats` (as many single heartbeats as one
node takes). All of it shares this machine's cores, the client that measures included.

The mixture of `leases`: each lease is renewed every third of its TTL; one in ten by a heartbeat of its own instance,
the rest by agents that renew AGENT leases with one call, as one agent a host does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import dns.message
import dns.rcode
import uvloop

from tests.bench.etcd import put_request
from tests.support.cpu import cpu_seconds
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.node import RunningNode, running_node

TRIES = 1_000
LIMIT = 10.0  # seconds for one try
PAUSE = 0.0003  # seconds between a negative answer and the next question
LEASES = 20_000
LEASE_TTL = 30
AGENT = 100  # leases
SINGLE = 10  # one lease in so many is renewed by itself
CALLERS = 32
REGISTERING = 8  # callers, so that those who are registered get their heartbeats through beside them
ZONE = "discovery.internal."


def row(what: str, figure: float, unit: str, target: str = "") -> None:
    print(f"{what:<66}{figure:>12,.2f}  {unit:<4}{target:>16}", flush=True)


def share(seconds: Sequence[float], part: float) -> float:
    """In milliseconds."""
    return sorted(seconds)[int(len(seconds) * part)] * 1e3


@contextmanager
def nodes_on(cluster: EtcdCluster, directory: Path, count: int) -> Iterator[list[RunningNode]]:
    with ExitStack() as stack:
        settings = ["store.engine=etcd", f"store.etcd.endpoints={cluster.endpoints}"]
        yield [
            stack.enter_context(running_node(directory / f"n{number}", [*settings, f"node.name=n{number}"]))
            for number in range(count)
        ]


# ---------------------------------------------------------------- to DNS


def seconds_to_dns(node: RunningNode, name: str, write: Callable[[], object]) -> float:
    """From the beginning of `write`, which must not wait, to the first answer that has the name."""
    query = dns.message.make_query(f"{name}.{ZONE}", "A", use_edns=0).to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", node.dns_port))
        sock.settimeout(5)
        begin = time.perf_counter()
        held = write()  # a call that nobody holds is cancelled
        while time.perf_counter() < begin + LIMIT:
            sock.send(query)
            answer = sock.recv(512)
            if int.from_bytes(answer[6:8], "big"):
                return time.perf_counter() - begin
            time.sleep(PAUSE)
    raise AssertionError(f"{name} is not in DNS after {LIMIT} s: {held!r}")


def register_rows(nodes: Sequence[RunningNode]) -> None:
    times: list[float] = []
    acknowledged: list[float] = []
    first, last = nodes[0], nodes[-1]
    with socket.create_connection(("127.0.0.1", first.http_port)) as http:
        http.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(TRIES):
            body = json.dumps({"host": "10.0.0.1", "port": 80, "lease_ttl": 300}).encode()
            head = f"PUT /v1/services/s{number}/i1 HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            request = head.encode() + body
            begin = time.perf_counter()
            times.append(seconds_to_dns(last, f"s{number}", lambda request=request: http.sendall(request)))  # type: ignore[misc]
            answer = http.recv(65536)
            assert answer.startswith(b"HTTP/1.1 201"), answer
            acknowledged.append(time.perf_counter() - begin)
    row(f"registered on node A, in DNS on node C, {TRIES:,} tries: p50", share(times, 0.5), "ms")
    row("... p99", share(times, 0.99), "ms", "below 50 ms")
    row("... slowest", max(times) * 1e3, "ms")
    row("... and acknowledged by A: p50", share(acknowledged, 0.5), "ms")


def put_rows(cluster: EtcdCluster, nodes: Sequence[RunningNode]) -> None:
    import grpc

    times: list[float] = []
    plain: list[float] = []
    with grpc.insecure_channel(cluster.endpoints[0].removeprefix("http://")) as channel:
        put: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/etcdserverpb.KV/Put")
        value = b'{"host":"10.0.0.1","port":80}'
        for number in range(TRIES):
            request = put_request(b"/skydns/internal/discovery/p%d/i1" % number, value)
            begin = time.perf_counter()
            put(put_request(b"/elsewhere/%d" % number, value))
            plain.append(time.perf_counter() - begin)
            times.append(seconds_to_dns(nodes[-1], f"p{number}", lambda request=request: put.future(request)))  # type: ignore[misc]
    row(f"put into etcd, in DNS on node C, {TRIES:,} tries: p50", share(times, 0.5), "ms")
    row("... p99", share(times, 0.99), "ms", "below 50 ms")
    row("... slowest", max(times) * 1e3, "ms")
    row("... beside it, such a put until etcd has answered: p50", share(plain, 0.5), "ms")


# ---------------------------------------------------------------- leases


class Fleet:
    """Instances with a lease each, registered and beaten through one node. `denied`: what was said to be gone."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.denied = 0
        self.failed = 0
        self.calls = 0
        self.times: list[float] = []

    async def post(self, path: str, body: object = None) -> object:
        begin = time.perf_counter()
        self.calls += 1
        try:
            async with self._session.post(self._url + path, json=body) as answer:
                told: object = await answer.json()
        except (aiohttp.ClientError, TimeoutError):
            self.failed += 1
            return None
        self.times.append(time.perf_counter() - begin)
        self.denied += answer.status == 404
        self.failed += answer.status not in (200, 404)
        return told

    async def register(self, number: int) -> str:
        """The id of its lease."""
        body = {"host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "lease_ttl": LEASE_TTL}
        path = f"/v1/services/s{number // 10}/i{number % 10}"
        async with self._session.put(self._url + path, json=body) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["lease"])

    async def beat(self, number: int, first: float) -> None:
        """One instance for itself, from `first` (the loop's time) on, until it is cancelled."""
        await self._every(first, f"/v1/services/s{number // 10}/i{number % 10}/heartbeat", None)

    async def beat_many(self, leases: Sequence[str], first: float) -> None:
        await self._every(first, "/v1/heartbeats", {"leases": list(leases)})

    async def _every(self, first: float, path: str, body: object) -> None:
        loop = asyncio.get_running_loop()
        due = first
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += LEASE_TTL / 3
            told = await self.post(path, body)
            if isinstance(told, dict):
                self.denied += len(told.get("missing", ()))


async def lease_rows(cluster: EtcdCluster, node: RunningNode, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=LEASE_TTL / 3)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        fleet = Fleet(session, node.url)
        tasks: list[asyncio.Task[None]] = []
        begin = loop.time()

        async def agent(numbers: Sequence[int]) -> None:
            leases = [await fleet.register(number) for number in numbers]
            alone = [number for number in numbers if number % SINGLE == 0]
            together = [lease for number, lease in zip(numbers, leases, strict=True) if number % SINGLE]
            tasks.append(asyncio.create_task(fleet.beat_many(together, loop.time())))
            tasks.extend(asyncio.create_task(fleet.beat(number, loop.time())) for number in alone)

        hosts = [range(first, first + AGENT) for first in range(0, LEASES, AGENT)]
        turn = iter(hosts)

        async def work() -> None:
            for numbers in turn:
                await agent(numbers)

        await asyncio.gather(*(work() for _ in range(REGISTERING)))
        row(
            f"{LEASES:,} registrations with a lease each, {REGISTERING} callers",
            LEASES / (loop.time() - begin),
            "/s",
        )
        revision, held = revision_of(cluster), count_of(cluster)
        row("... of them there when all were registered", held, "", f"{LEASES:,}")
        fleet.times.clear()
        fleet.denied = fleet.failed = 0
        fleet.calls = 0
        pids = {"the node": node.process.pid} | {
            f"etcd {member.name}{' (leads)' if member is cluster.leader() else ''}": member.pid
            for member in cluster.members
        }
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        begin = loop.time()
        await asyncio.sleep(seconds)
        took = loop.time() - begin
        row(f"kept alive for {took:.0f} s: calls", fleet.calls / took, "/s")
        row("... leases renewed", LEASES / (LEASE_TTL / 3), "/s")
        row("... a call until its answer: p50", share(fleet.times, 0.5), "ms")
        row("... p99", share(fleet.times, 0.99), "ms")
        for name, pid in pids.items():
            row(f"... CPU of {name}, of one core", (cpu_seconds(pid) - before[name]) / took * 100, "%")
        row("... leases lost", held - count_of(cluster), "", "none")
        row("... heartbeats that were denied", fleet.denied, "", "none")
        row("... revisions of the store meanwhile", revision_of(cluster) - revision, "", "none")
        row("... calls that failed", fleet.failed, "", "none")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def revision_of(cluster: EtcdCluster) -> int:
    return int(json.loads(cluster.ctl("get", "/none", "--write-out", "json"))["header"]["revision"])


def count_of(cluster: EtcdCluster) -> int:
    return len(cluster.ctl("get", "--prefix", "/skydns/", "--keys-only").split())


async def beat_rows(cluster: EtcdCluster, node: RunningNode, seconds: float = 10.0) -> None:
    """Each caller beats its own instances in turn, one not twice within a tenth of its TTL."""
    connector = aiohttp.TCPConnector(limit=CALLERS)
    async with aiohttp.ClientSession(connector=connector) as session:
        fleet = Fleet(session, node.url)
        count = LEASES // 2
        turn = iter(range(count))

        async def register() -> None:
            for number in turn:
                await fleet.register(number)

        await asyncio.gather(*(register() for _ in range(CALLERS)))
        end = time.perf_counter() + seconds
        before = cpu_seconds(node.process.pid)

        async def beat(first: int) -> None:
            number = first
            while time.perf_counter() < end:
                await fleet.post(f"/v1/services/s{number // 10}/i{number % 10}/heartbeat")
                number = (number + CALLERS) % count

        await asyncio.gather(*(beat(first) for first in range(CALLERS)))
        row(f"single heartbeats through one node, {CALLERS} callers", fleet.calls / seconds, "/s")
        row("... p99", share(fleet.times, 0.99), "ms")
        row("... CPU of the node, of one core", (cpu_seconds(node.process.pid) - before) / seconds * 100, "%")
        row("... leases lost", fleet.denied, "", "none")
        row("... calls that failed", fleet.failed, "", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description="nodes over an etcd cluster")
    parser.add_argument("--lease-seconds", type=float, default=300)
    parser.add_argument("rows", nargs="*", default=["register", "put", "beats", "leases"])
    options = parser.parse_args()
    for name in options.rows:
        with (
            tempfile.TemporaryDirectory() as directory,
            etcd_cluster(Path(directory) / "etcd", 3, flags=["--log-level", "error"]) as cluster,
            nodes_on(cluster, Path(directory), 3 if name in ("register", "put") else 1) as nodes,
        ):
            if name == "register":
                register_rows(nodes)
            elif name == "put":
                put_rows(cluster, nodes)
            elif name == "beats":
                uvloop.run(beat_rows(cluster, nodes[0]))
            elif name == "leases":
                uvloop.run(lease_rows(cluster, nodes[0], options.lease_seconds))
            else:
                sys.exit(f"no row {name}")


if __name__ == "__main__":
    main()

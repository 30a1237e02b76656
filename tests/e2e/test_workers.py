"""A node whose DNS is answered by workers: all alike, always, whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest

from tests.support.dns_server import DnsServer
from tests.support.node import RunningNode, run_discovery, running_node, wait_for
from tests.support.workers import PORTS, is_replaced, kill, metrics, workers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TWO = "dns.workers=2"
NAME = "web.prod.discovery.internal."
INSTANCE = "/v1/services/web.prod/i1"
ZONE = "discovery.internal."


def test_every_worker_has_what_was_acknowledged(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [TWO]) as node:
        for number in range(40):
            host = f"10.0.0.{number}"
            assert node.call("PUT", INSTANCE, {"host": host})[0] in (200, 201)
            assert [node.answers(NAME, "A") for _ in range(PORTS)] == [[host]] * PORTS
            if number % 4 == 0:
                assert node.call("DELETE", INSTANCE)[0] == 204
                replies = [node.ask(NAME, "A") for _ in range(PORTS)]
                assert not any(reply.answer for reply in replies)
        before = metrics(node)["discovery_dns_cache_misses_total"]
        replies = [node.ask("other." + ZONE, "A") for _ in range(PORTS)]
        assert {reply.rcode() for reply in replies} == {dns.rcode.NXDOMAIN}
        assert metrics(node)["discovery_dns_cache_misses_total"] == before + 2  # so both were asked
        assert node.call("GET", f"/v1/lookup?name=other.{ZONE}&type=A")[1]["cached"]
        assert not node.call("GET", f"/v1/lookup?name=another.{ZONE}&type=A")[1]["cached"]
        assert node.answers(NAME, "A") == [
            reply.to_text() for reply in node.ask(NAME, "A", tcp=True).answer[0]
        ]


def test_a_write_is_answered_when_the_last_worker_has_it(tmp_path: Path) -> None:
    """One is stopped for less than the second after which it would be replaced."""
    with running_node(tmp_path / "store", [TWO]) as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        for method, body in (("PUT", {"host": "10.0.0.2"}), ("DELETE", None)):
            slow = workers(node)[1]
            os.kill(slow, signal.SIGSTOP)
            with ThreadPoolExecutor() as pool:
                write = pool.submit(node.call, method, INSTANCE, body)
                wait([write], 0.3)
                assert not write.done() or slow not in workers(
                    node
                )  # given up, on a machine that is slow itself
                with suppress(ProcessLookupError):
                    os.kill(slow, signal.SIGCONT)
                assert write.result(5)[0] in (200, 204)
            expected = ["10.0.0.2"] if body else []
            assert [node.answers(NAME, "A") for _ in range(PORTS)] == [expected] * PORTS


def test_all_say_the_same_of_time_and_of_serials(tmp_path: Path) -> None:
    """Expiry, the NODATA that follows, and the SOA; a worker that joined later too."""
    with running_node(tmp_path / "store", [TWO]) as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1", "lease_ttl": 1})[0] == 201
        assert node.call("PUT", "/v1/services/db.prod/i1", {"host": "10.0.0.2", "lease_ttl": 2})[0] == 201
        wait_for(lambda: not node.answers(NAME, "A"), 60, "the first is gone")
        killed = kill(node, 0)
        wait_for(lambda: not node.answers("db.prod." + ZONE, "A"), 60, "the second is gone")
        wait_for(lambda: is_replaced(node, killed), 60, "both serve")
        for name in (NAME, "db.prod." + ZONE):
            replies = [node.ask(name, "A") for _ in range(PORTS)]
            assert {(reply.rcode(), len(reply.authority)) for reply in replies} == {(dns.rcode.NOERROR, 1)}
        serial = node.call("GET", "/readyz")[1]["revision"]
        assert {node.answers(ZONE, "SOA")[0].split()[2] for _ in range(PORTS)} == {str(serial)}


def test_cookies_of_all_workers_are_one(tmp_path: Path) -> None:
    def cookie() -> bytes:
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"8 bytes.")
        query = dns.message.make_query(ZONE, "SOA", use_edns=0, options=[option])
        reply = dns.query.udp(query, "127.0.0.1", port=node.dns_port, timeout=5)
        return b"".join(option.to_wire() or b"" for option in reply.options)

    with running_node(tmp_path / "store", [TWO]) as node:
        killed = kill(node, 0)  # the next one knows the secrets from its beginning
        wait_for(lambda: is_replaced(node, killed), 60, "both serve")
        made = [cookie() for _ in range(4 * PORTS)]
        assert {len(each) for each in made} == {24}
        assert len({each[:16] for each in made}) == len(
            set(made)
        )  # all else follows from the client and the time


class Load(threading.Thread):
    """Asks for NAME from ever new ports; notes what was wrong, and what had no answer within 3 s."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.stopping = threading.Event()
        self.answered = 0
        self.lost = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        ident = 0
        question = dns.message.make_query(NAME, "A").to_wire()
        while not self.stopping.is_set():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(3)
                sock.connect(("127.0.0.1", self.port))
                waiting = set()
                for _ in range(8):
                    ident = (ident + 1) & 0xFFFF
                    sock.send(ident.to_bytes(2, "big") + question[2:])
                    waiting.add(ident)
                try:
                    while waiting:
                        reply = dns.message.from_wire(sock.recv(4096))
                        waiting.discard(reply.id)
                        self.answered += 1
                        if [item.to_text() for rrset in reply.answer for item in rrset] != ["10.0.0.1"]:
                            self.wrong.append(reply.to_text())
                except TimeoutError:
                    self.lost += len(waiting)


@contextmanager
def load(node: RunningNode) -> Iterator[Load]:
    running = Load(node.dns_port)
    running.start()
    try:
        wait_for(lambda: running.answered > 100, 60, "the load runs")
        yield running
    finally:
        running.stopping.set()
        running.join(10)
    assert not running.wrong, running.wrong[:3]


def test_workers_killed_under_load_are_replaced_and_nothing_wrong_is_answered(tmp_path: Path) -> None:
    kills = 6
    with running_node(tmp_path / "store", [TWO]) as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        with load(node) as running:
            counted = 0.0
            for number in range(kills):
                killed = kill(node, number % 2)
                assert node.call("PUT", f"/v1/services/db.prod/i{number}", {"host": "10.0.0.9"})[0] == 201
                replies = [node.answers(f"i{number}.db.prod.{ZONE}", "A") for _ in range(PORTS)]
                assert replies == [["10.0.0.9"]] * PORTS
                wait_for(partial(is_replaced, node, killed), 60, "two workers serve again")
                now = metrics(node)['discovery_dns_queries_total{transport="udp"}']
                assert now > counted  # never back, whoever counted
                counted = now
        assert running.lost <= kills * 64  # what a worker had taken out of its socket when it was killed
        assert metrics(node)["discovery_dns_workers_replaced_total"] == kills


def test_the_only_worker_killed_leaves_its_questions_to_the_next(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", ["dns.workers=1"]) as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        (worker,) = workers(node)
        os.kill(worker, signal.SIGSTOP)  # so that the question stays in the socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.connect(("127.0.0.1", node.dns_port))
            sock.send(dns.message.make_query(NAME, "A").to_wire())
            os.kill(worker, signal.SIGKILL)
            assert dns.message.from_wire(sock.recv(4096)).answer[0][0].to_text() == "10.0.0.1"
        assert node.answers(NAME, "A") == ["10.0.0.1"]


def test_a_stopped_worker_delays_nobody_for_long_and_is_replaced(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [TWO]) as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        stopped = workers(node)[0]
        with load(node):
            os.kill(stopped, signal.SIGSTOP)
            begin = time.monotonic()
            assert node.answers(NAME, "A") == ["10.0.0.1"]  # its neighbour answers for it
            assert node.call("GET", INSTANCE)[0] == 200
            assert node.call("PUT", "/v1/services/db.prod/i1", {"host": "10.0.0.9"})[0] == 201
            assert time.monotonic() - begin < 5
            replies = [node.answers(f"i1.db.prod.{ZONE}", "A") for _ in range(PORTS)]
            assert replies == [["10.0.0.9"]] * PORTS
            wait_for(lambda: is_replaced(node, stopped), 60, "it is replaced")


def test_the_workers_end_with_the_main_process_however_it_ends(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [TWO]) as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        left = workers(node)
        os.kill(left[0], signal.SIGSTOP)
        node.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), 30, "no worker is left")
    again = [TWO, f"dns.listen=['127.0.0.1:{node.dns_port}']"]
    with running_node(tmp_path / "store", again) as node:
        assert node.answers(NAME, "A") == ["10.0.0.1"]
        left = workers(node)
        os.kill(left[1], signal.SIGSTOP)
        begin = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(10) == 0
        assert time.monotonic() - begin < 2.5
        assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_a_stop_of_the_whole_group_lets_the_answers_out(tmp_path: Path) -> None:
    """As systemd does it: everyone gets SIGTERM."""
    with running_node(tmp_path / "store", [TWO]) as node:
        for pid in workers(node):
            # ^C at the terminal doesn't reach it; a session of its own would have it wait for the CPU
            assert os.getpgid(pid) != os.getpgid(node.process.pid)
            assert os.getsid(pid) == os.getsid(node.process.pid)
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        assert node.answers(ZONE, "SOA")
        assert metrics(node)["discovery_dns_workers_replaced_total"] == 0


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_another_program_has_is_told_at_once(tmp_path: Path, shared: bool) -> None:
    """Also when that program would share it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        refused(tmp_path, port)
    with running_node(tmp_path / "store", [TWO]) as node:
        refused(tmp_path, node.dns_port)


def refused(tmp_path: Path, port: int) -> None:
    sets = (
        TWO,
        f"dns.listen=['127.0.0.1:{port}']",
        "http.listen=['127.0.0.1:0']",
        f"store.path={tmp_path}/other",
    )
    done = run_discovery("serve", *(word for each in sets for word in ("--set", each)))
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert (
        f"127.0.0.1:{port} (UDP) is in use" in done.stderr
        or f"127.0.0.1:{port} (TCP) is in use" in done.stderr
    )


def test_a_reload_reaches_the_workers(tmp_path: Path) -> None:
    file, log = tmp_path / "discovery.yaml", tmp_path / "log"
    file.write_text("log: {queries: true}\n")
    with running_node(tmp_path / "store", [TWO], before=["--config", str(file)], log=log) as node:
        for _ in range(PORTS):
            node.ask(NAME, "A")
        wait_for(lambda: log.read_text().count(f"qname={NAME}") == PORTS, 30, "a line for each question")
        file.write_text("log: {queries: false}\nstale_after: 7\n")
        assert node.call("POST", "/v1/config/reload") == (200, {"restart_needed": ["stale_after"]})
        killed = kill(node, 0)  # the next one has the new configuration, too
        wait_for(lambda: is_replaced(node, killed), 60, "both serve")
        for _ in range(PORTS):
            node.ask("other." + ZONE, "A")
        file.write_text("log: {queries: true}\n")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: log.read_text().count("configuration reloaded") == 2, 30, "reloaded by SIGHUP")
        wait_for(lambda: asked(node, "last." + ZONE, log), 30, "lines again")
        assert "qname=other." not in log.read_text()


def asked(node: RunningNode, name: str, log: Path) -> bool:
    node.ask(name, "A")
    return f"qname={name}" in log.read_text()


def test_workers_forward(tmp_path: Path) -> None:
    def answer(query: dns.message.Message, transport: str) -> Iterator[bytes]:
        reply = dns.message.make_response(query, recursion_available=True)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.7"))
        yield reply.to_wire()

    with (
        DnsServer(answer) as upstream,
        running_node(tmp_path / "store", [TWO, f"forward.upstreams=['{upstream.address}']"]) as node,
    ):
        for _ in range(PORTS):
            assert node.answers("www.example.org.", "A") == ["192.0.2.7"]
        assert 1 <= len(upstream.questions) <= 2  # each worker keeps it
        assert metrics(node)["discovery_dns_forward_hits_total"] == PORTS - len(upstream.questions)

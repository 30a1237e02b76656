"""Nodes stopped on purpose, one after the other, as for an upgrade: nobody who asks the next one loses anything.

Clients ask as a stub resolver with three servers in resolv.conf does, and beat as a service that knows three nodes.
"""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.cluster.test_managed import member_settings
from tests.support.etcd import free_ports
from tests.support.installed import build_wheel, environment_of
from tests.support.node import DISCOVERY, RunningNode, running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.e2e]

ZONE = "discovery.internal."
INSTANCES = 20
TTL = 8  # seconds
DELAY = 2  # seconds of node.stop_delay
ATTEMPT, ROUNDS = 3.0, 3  # seconds for an answer before the next server is asked, and how often each is
PAUSE = 0.01  # seconds between two questions of a client


class Clients:
    """Threads that ask and beat until the end of the `with`; what they noticed is read afterwards."""

    def __init__(self, dns_ports: Sequence[int], http_ports: Sequence[int]) -> None:
        self._dns, self._http = dns_ports, http_ports
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.asked = self.moved_on = self.beats = 0
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.expired: list[str] = []
        self.failures: list[BaseException] = []
        self._leases: list[str] = []
        jobs: list[Callable[[], None]] = [
            partial(self._ask, first, dns.query.udp) for first in range(len(dns_ports))
        ]
        jobs += [partial(self._ask, 0, dns.query.tcp), self._beat]
        self._threads = [threading.Thread(target=self._guarded, args=(job,)) for job in jobs]

    def __enter__(self) -> Clients:
        for number in range(INSTANCES):
            body = {"host": f"10.0.0.{number}", "lease_ttl": TTL}
            self._leases.append(self._call("PUT", f"/v1/services/web.prod/i{number}", body)["lease"])
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self.failures.append(error)
            raise

    def _ask(self, first: int, how: Callable[..., dns.message.Message]) -> None:
        number = first
        while not self._stop.wait(PAUSE):
            number = (number + 1) % INSTANCES
            query = dns.message.make_query(f"i{number}.web.prod.{ZONE}", "A")
            answer = self._answer_of_any(query, [*self._dns[first:], *self._dns[:first]], how)
            with self._lock:
                self.asked += 1
                if answer is None:
                    self.lost.append(query.question[0].to_text())
                elif [item.to_text() for rrset in answer.answer for item in rrset] != [f"10.0.0.{number}"]:
                    self.wrong.append(answer.to_text())

    def _answer_of_any(
        self, query: dns.message.Message, ports: Sequence[int], how: Callable[..., dns.message.Message]
    ) -> dns.message.Message | None:
        for attempt in range(ROUNDS * len(ports)):
            try:
                answer = how(query, "127.0.0.1", port=ports[attempt % len(ports)], timeout=ATTEMPT)
            except (OSError, EOFError, dns.exception.Timeout):
                answer = None
            if answer is not None and answer.rcode() != dns.rcode.SERVFAIL:
                return answer
            with self._lock:
                self.moved_on += 1
        return None

    def _beat(self) -> None:
        while not self._stop.wait(TTL / 10):
            self.expired += self._call("POST", "/v1/heartbeats", {"leases": self._leases})["missing"]
            self.beats += 1

    def _call(self, method: str, path: str, body: object) -> Any:  # Any: JSON
        """The first answer of any node that is no 503. Fails after a minute of asking all."""
        end = time.monotonic() + 60
        while True:
            for port in self._http:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ATTEMPT)
                try:
                    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    content = answer.read()
                except (OSError, http.client.HTTPException):
                    continue
                finally:
                    connection.close()
                if answer.status != 503:
                    assert answer.status in (200, 201), content
                    return json.loads(content)
            assert time.monotonic() < end, f"no node takes {method} {path}"


class Machines:
    """Three nodes with a member each, that can be stopped and started again at their addresses."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = free_ports(12)
        self.clients, self.peers, self.dns, self.http = (ports[start::4] for start in range(4))
        self._folder, self._stack = folder, stack
        self._open: dict[int, ExitStack] = {}
        self.nodes: dict[int, RunningNode] = {}
        for number in range(3):
            self.start(number)

    def start(self, number: int, program: Sequence[str] = DISCOVERY) -> None:
        peers = {f"n{each}": port for each, port in enumerate(self.peers)}
        settings = [
            *member_settings(f"n{number}", self.clients[number], self.peers[number], peers),
            f"dns.listen=['127.0.0.1:{self.dns[number]}']",
            f"http.listen=['127.0.0.1:{self.http[number]}']",
            f"node.stop_delay={DELAY}",
        ]
        own = self._open[number] = self._stack.enter_context(ExitStack())
        self.nodes[number] = own.enter_context(
            running_node(self._folder / f"n{number}", settings, program=program)
        )

    def stop(self, number: int) -> None:
        self.nodes[number].process.wait(60)
        self._open[number].close()

    def are_well(self) -> bool:
        members = self.nodes[0].call("GET", "/v1/cluster")[1]["store"].get("members", ())
        return (
            all(node.call("GET", "/readyz?writes")[0] == 200 for node in self.nodes.values())
            and [each["healthy"] for each in members] == [True] * 3
        )


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        made = Machines(folder, stack)
        wait_for(made.are_well, 90, "all are well")
        yield made


def roll(made: Machines, clients: Clients, program: Sequence[str]) -> None:
    """One after the other ends on purpose and is started again, as `program`."""
    for number in range(3):
        going, others = made.nodes[number], [made.nodes[each] for each in range(3) if each != number]
        server = f"n{number}.ns.dns.{ZONE}"
        wait_for(lambda: server in others[0].answers(ZONE, "NS"), 60, "it is a name server")  # noqa: B023
        going.process.send_signal(signal.SIGTERM)
        wait_for(lambda: going.call("GET", "/readyz")[0] == 503, 60, "it says that it is going")  # noqa: B023
        assert len(going.answers(f"web.prod.{ZONE}", "A")) == INSTANCES  # and answers on
        wait_for(lambda: server not in others[0].answers(ZONE, "NS"), 60, "no name server any more")  # noqa: B023
        made.stop(number)
        made.start(number, program)
        wait_for(made.are_well, 90, "all are well")
    rounds = clients.beats
    wait_for(lambda: clients.beats > rounds + 12, 120, "the load runs on for longer than a lease's TTL")


def check_nothing_is_lost(clients: Clients) -> None:
    print(
        f"{clients.asked} questions, {clients.moved_on} asked of the next; {clients.beats} rounds of heartbeats"
    )
    assert not clients.failures
    assert (clients.lost, clients.wrong, clients.expired) == ([], [], [])
    assert clients.moved_on > 0  # the load did meet nodes that were gone


def test_nodes_stopped_and_started_one_after_the_other_lose_no_question_and_no_lease(tmp_path: Path) -> None:
    with machines(tmp_path) as made, Clients(made.dns, made.http) as clients:
        wait_for(lambda: clients.asked > 100, 60, "the load runs")
        roll(made, clients, DISCOVERY)
    check_nothing_is_lost(clients)


def versions(node: RunningNode) -> list[str]:
    return sorted(each["version"] for each in node.call("GET", "/v1/cluster")[1]["nodes"])


def test_an_upgrade_to_the_next_version_and_back_loses_nothing_either(tmp_path: Path) -> None:
    """The next one is an installation of its own, which says more of its nodes than this one knows."""
    record = "    started_at: str\n"
    changes = {
        "discovery/nodes.py": (record, f'{record}    rack: str = "r1"\n'),
        "discovery/api/cluster.py": (record, f"{record}    rack: str\n"),
    }
    (tmp_path / "wheel").mkdir()
    wheel = build_wheel(tmp_path / "wheel", "99.0.0", changes)
    following = [str(environment_of(tmp_path / "next", wheel))]
    with machines(tmp_path) as made, Clients(made.dns, made.http) as clients:
        wait_for(lambda: clients.asked > 100, 60, "the load runs")
        (before,) = set(versions(made.nodes[0]))
        roll(made, clients, following)
        wait_for(lambda: versions(made.nodes[0]) == ["99.0.0"] * 3, 60, "all are the next version")
        assert all(each["rack"] == "r1" for each in made.nodes[0].call("GET", "/v1/cluster")[1]["nodes"])
        roll(made, clients, DISCOVERY)
        wait_for(lambda: versions(made.nodes[0]) == [before] * 3, 60, "all are this version again")
    check_nothing_is_lost(clients)

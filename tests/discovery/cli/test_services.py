"""register, deregister and list against a real HTTP server; --keep in a real process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode, problem

ROOT = Path(__file__).parents[3]


@pytest.fixture
def node() -> Iterator[HttpNode]:
    with HttpNode() as node:
        yield node


class TestRegister:
    def test_only_what_is_given_is_sent(self, run: Run, node: HttpNode) -> None:
        status, out, err = run("register", "web.prod", "i1", "--host", "10.0.0.1", "--node", node.url)
        assert (status, err) == (0, "")
        assert out == "registered i1.web.prod.test. (10.0.0.1), lease 6a of 30 s, heartbeat every 10 s\n"
        stored = node.instances["web.prod", "i1"]
        assert "ttl" not in stored
        assert "ports" not in stored
        assert "mail" not in stored

    def test_every_option(self, run: Run, node: HttpNode) -> None:
        where = "--host 10.0.0.1 --port 80 --named-port http=80 --named-port dns/udp=53"
        records = "--priority 1 --weight 2 --text hello --ttl 3 --tag a --tag b --meta k=v=w --meta e="
        records += " --mail --group g1 --targetstrip 1"
        leases = f"--lease-ttl 15 --lease 6f --json --node {node.url}"
        options = f"{where} {records} {leases}".split()
        status, out, _ = run("register", "web.prod", "i1", *options)
        assert status == 0
        expected = {
            "host": "10.0.0.1",
            "port": 80,
            "priority": 1,
            "weight": 2,
            "text": "hello",
            "ttl": 3,
            "tags": ["a", "b"],
            "meta": {"k": "v=w", "e": ""},
            "ports": {"http": 80, "dns/udp": 53},
            "lease_ttl": 15,
            "lease": "6f",
            "mail": True,
            "group": "g1",
            "targetstrip": 1,
        }
        stored = node.instances["web.prod", "i1"]
        assert {key: stored[key] for key in expected} == expected
        assert json.loads(out)["revision"] == 7

    @pytest.mark.parametrize(
        ("host", "shown"), [("10.0.0.1", "10.0.0.1:80"), ("2001:db8::1", "[2001:db8::1]:80")]
    )
    def test_says_where(self, run: Run, node: HttpNode, host: str, shown: str) -> None:
        out = run("register", "web", "i1", "--host", host, "--port", "80", "--node", node.url).out
        assert f"({shown})" in out

    def test_zeroes_are_sent_too(self, run: Run, node: HttpNode) -> None:
        out = run(
            "register", "web", "i1", "--host", "", "--weight", "0", "--lease-ttl", "0", "--node", node.url
        ).out
        assert out == "registered i1.web.test. (no host), for ever\n"
        assert node.instances["web", "i1"]["lease_ttl"] == node.instances["web", "i1"]["weight"] == 0

    @pytest.mark.parametrize(
        "options",
        ["--meta k", "--meta =v", "--meta a=1 --meta a=2", "--named-port http", "--named-port http=x",
         "--port 65536", "--keep --lease-ttl 0"],
    )  # fmt: skip
    def test_wrong_options_are_2_and_call_nobody(self, run: Run, node: HttpNode, options: str) -> None:
        assert run("register", "web", "i1", *options.split(), "--node", node.url).status == 2
        assert node.calls == []

    @pytest.mark.parametrize(
        ("arguments", "empty"),
        [
            (("register", "", "c1"), "SERVICE"),
            (("register", "web", ""), "INSTANCE"),
            (("deregister", "", "c1"), "SERVICE"),
            (("deregister", "web", ""), "INSTANCE"),
            (("list", ""), "SERVICE"),
        ],
    )
    def test_empty_names_are_2_and_call_nobody(
        self, run: Run, node: HttpNode, arguments: tuple[str, ...], empty: str
    ) -> None:
        expected = f"discovery: {empty} is empty; see `discovery {arguments[0]} --help`\n"
        assert run(*arguments, "--node", node.url) == (2, "", expected)
        assert node.calls == []

    def test_names_are_quoted(self, run: Run, node: HttpNode) -> None:
        assert run("register", "@", "a b", "--node", node.url + "/").status == 0
        assert node.calls == [("PUT", "/v1/services/%40/a%20b")]
        assert ("@", "a b") in node.instances


class TestErrors:
    def test_a_problem_is_one_line_and_1(self, run: Run, node: HttpNode) -> None:
        status, out, err = run("deregister", "web", "i1", "--node", node.url)
        assert (status, out, err) == (1, "", "discovery: there is no such instance\n")

    def test_a_bad_call_is_2_and_names_the_field(self, run: Run, node: HttpNode) -> None:
        node.refusals.append(("PUT", problem(400, "give an address", "host")))
        ran = run("register", "web", "i1", "--node", node.url)
        assert ran == (2, "", "discovery: host: give an address\n")

    def test_no_node(self, run: Run) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        status, _, err = run("list", "--node", url)
        assert status == 1
        assert err == (
            f"discovery: no node answers at {url} (Connection refused); "
            "start one with `discovery serve` or name another with --node\n"
        )

    @pytest.mark.parametrize("command", ["list", "list web", "register web i1", "cluster status"])
    def test_a_program_that_answers_otherwise(self, run: Run, node: HttpNode, command: str) -> None:
        for method, path in (
            ("GET", "/v1/services"),
            ("GET", "/v1/services/web"),
            ("PUT", "/v1/services/web/i1"),
            ("GET", "/v1/cluster"),
        ):
            node.answers[method, path] = {"hello": "world"}
        status, out, err = run(*command.split(), "--node", node.url)
        assert (status, out) == (1, "")
        assert re.fullmatch(r"discovery: the answer has no '\w+': another program is there, .*\n", err)

    def test_something_else_listens_there(self, run: Run, node: HttpNode) -> None:
        status, _, err = run("list", "--node", node.url + "/html")
        assert status == 1
        assert (
            err
            == f"discovery: {node.url}: GET {node.url}/html/v1/services?limit=1000 was answered with 502\n"
        )

    @pytest.mark.parametrize("url", ["127.0.0.1:8053", "ftp://127.0.0.1", "http://", "http://[", "x"])
    def test_not_an_address(self, run: Run, url: str) -> None:
        status, _, err = run("list", "--node", url)
        assert status == 2
        assert "is not the address of a node; expected http://HOST:PORT" in err


class TestList:
    def fill(self, run: Run, node: HttpNode, *names: str) -> None:
        for name in names:
            service, _, instance = name.partition("/")
            run(
                "register",
                service,
                instance,
                "--host",
                "10.0.0.1",
                "--tag",
                "x",
                "--tag",
                "y",
                "--node",
                node.url,
            )

    def test_services_of_all_pages(self, run: Run, node: HttpNode) -> None:
        self.fill(run, node, "a/1", "a/2", "b/1", "c/1", "d/1", "e/1")
        out = run("list", "--node", node.url).out
        assert [line.split() for line in out.splitlines()] == [
            ["SERVICE", "INSTANCES"], ["a", "2"], ["b", "1"], ["c", "1"], ["d", "1"], ["e", "1"],
        ]  # fmt: skip
        found = json.loads(run("list", "--json", "--node", node.url).out)
        assert [one["service"] for one in found["services"]] == ["a", "b", "c", "d", "e"]
        assert found["revision"] == 7

    def test_instances(self, run: Run, node: HttpNode) -> None:
        self.fill(run, node, "web/i1", "web/i2", "webs/i3")
        head, first, second = run("list", "web", "--node", node.url).out.splitlines()
        columns = ["INSTANCE", "HOST", "PORT", "PRIORITY", "WEIGHT", "TAGS", "LEASE", "DRAINED"]
        assert head.split() == columns
        assert first.split() == ["i1", "10.0.0.1", "0", "10", "100", "x", "y", "30", "s"]
        assert second.split()[0] == "i2"
        found = json.loads(run("list", "web", "--json", "--node", node.url).out)
        assert [one["instance"] for one in found["instances"]] == ["i1", "i2"]

    def test_nothing(self, run: Run, node: HttpNode) -> None:
        assert run("list", "--node", node.url) == (0, "no services are registered\n", "")
        assert run("list", "web", "--node", node.url) == (0, "no instances of web\n", "")
        assert json.loads(run("list", "web", "--json", "--node", node.url).out)["instances"] == []

    def test_deregister(self, run: Run, node: HttpNode) -> None:
        self.fill(run, node, "web/i1")
        assert run("deregister", "web", "i1", "--node", node.url) == (0, "deregistered i1 of web\n", "")
        assert node.instances == {}

    def test_deregister_json(self, run: Run, node: HttpNode) -> None:
        self.fill(run, node, "web/i1")
        out = run("deregister", "web", "i1", "--json", "--node", node.url).out
        assert json.loads(out) == {"service": "web", "instance": "i1", "deregistered": True}


@contextmanager
def keeping(node: HttpNode, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`discovery register web i1 --keep` in a process, just started."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "discovery",
            "register",
            "web",
            "i1",
            "--host",
            "10.0.0.1",
            "--keep",
            *options,
        ],
        cwd=ROOT,
        env=os.environ | {"DISCOVERY_NODE": node.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def kept(node: HttpNode, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The same, registered."""
    with keeping(node, *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("registered i1.web.test. (10.0.0.1), lease ")
        yield process


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM, *, status: int = 0) -> str:
    process.send_signal(number)
    _, err = process.communicate(timeout=5)
    assert process.returncode == status
    return err


@pytest.mark.slow  # each runs the command as a process of its own
class TestKeep:
    def test_beats_registers_again_survives_an_outage_and_deregisters(self) -> None:
        with HttpNode(heartbeat_every=0.02) as node, kept(node) as process:
            node.wait_for(lambda: node.count("POST", "/heartbeat") >= 3, "no three heartbeats")
            assert node.count("PUT") == 1

            node.forget("web", "i1")
            node.wait_for(lambda: ("web", "i1") in node.instances, "not registered again")
            assert node.count("PUT") == 2

            node.refusals.append(("POST", problem(503, "the store is away")))
            before = node.count("POST")
            node.wait_for(lambda: node.count("POST") >= before + 2, "gave up after 503")

            node.stop()
            assert process.stderr is not None
            lines = [process.stderr.readline() for _ in range(6)]
            node.instances.clear()  # what was not renewed has expired meanwhile
            node.start()
            node.wait_for(lambda: ("web", "i1") in node.instances, "not registered again after the outage")
            lines += [process.stderr.readline() for _ in range(2)]

            err = stop(process)
            assert node.instances == {}
            assert node.calls[-1] == ("DELETE", "/v1/services/web/i1")
        forgotten = "discovery: i1.web.test.: no node knows it any longer; registering it again\n"
        assert lines[0] == "discovery: registered i1.web.test.\n"
        assert lines[1] == forgotten
        assert lines[2] == lines[0]
        assert re.match(
            r"discovery: i1\.web\.test\.: http://\S+: the store is away; trying again until a node is back\n",
            lines[3],
        )
        assert lines[4] == "discovery: i1.web.test.: a node is back\n"
        assert re.match(
            r"discovery: i1\.web\.test\.: no node answers at .*; trying again until a node is back\n",
            lines[5],
        )
        assert lines[6:] == [forgotten, lines[0]]
        assert err == "discovery: deregistered i1.web.test.\n"

    def test_interrupt_in_a_long_pause_deregisters_at_once(self) -> None:
        with HttpNode(heartbeat_every=3600) as node, kept(node) as process:
            assert stop(process, signal.SIGINT).endswith("discovery: deregistered i1.web.test.\n")
            assert [method for method, _ in node.calls] == ["PUT", "DELETE"]

    def test_a_refusal_that_waiting_cannot_mend_ends_it(self) -> None:
        with HttpNode(heartbeat_every=0.02) as node, kept(node) as process:
            node.refusals.append(("PUT", problem(404, "there is no lease 6a")))
            node.forget("web", "i1")
            assert process.wait(5) == 1
            assert process.stderr is not None
            assert process.stderr.read().endswith("discovery: there is no lease 6a\n")

    def test_says_when_it_could_not_deregister(self) -> None:
        with HttpNode(heartbeat_every=3600) as node, kept(node) as process:
            node.stop()
            assert stop(process, status=1).endswith(
                f"discovery: could not deregister i1.web.test. (no node answers at {node.url} (Connection refused)): "
                "its lease runs out by itself within 30 s\n"
            )

    def test_says_when_the_node_refused_to_deregister(self) -> None:
        with HttpNode(heartbeat_every=3600) as node, kept(node, "--lease", "6f") as process:
            node.refusals.append(("DELETE", problem(503, "the store is away; ask another")))
            assert stop(process, status=1).endswith(
                f"discovery: could not deregister i1.web.test. ({node.url}: the store is away; ask another): "
                "it stays until lease 6f ends\n"
            )

    def test_is_already_gone_when_it_deregisters(self) -> None:
        with HttpNode(heartbeat_every=3600) as node, kept(node) as process:
            node.forget("web", "i1")
            assert stop(process).endswith("discovery: deregistered i1.web.test.\n")

    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_a_hung_node_does_not_hold_up_the_end(self, method: str) -> None:
        """Whether it hangs in the registration or in a heartbeat."""
        with HttpNode(heartbeat_every=0.02) as node:
            node.hangs = method == "PUT"
            with keeping(node) if node.hangs else kept(node) as process:
                node.hangs = True
                node.wait_for(lambda: node.calls[-1:] != [] and node.calls[-1][0] == method, "nothing hangs")
                before = len(node.calls)
                err = stop(process, status=1)
                assert err.splitlines()[-1].startswith("discovery: could not deregister i1")
                assert "(nothing came in time)" in err
                assert ("DELETE", "/v1/services/web/i1") in node.calls[before:]

    def test_one_hung_heartbeat_is_given_up_in_time_for_the_next(self) -> None:
        with HttpNode(heartbeat_every=1) as node, kept(node) as process:
            node.hangs = True
            node.wait_for(lambda: node.count("POST") == 1, "no heartbeat")
            node.hangs = False
            node.wait_for(lambda: node.count("POST") == 2, "no other heartbeat")
            err = stop(process)
        assert (
            f"discovery: i1.web.test.: no node answers at {node.url} (nothing came in time); "
            "trying again until a node is back"
        ) in err.splitlines()

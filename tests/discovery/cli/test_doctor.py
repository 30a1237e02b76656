"""The doctor on this machine: with no node, with a node that answers, and what is shown how."""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from discovery.cli import doctor, doctor_machine
from discovery.cli.findings import Finding
from discovery.config import Config, load
from discovery.kv.sqlite_file import DirectoryLock
from tests.discovery.cli.conftest import Ran, Run
from tests.discovery.cli.test_store import make_store
from tests.support.http_node import HttpNode, problem


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def config_of(folder: Path, **settings: str) -> Config:
    return load(
        None, {}, [f"{key.replace('__', '.')}={value}" for key, value in settings.items()], cwd=folder
    ).config


def told(found: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(each.verdict, each.said) for each in found]


def test_a_port_that_is_taken_says_by_whom(tmp_path: Path, taken: int) -> None:
    config = config_of(tmp_path, http__listen=f"['127.0.0.1:{taken}']", dns__listen="['127.0.0.1:0']")
    (found,) = doctor_machine.ports(config)
    assert f"http.listen: 127.0.0.1 port {taken} TCP is taken by" in found.said
    assert f"(pid {os.getpid()})" in found.said
    assert (found.verdict, found.do) == ("wrong", "stop it, or set http.listen to another address")


NODE = ["/usr/bin/python3", "/opt/discovery/bin/discovery", "serve"]


@pytest.mark.parametrize(
    ("holders", "verdict", "end"),
    [
        ({}, "warning", "by whom only root can see"),
        ({1: ["/sbin/init"], 70: NODE, 71: NODE}, "ok", "is a node's (pid 70)"),
        ({1: ["/usr/lib/systemd/systemd", "--system"]}, "ok", "is held by systemd for discovery.socket"),
        ({1: ["/sbin/init"], 70: ["/usr/sbin/named", "-f"]}, "wrong", "is taken by named (pid 70)"),
        ({1: ["/usr/sbin/nginx"]}, "wrong", "is taken by nginx (pid 1)"),
    ],
)
def test_who_holds_a_port(holders: dict[int, list[str]], verdict: str, end: str) -> None:
    found = doctor_machine.taken("dns.listen", "port 53", holders)
    assert found.verdict == verdict
    assert found.said.endswith(end)
    assert bool(found.do) == (verdict != "ok")


def test_a_port_that_is_free_and_an_address_that_is_elsewhere(tmp_path: Path) -> None:
    with socket.socket() as kept:  # bound, so that nobody else gets it, and not listening, so that it is free
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        listen = f"['127.0.0.1:{port}', '192.0.2.1:{port}']"
        free, elsewhere = doctor_machine.ports(
            config_of(tmp_path, http__listen=listen, dns__listen="['127.0.0.1:0']", http__open="true")
        )
    assert (free.verdict, elsewhere.verdict) == ("ok", "wrong")
    assert "is on no address of this machine" in elsewhere.said


@pytest.mark.parametrize(
    ("line", "node"),
    [
        ("python -m discovery serve --set a=b", True),
        ("/usr/bin/python3 /opt/discovery/bin/discovery serve", True),
        ("python -m pytest tests/discovery", False),
        ("nginx serve", False),
        ("", False),
    ],
)
def test_what_is_a_node(line: str, node: bool) -> None:
    assert doctor_machine.is_node(line.split()) is node


def test_the_disk_of_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    found = told(doctor_machine.disk(config_of(tmp_path, store__path=str(tmp_path / "a" / "b"))))
    assert found[0][1].startswith(f"{tmp_path}: ")
    assert ("ok", f"store.path: {tmp_path}/a/b is not there yet") in found
    assert list(tmp_path.iterdir()) == []


def test_the_disk_is_timed_and_nothing_is_left(tmp_path: Path) -> None:
    found = told(doctor_machine.disk(config_of(tmp_path, store__path=str(tmp_path))))
    assert any("a durable write takes" in said for _, said in found)
    assert list(tmp_path.iterdir()) == []


def test_keys_that_others_may_read(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = trustme.CA().issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(str(cert))
    made.private_key_pem.write_to_path(str(key))
    key.chmod(0o644)
    config = config_of(
        tmp_path, http__tls__cert=str(cert), http__tls__key=str(key), store__path=str(tmp_path / "no")
    )
    found = told(doctor_machine.permissions(config, str(tmp_path / "gone")))
    assert ("warning", f"http.tls.key: {key} has mode 0644: others may read it") in found
    assert ("wrong", f"the token's file: there is no file {tmp_path / 'gone'}") in found


def test_a_certificate_that_has_ended_and_one_that_is_none(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    now = datetime.datetime.now(datetime.UTC)
    trustme.CA().issue_cert("localhost", not_after=now + datetime.timedelta(days=1)).cert_chain_pems[
        0
    ].write_to_path(str(cert))
    config = config_of(tmp_path, http__tls__cert=str(cert))
    (found,) = doctor_machine.certificates(config, now.timestamp() + 2 * 86400)
    assert found.verdict == "wrong"
    assert found.said.endswith("ended 1 d ago")
    cert.write_text("nonsense")
    (found,) = doctor_machine.certificates(config, now.timestamp())
    assert (found.verdict, "is no certificate in PEM" in found.said) == ("wrong", True)


def test_a_store_that_no_node_uses_is_read(tmp_path: Path) -> None:
    config = config_of(tmp_path, store__path=str(tmp_path / "store"))
    assert list(doctor_machine.stopped_store(config)) == []
    make_store(tmp_path / "store")
    (found,) = doctor_machine.stopped_store(config)
    assert (found.verdict, "is whole: 3 keys" in found.said) == ("ok", True)
    lock = DirectoryLock(tmp_path / "store")
    (found,) = doctor_machine.stopped_store(config)
    lock.release()
    assert found.verdict == "skipped"


class TestCommand:
    def ask(self, run: Run, tmp_path: Path, *more: str) -> Ran:
        settings = (
            "http.listen=['127.0.0.1:0']",  # where nobody ever answers
            "dns.listen=['127.0.0.1:0']",
            f"store.path={tmp_path / 'store'}",
        )
        sets = [word for each in settings for word in ("--set", each)]
        return run("doctor", *sets, "--resolver", "127.0.0.1:1", *more)

    def test_without_a_node(self, run: Run, tmp_path: Path) -> None:
        status, out, err = self.ask(run, tmp_path, "-o", "json")
        assert (status, err) == (1, "")  # for the resolver that was named and is not there
        document = json.loads(out)
        by_check: dict[str, list[dict[str, Any]]] = {}
        for finding in document["findings"]:
            by_check.setdefault(finding["check"], []).append(finding)
        assert {"configuration", "disk", "clock", "node", "delegation"} <= by_check.keys()
        assert by_check["node"][0]["verdict"] == "skipped"
        assert by_check["node"][0]["do"] == "start it with `discovery serve`"
        assert [each["verdict"] for each in by_check["delegation"]] == ["wrong"]
        assert document["wrong"] == 1

    def test_a_node_that_was_named_must_answer(self, run: Run, tmp_path: Path) -> None:
        _, out, _ = self.ask(run, tmp_path, "--node", "http://127.0.0.1:1")
        assert "wrong    node          no node answers at http://127.0.0.1:1" in out
        assert out.splitlines()[-1].startswith("2 wrong")

    @pytest.mark.parametrize("named", [True, False])
    def test_this_machines_folder_is_not_told_of_a_node_that_was_named(
        self, run: Run, tmp_path: Path, named: bool
    ) -> None:
        more = ("--node", "http://127.0.0.1:1") if named else ()
        _, out, _ = self.ask(run, tmp_path, *more, "--set", "http.tls.cert=gone.pem")
        here = "for a node started here: " if named else ""
        assert f"disk          {here}store.path: {tmp_path / 'store'} is not there yet" in out
        assert ("for a node started here: " in out) == named

    def test_a_node_that_wants_a_token(self, run: Run, tmp_path: Path) -> None:
        with HttpNode() as node:
            node.refusals.append(("GET", problem(401, "there is no token")))
            _, out, _ = self.ask(run, tmp_path, "--node", node.url)
        assert f"{node.url}: there is no token" in out
        assert "to do: give --token-file, with a token of the role operate" in out

    def test_a_configuration_that_is_wrong_is_a_finding(self, run: Run, tmp_path: Path) -> None:
        _, out, _ = self.ask(run, tmp_path, "--set", "dns.lisen=1")
        assert out.startswith(
            "wrong    configuration --set dns.lisen: unknown setting; did you mean dns.listen?"
        )

    def test_a_resolver_that_is_no_address(self, run: Run) -> None:
        status, _, err = run("doctor", "--resolver", "127.0.0.1:x")
        assert status == 2
        assert "--resolver" in err


FINDING = Finding(
    "delegation", "warning", "the resolver 10.0.0.1 does not know discovery.internal.", "make it " * 9
)


@pytest.mark.parametrize("width", [40, 59, 60, 80, 200])
def test_findings_keep_within_a_terminal(width: int) -> None:
    lines = list(doctor.lines(FINDING, width))
    assert max(map(len, lines)) <= width
    assert (
        " ".join(" ".join(lines).split()) == f"warning delegation {FINDING.said} to do: {FINDING.do}".strip()
    )


def test_in_a_pipe_a_sentence_is_a_line() -> None:
    assert len(list(doctor.lines(FINDING, 0))) == 2

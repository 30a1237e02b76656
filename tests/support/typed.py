"""Documentation that is typed: its blocks, and machines on which their lines are run as they stand.

A machine is an address of loopback with files of its own. Ports stay as they are written, since each test has addresses
of its own; what a page calls 10.0.0.N, /etc/discovery, /var/lib/discovery and /var/backups is put where the test may
write. `systemctl` starts and ends a node's process; one that fails is started again after a second, as systemd would.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import yaml

from tests.support.node import DISCOVERY, ROOT, environment, wait_for

STATUS_LIMIT = 90.0  # seconds for all to be well after a change, on a busy machine


class Line(NamedTuple):
    """What is typed, behind which prompt, and the lines shown below it."""

    prompt: str
    command: str
    shown: Sequence[str]


class Block(NamedTuple):
    """`lines` of a console block, else `settings` of a YAML one."""

    lines: Sequence[Line]
    settings: str


def blocks_of(text: str, heading: str) -> list[Block]:
    """The blocks below one heading, up to the next. An empty heading: those before the first."""
    parts = re.split(r"^##+ (.*)\n", text, flags=re.M)
    found = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
    blocks = []
    for kind, body in re.findall(r"^```(console|yaml)\n(.*?)^```$", found[heading], re.M | re.S):
        blocks.append(Block(_lines(body), "") if kind == "console" else Block([], body))
    return blocks


def _lines(body: str) -> list[Line]:
    lines: list[tuple[str, str, list[str]]] = []
    for text in body.splitlines():
        typed = re.match(r"(\w*)\$ (.*)", text)
        if typed:
            lines.append((typed[1], typed[2], []))
        else:
            lines[-1][2].append(text)
    return [Line(*each) for each in lines]


class Machine:
    """`under`: a program that its node is started by."""

    def __init__(self, name: str, folder: Path, network: str) -> None:
        self.name = name
        self.address = f"{network}{name[1:]}"
        self.folder = folder / name
        self.lib = self.folder / "lib"
        self.file = self.folder / "discovery.yaml"
        self.log = self.folder / "log"
        self.under: Sequence[str] = ()
        self.folder.mkdir()
        self.lib.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.wanted = False
        self._again = 0.0
        self.failures = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def etcd(self) -> int:
        """The process of the etcd that is its node's child; 0 when there is none."""
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            try:
                if Path(f"/proc/{child}/comm").read_text().strip() == "etcd":
                    return int(child)
            except FileNotFoundError:
                continue
        return 0

    def start(self) -> None:
        self.wanted = True
        self._again = 0.0
        self.tend()

    def tend(self) -> None:
        """Starts it when it should run and does not, a second after it failed."""
        if not self.wanted or self.runs or time.monotonic() < self._again:
            return
        if self._process is not None and self._again == 0.0:
            self.failures += 1
            self._again = time.monotonic() + 1.0
            return
        self._again = 0.0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.under, *DISCOVERY, "serve", "--config", str(self.file)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env=environment(),
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it and waits; nothing when it does not run."""
        self.wanted = False
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def configure(self, text: str) -> None:
        """A whole file, or settings that are written into it, where `join` takes the place of `initial_cluster`."""
        given = yaml.safe_load(text)
        if "node" not in given:
            held = yaml.safe_load(self.file.read_text())
            held["store"]["member"].pop("initial_cluster", None)
            held["store"]["member"] |= given["store"]["member"]
            given = held
        self.file.write_text(yaml.safe_dump(given))

    def answers(self, name: str, rtype: str) -> list[str]:
        """The answer section's data as text, sorted; nothing when it does not answer."""
        query = dns.message.make_query(name, rtype, use_edns=0)
        try:
            answer = dns.query.udp(query, self.address, port=1053, timeout=2)
        except (OSError, dns.exception.Timeout):
            return []
        return sorted(item.to_text() for rrset in answer.answer for item in rrset)


class Machines(Mapping[str, Machine]):
    """By name, such as n1: made when first named, all ended by `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = free_network()
        self.written = "10.0.0."  # the page's network
        self._machines: dict[str, Machine] = {}

    def __getitem__(self, name: str) -> Machine:
        if name not in self._machines:
            self._machines[name] = Machine(name, self.folder, self.network)
        return self._machines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._machines)

    def __len__(self) -> int:
        return len(self._machines)

    def close(self) -> None:
        for machine in self._machines.values():
            machine.stop()
        for machine in self._machines.values():
            if machine.log.exists():
                text = machine.log.read_text(errors="replace")
                assert "Traceback" not in text, text

    def here(self, text: str, machine: Machine) -> str:
        """What the page says, in the places of this test."""
        lib = f"/proc/{machine.pid}/root{machine.lib}" if machine.under and machine.runs else machine.lib
        for written, meant in (
            (self.written, self.network),
            (":53", ":1053"),
            ("/etc/discovery/discovery.yaml", str(machine.file)),
            ("/var/lib/discovery", str(lib)),
            (f"./discovery-data/{machine.name}", str(lib)),
            ("/var/backups", str(self.folder)),
        ):
            text = re.sub(re.escape(written) + (r"\b" if written == ":53" else ""), meant, text)
        return text

    def do(self, blocks: Sequence[Block]) -> None:
        """Types all of them, in their order."""
        for block in blocks:
            if block.settings:
                name = re.findall(r"^# (n\d)\b", block.settings, re.M)[0]
                self[name].configure(self.here(block.settings, self[name]))
            for line in block.lines:
                self.type(line)

    def type(self, line: Line) -> None:
        machine = self[line.prompt]
        match line.command.split():
            case ["systemctl", "start", "discovery"]:
                machine.start()
            case ["systemctl", "stop", "discovery"]:
                machine.stop()
            case ["discovery", "cluster", "status"]:
                self.until_well(machine)
            case _:
                done = self.run(machine, line.command)
                assert done.returncode == 0, f"{line.command}: {done.stdout}{done.stderr}"
                if line.shown:
                    assert done.stdout.splitlines() == list(line.shown), line.command

    def run(self, machine: Machine, command: str) -> subprocess.CompletedProcess[str]:
        here = re.sub(
            r"^(\.venv/bin/)?discovery ", f"{sys.executable} -m discovery ", self.here(command, machine)
        )
        own = {
            "DISCOVERY_NODE": f"http://{machine.address}:8053",
            "DISCOVERY_CONFIG": str(machine.file),
        }
        return subprocess.run(
            ["bash", "-c", here],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment() | own,
        )

    def until_well(self, machine: Machine, seconds: float = STATUS_LIMIT) -> None:
        """`discovery cluster status` ends with 0, and shows the node and the member of each machine that runs."""
        said = ""

        def is_well() -> bool:
            nonlocal said
            for each in self._machines.values():
                each.tend()
            done = self.run(machine, "discovery cluster status")
            said = done.stdout + done.stderr
            rows = [re.split(r"[ -]", row)[0] for row in said.splitlines()]
            return done.returncode == 0 and all(
                rows.count(each.name) == 2 for each in self._machines.values() if each.wanted
            )

        try:
            wait_for(is_well, seconds, "all is well")
        except AssertionError:
            logs = "\n".join(
                f"== {each.name}\n{each.log.read_text(errors='replace')[-4000:]}"
                for each in self._machines.values()
                if each.log.exists()
            )
            raise AssertionError(f"not well after {seconds} s on {machine.name}: {said}\n{logs}") from None

    def is_everywhere(self, name: str, wanted: Sequence[str], *names: str) -> None:
        """All of these machines come to answer so within seconds."""
        wait_for(
            lambda: all(self[each].answers(name, "A") == list(wanted) for each in names),
            20,
            f"{name} is {wanted} on {names}",
        )

    def call(self, name: str, method: str, path: str, body: str = "") -> tuple[int, Any]:  # Any: JSON

        url = f"http://{self[name].address}:8053{path}"
        request = urllib.request.Request(url, body.encode() or None, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")
        except OSError as error:
            return 0, str(error)


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    made = Machines(folder)
    try:
        yield made
    finally:
        made.close()


def free_network() -> str:
    """The first three parts, with a dot, of a network of loopback in which nobody listens as nodes do."""
    for number in range(os.getpid(), os.getpid() + 60_000):
        network = f"127.{100 + number % 100}.{number // 100 % 250 + 1}."
        try:
            with socket.socket() as probe:
                probe.bind((f"{network}1", 2380))
            return network
        except OSError:
            continue
    raise AssertionError("no address of loopback is free")

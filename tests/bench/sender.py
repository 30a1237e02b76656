"""The client of the DNS benchmarks: `sender.c`, compiled when it is needed, and the questions it asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import dns.message

SOURCE = Path(__file__).with_name("sender.c")


class Counted(NamedTuple):
    """What the client saw; `p50_us` and so on are microseconds from question to answer."""

    answered: int
    bad: int
    lost: int
    seconds: float
    p50_us: float
    p99_us: float
    max_us: float


class Sender:
    """`core`: where it runs, apart from the server; None: wherever there is room."""

    def __init__(self, directory: Path, core: int | None) -> None:
        self._program = directory / "sender"
        self._cores = os.sched_getaffinity(0) if core is None else {core}
        try:
            command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(self._program), str(SOURCE)]
            subprocess.run(command, check=True)
        except FileNotFoundError:
            sys.exit("cc is missing: apt-get install gcc libc6-dev (make bench does it as root)")

    def run(
        self,
        mode: str,
        port: int,
        questions: Path,
        seconds: float,
        number: int,
        flags: str = "-",
        *,
        first: bool = False,
    ) -> Counted:
        """`mode`, `number` and `flags` as at the head of sender.c.

        `first`: it comes before what else runs on its core, where that is allowed, so that it measures no waits of
        its own.
        """

        def prepare() -> None:
            os.sched_setaffinity(0, self._cores)
            if first and os.geteuid() == 0:
                os.nice(-10)

        command = [str(self._program), mode, str(port), str(questions), str(seconds), str(number), flags]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=prepare,
        )
        return Counted(**json.loads(done.stdout))


def write_questions(file: Path, wanted: Iterable[tuple[str, str]]) -> Path:
    """(name, type) pairs as the sender reads them: lower-case, RD set, without EDNS."""
    with file.open("wb") as out:
        for name, rtype in wanted:
            packet = dns.message.make_query(name, rtype, use_edns=False).to_wire()
            out.write(len(packet).to_bytes(2, "big") + packet)
    return file

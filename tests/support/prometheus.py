"""Debian's Prometheus in a process of its own, on a free port, and promtool."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.node import environment, wait_for
from tests.support.programs import LONG, program

LISTENING = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')


class Prometheus:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=LONG) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def get(self, path: str, **parameters: str) -> Any:  # Any: JSON
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=LONG) as response:
            answer = json.loads(response.read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, text: str) -> list[Any]:  # Any: JSON
        """The samples of an instant query, now."""
        found: list[Any] = self.get("query", query=text)["result"]
        return found

    def targets(self, job: str) -> dict[str, Any]:  # Any: JSON
        """Those that are scraped, by address."""
        active = self.get("targets", state="active")["activeTargets"]
        return {each["discoveredLabels"]["__address__"]: each for each in active if each["scrapePool"] == job}


@contextmanager
def prometheus(folder: Path, config: object) -> Iterator[Prometheus]:
    """`config` as in its configuration file. Its log, and all that it keeps, are in `folder`."""
    file, log = folder / "prometheus.yaml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(config))
    options = {
        "config.file": str(file),
        "storage.tsdb.path": str(folder / "tsdb"),
        "web.listen-address": "127.0.0.1:0",
    }
    words = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with program(words, log):
        wait_for(lambda: LISTENING.search(log.read_text()) is not None, LONG, "Prometheus listens")
        (port,) = LISTENING.findall(log.read_text())
        server = Prometheus(int(port))
        wait_for(server.is_ready, LONG, "Prometheus is ready")
        yield server


def promtool(*arguments: str, given: bytes | None = None) -> str:
    """What it says, where it finds nothing wrong."""
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, timeout=LONG, env=environment()
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said

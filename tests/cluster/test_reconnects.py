"""How often a node knocks at a store that is away, and that it is back when the store is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.etcd import etcd_cluster
from tests.support.node import running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

AWAY = 20.0  # seconds
A_SECOND = 3  # attempts that are still no burden
SOON = 20.0


class Door:
    """A port before a member of etcd. While it is shut, who connects is let go at once, and counted in `knocks`."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.target: tuple[str, int] | None = None
        self.knocks: list[float] = []
        self._inside: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def open(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.target = host, int(port)

    def shut(self) -> None:
        self.target = None
        self.knocks.clear()
        inside, self._inside = self._inside, []
        for each in inside:
            end(each)

    def close(self) -> None:
        self.shut()
        end(self._listening)

    def _serve(self) -> None:
        while True:
            try:
                outer, _ = self._listening.accept()
            except OSError:
                return
            self.knocks.append(time.monotonic())
            if self.target is None:
                outer.close()
                continue
            inner = socket.create_connection(self.target)
            self._inside += [outer, inner]
            for source, sink in ((outer, inner), (inner, outer)):
                threading.Thread(target=carry, args=(source, sink), daemon=True).start()


def end(sock: socket.socket) -> None:
    """Wakes who waits for it, too."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was first
    sock.close()


def carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            sink.sendall(part)
    except OSError:
        pass
    end(sink)


@contextmanager
def a_door() -> Iterator[Door]:
    door = Door()
    try:
        yield door
    finally:
        door.close()


def test_a_node_knocks_rarely_while_its_store_is_away_and_is_back_with_it(tmp_path: Path) -> None:
    with (
        a_door() as door,
        etcd_cluster(tmp_path / "etcd", 1, ["--advertise-client-urls", door.url]) as cluster,
    ):
        (member,) = cluster.members
        door.open(member.client)
        settings = ["store.engine=etcd", f"store.etcd.endpoints=['{door.url}']", "stale_after=1"]
        with running_node(tmp_path / "node", settings) as node:
            path = "/v1/services/web/i1"
            assert node.call("PUT", path, {"host": "10.0.0.1", "lease_ttl": 600})[0] == 201
            door.shut()
            begin = time.monotonic()
            while time.monotonic() < begin + AWAY:  # the API's clients do not make it knock more
                assert node.call("POST", f"{path}/heartbeat")[0] in (200, 503)
                assert node.answers("web.discovery.internal.", "A") == ["10.0.0.1"]
                threading.Event().wait(0.2)
            knocks = list(door.knocks)
            print(f"{len(knocks)} attempts in {AWAY:.0f} s")
            assert 3 <= len(knocks) <= AWAY * A_SECOND
            assert knocks[-1] > begin + AWAY - 6  # it has not given up
            door.open(member.client)
            wait_for(lambda: node.call("GET", "/readyz?writes")[0] == 200, SOON, "it takes writes again")
            assert node.call("PUT", path, {"host": "10.0.0.2", "lease_ttl": 600})[0] == 200
            assert node.answers("web.discovery.internal.", "A") == ["10.0.0.2"]


def test_a_node_that_never_reached_its_store_knocks_rarely_too(tmp_path: Path) -> None:
    with a_door() as door:
        settings = ["store.engine=etcd", f"store.etcd.endpoints=['{door.url}']"]
        with running_node(tmp_path / "node", settings) as node:
            assert node.lines[-1].startswith("Started")
            door.shut()
            threading.Event().wait(AWAY / 2)
            print(f"{len(door.knocks)} attempts in {AWAY / 2:.0f} s")
            assert 2 <= len(door.knocks) <= AWAY / 2 * A_SECOND

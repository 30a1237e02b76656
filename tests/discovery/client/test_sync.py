"""The same client for threads."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from discovery.client import NotRegistered
from discovery.client.sync import Client, Registration
from tests.support.http_node import HttpNode

LONG = 30.0


def test_calls_block_and_raise() -> None:
    with HttpNode() as node, Client(node.url) as client:
        assert client.register("web", "i1", port=80).name == "i1.web.test."
        assert client.heartbeat("web", "i1").heartbeat_every == 10
        assert [each.port for each in client.instances("web")] == [80]
        assert client.services() == {"web": 1}
        assert [each.port for each in client.resolve("web", over="http")] == []  # it has no host
        client.deregister("web", "i1")
        with pytest.raises(NotRegistered):
            client.deregister("web", "i1")


def test_a_registration_beats_in_the_background() -> None:
    with HttpNode(heartbeat_every=0.02) as node:
        with Client(node.url) as client, Registration("web", "i1", client=client, port=80) as kept:
            assert kept.registered(LONG).port == 80
            node.wait_for(lambda: node.count("POST") >= 3, "no heartbeats")
        assert node.instances == {}


def test_its_check_runs_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def check() -> bool:
        threads.append(threading.current_thread())
        return True

    with HttpNode() as node:
        monkeypatch.setenv("DISCOVERY_NODE", node.url)
        with Registration("web", "i1", check=check) as kept:
            kept.registered(LONG)
    assert threading.main_thread() not in threads
    assert node.instances == {}


def test_an_interrupted_call_is_cancelled() -> None:
    with HttpNode() as node, Client(node.url) as client:
        node.hangs = True
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            node.wait_for(lambda: len(node.calls) > 0, "no call")
            signal.pthread_kill(main, signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            client.services()
        interrupting.join()
        node.hangs = False
        assert client.services() == {}


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    with HttpNode() as node:
        with Client(node.url) as client:
            client.services()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Client(node.url) as client:
                    client.register("web", "child")
                status = 0
            finally:
                os._exit(status)
        end = time.monotonic() + LONG
        waited, status = 0, 0
        while not waited:
            waited, status = os.waitpid(child, os.WNOHANG)
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
        assert status == 0
        assert ("web", "child") in node.instances

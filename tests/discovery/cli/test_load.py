"""The load against a real DNS socket and a real HTTP server: how much is sent, what is counted, what is left behind."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from discovery.cli import load as load_module
from discovery.cli.load import Bounds, ask_dns, quantiles, register
from discovery.cli.lookup import make_query
from discovery.cli.remote import Node
from discovery.errors import DiscoveryError
from tests.support.http_node import HttpNode, problem

QUESTION = make_query("web.test", "A")


def no_tell(done: int) -> None:
    pass


@contextmanager
def dns_server(answer: Callable[[bytes, int], bytes | None]) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """Answers each packet with what `answer` makes of it and its number; gives the address and what came."""
    came: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (packet := sock.recvfrom(4096))[0] != b"end":
                came.append(packet[0])
                reply = answer(packet[0], len(came))
                if reply is not None:
                    sock.sendto(reply, packet[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname(), came
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
                stop.sendto(b"end", sock.getsockname())
            thread.join()


def answered(packet: bytes, number: int) -> bytes:
    return packet[:2] + b"\x80" + (b"\x03" if number % 2 else b"\x00") + packet[4:12]


def test_so_many_questions_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "PATIENCE", 60.0)  # however slow this machine is just now
    with dns_server(answered) as (address, came):
        load = ask_dns(address, [QUESTION, make_query("db.test", "A")], Bounds(101, 60, 4), no_tell)
    assert (load.asked, len(came), len(load.latencies), load.lost) == (101, 101, 101, 0)
    assert load.outcomes == {"NXDOMAIN": 51, "NOERROR": 50}
    assert sum(b"\x03web\x04test" in packet for packet in came) == 51
    assert load.seconds > 0
    assert all(latency > 0 for latency in load.latencies)


def test_it_ends_in_time() -> None:
    with dns_server(answered) as (address, came):
        load = ask_dns(address, [QUESTION], Bounds(10_000_000, 0.05, 2), no_tell)
    assert load.asked < 10_000_000
    assert len(came) == load.asked


@pytest.mark.slow  # as what is lost has to be waited for
def test_what_is_not_answered_or_answered_otherwise_is_lost() -> None:
    wrong_id = {1: None, 2: b"\0\0\x80\0" + bytes(8), 3: b"short"}

    def some(packet: bytes, number: int) -> bytes | None:
        return wrong_id[number] if number in wrong_id else answered(packet, number)

    with dns_server(some) as (address, _):
        load = ask_dns(address, [QUESTION], Bounds(10, 60, 3), no_tell)
    assert load.asked == 10
    assert load.lost >= 3
    assert load.lost + len(load.latencies) == 10


@pytest.mark.parametrize(
    ("latencies", "found"),
    [
        ([], {}),
        ([3.0], {0.5: 3.0, 0.9: 3.0, 0.99: 3.0, 0.999: 3.0, 1.0: 3.0}),
        ([float(n) for n in range(1000, 0, -1)], {0.5: 500, 0.9: 900, 0.99: 990, 0.999: 999, 1.0: 1000}),
        ([1.0, 2.0], {0.5: 1.0, 0.9: 2.0, 0.99: 2.0, 0.999: 2.0, 1.0: 2.0}),
    ],
)
def test_quantiles_by_nearest_rank(latencies: list[float], found: dict[float, float]) -> None:
    assert quantiles(latencies) == found


class TestRegister:
    def load(self, node: HttpNode, bounds: Bounds) -> tuple[int, int]:
        async def run() -> tuple[int, int]:
            async with Node(node.url, None) as at:
                found = await register(at, "bench", bounds, no_tell)
                return found.asked, found.lost

        return asyncio.run(run())

    @pytest.fixture
    def node(self) -> Iterator[HttpNode]:
        with HttpNode() as node:
            node.answers["POST", "/v1/leases"] = {"id": "6a", "ttl": 70, "expires_at": "x"}
            node.answers["DELETE", "/v1/leases/6a"] = {}
            yield node

    def test_all_hang_on_a_lease_that_is_revoked(self, node: HttpNode) -> None:
        assert self.load(node, Bounds(25, 60, 4)) == (25, 0)
        assert node.count("PUT") == 25
        assert {one["lease"] for one in node.instances.values()} == {"6a"}
        assert node.calls[-1] == ("DELETE", "/v1/leases/6a")

    def test_a_refusal_is_counted_and_the_lease_revoked_all_the_same(self, node: HttpNode) -> None:
        node.refusals.append(("PUT", problem(503, "the store is away")))
        assert self.load(node, Bounds(25, 60, 1)) == (25, 1)
        assert node.calls[-1] == ("DELETE", "/v1/leases/6a")

    def test_where_nothing_works_it_gives_up(self, node: HttpNode) -> None:
        node.refusals += [("PUT", problem(403, "not yours")) for _ in range(100)]
        asked, lost = self.load(node, Bounds(100, 60, 2))
        assert asked == lost
        assert asked < 10
        assert node.calls[-1] == ("DELETE", "/v1/leases/6a")

    def test_without_a_lease_there_is_no_load(self, node: HttpNode) -> None:
        node.refusals.append(("POST", problem(403, "not yours")))
        with pytest.raises(DiscoveryError, match="not yours"):
            self.load(node, Bounds(100, 60, 2))
        assert node.count("PUT") == 0

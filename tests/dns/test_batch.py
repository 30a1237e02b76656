"""Batches of datagrams on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec

import pytest

from discovery.dns.batch import MAX_DATAGRAM, SLOTS, Batch, CompiledBatch, PythonBatch


class Pair:
    """A server's socket with its batch, and clients of it."""

    def __init__(
        self,
        stack: ExitStack,
        kind: Callable[[socket.socket], Batch],
        family: socket.AddressFamily,
        host: str,
    ) -> None:
        self._stack = stack
        self._host = host
        self.family = family
        self.server = self._socket()
        self.server.setblocking(False)
        self.batch: Batch = kind(self.server)

    def _socket(self) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(self.family, socket.SOCK_DGRAM))
        sock.bind((self._host, 0))
        sock.settimeout(5)
        return sock

    def client(self) -> socket.socket:
        sock = self._socket()
        sock.connect(self.server.getsockname())
        return sock


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"])
def address(request: pytest.FixtureRequest) -> tuple[socket.AddressFamily, str]:
    family, host = request.param
    return family, host


COMPILED = pytest.param(
    CompiledBatch,
    marks=pytest.mark.skipif(find_spec("discovery.dns._fast") is None, reason="the run is for Python alone"),
)


@pytest.fixture(params=[PythonBatch, COMPILED])
def pair(request: pytest.FixtureRequest, address: tuple[socket.AddressFamily, str]) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack, request.param, *address)


def test_nothing_has_come(pair: Pair) -> None:
    assert pair.batch.receive() == ([], [])
    assert pair.batch.send([]) == 0


def test_each_gets_its_own_answer_and_who_has_none_nothing(pair: Pair) -> None:
    clients = [pair.client() for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(b"question %d" % number)
    packets, addresses = pair.batch.receive()
    assert packets == [b"question %d" % number for number in range(5)]
    assert addresses == [socket.inet_pton(pair.family, client.getsockname()[0]) for client in clients]
    assert [pair.batch.client(number) for number in range(5)] == [client.getsockname() for client in clients]
    assert pair.batch.send([None, b"one", b"the second", None, b"4" * 1000]) == 0
    assert [clients[number].recv(4096) for number in (1, 2, 4)] == [b"one", b"the second", b"4" * 1000]
    clients[0].send(b"again")  # a shorter one where a longer was
    assert pair.batch.receive()[0] == [b"again"]
    assert pair.batch.send([b"first"]) == 0
    assert clients[0].recv(4096) == b"first"
    clients[3].setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[3].recv(4096)


def test_what_is_more_than_a_batch_waits_for_the_next(pair: Pair) -> None:
    client = pair.client()
    for number in range(SLOTS + 3):
        client.send(b"%d" % number)
    first, second = pair.batch.receive()[0], pair.batch.receive()[0]
    assert [*first, *second] == [b"%d" % number for number in range(SLOTS + 3)]
    assert (len(first), pair.batch.receive()) == (SLOTS, ([], []))


def test_sizes_from_nothing_to_the_largest(pair: Pair) -> None:
    client = pair.client()
    client.send(b"")
    client.send(b"x" * MAX_DATAGRAM)
    client.send(b"y" * (MAX_DATAGRAM + 1))
    assert pair.batch.receive()[0] == [b"", b"x" * MAX_DATAGRAM, b"y" * MAX_DATAGRAM]
    assert pair.batch.send([b"", b"a" * MAX_DATAGRAM, b"z"]) == 0
    assert [client.recv(8192) for _ in range(3)] == [b"", b"a" * MAX_DATAGRAM, b"z"]


def test_what_the_kernel_does_not_take_is_counted_one_by_one(pair: Pair) -> None:
    client = pair.client()
    for _ in range(3):
        client.send(b"x")
    assert len(pair.batch.receive()[0]) == 3
    pair.server.close()
    assert pair.batch.send([b"1", None, b"3"]) == 2

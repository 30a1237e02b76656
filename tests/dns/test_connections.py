"""How many connections there may be, and which of them end."""

from __future__ import annotations

import socket

from discovery.dns.connections import IDLE, PAUSE, TOTAL, Connections


class Stream:
    """A connection that only remembers what became of it."""

    def __init__(self, connections: Connections, now: float, host: str = "192.0.2.1") -> None:
        self.connections = connections
        self.active = self.opened = now
        self.client = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        self.end = ""

    def close(self) -> None:
        self.end = "closed"
        self.connections.remove(self)

    def abort(self) -> None:
        self.end = "aborted"
        self.connections.remove(self)


def test_places_of_a_client_come_back() -> None:
    connections = Connections(max_per_client=2)
    streams = [Stream(connections, 0.0) for _ in range(3)]
    assert [connections.admit(stream, 0.0) for stream in streams] == [True, True, False]
    assert connections.admit(Stream(connections, 0.0, "192.0.2.2"), 0.0)
    connections.remove(streams[2])  # was never held
    connections.remove(streams[0])
    connections.remove(streams[0])
    assert connections.admit(streams[2], 0.0)
    assert not connections.admit(Stream(connections, 0.0), 0.0)
    assert len(connections) == 3


def test_ipv6_clients_are_counted_by_56_bits() -> None:
    connections = Connections(max_per_client=1)
    assert connections.admit(Stream(connections, 0.0, "2001:db8:0:1::1"), 0.0)
    assert not connections.admit(Stream(connections, 0.0, "2001:db8:0:2::1"), 0.0)
    assert connections.admit(Stream(connections, 0.0, "2001:db8:0:100::1"), 0.0)


def test_ipv4_clients_of_an_ipv6_socket_are_counted_one_by_one() -> None:
    connections = Connections(max_per_client=1)
    assert connections.admit(Stream(connections, 0.0, "::ffff:192.0.2.1"), 0.0)
    assert connections.admit(Stream(connections, 0.0, "::ffff:192.0.2.2"), 0.0)
    assert not connections.admit(Stream(connections, 0.0, "::ffff:192.0.2.1"), 0.0)
    assert not connections.admit(Stream(connections, 0.0, "192.0.2.2"), 0.0), (
        "the same client on another socket"
    )


def test_a_crowd_costs_no_more_than_a_few_when_there_is_no_room() -> None:
    looks = 0

    class Watched(Stream):
        @property
        def active(self) -> float:
            nonlocal looks
            looks += 1
            return self._active

        @active.setter
        def active(self, at: float) -> None:
            self._active = at

    connections = Connections(max_connections=1000, max_per_client=10_000)
    streams = [Watched(connections, 0.0) for _ in range(1000)]
    for stream in streams:
        assert connections.admit(stream, 0.0)
    for number in range(100):
        connections.note(streams[number], 1.0 + number / 1000)
    looks = 0
    assert not connections.admit(Stream(connections, 0.9), 0.9)
    assert connections.admit(Stream(connections, 1.1), 1.1)
    assert streams[100].end == "aborted"
    assert looks <= 4


def test_the_idlest_makes_room_but_none_that_is_busy() -> None:
    connections = Connections(max_connections=3)
    streams = [Stream(connections, float(second)) for second in range(3)]
    for stream in streams:
        assert connections.admit(stream, 2.0)
    connections.note(streams[0], 2.0)
    new = Stream(connections, 2.0 + PAUSE)
    assert connections.admit(new, 2.0 + PAUSE)
    assert [stream.end for stream in streams] == ["", "aborted", ""]
    for stream in (*streams, new):
        connections.note(stream, 4.0)
    assert not connections.admit(Stream(connections, 4.0), 4.0)
    assert len(connections) == 3


def test_what_is_idle_or_old_ends() -> None:
    connections = Connections()
    idle, busy, old = (Stream(connections, 0.0) for _ in range(3))
    for stream in (idle, busy, old):
        connections.admit(stream, 0.0)
    connections.note(busy, IDLE)
    connections.note(old, IDLE)
    connections.sweep(IDLE + 0.1)
    assert [stream.end for stream in (idle, busy, old)] == ["aborted", "", ""]
    connections.note(old, TOTAL + 8.5)
    connections.note(busy, TOTAL + 10.0)
    connections.sweep(TOTAL + 10.0)
    assert [stream.end for stream in (busy, old)] == ["", "closed"]
    connections.note(busy, 2 * TOTAL + 1)
    connections.sweep(2 * TOTAL + 1)
    assert busy.end == "aborted"
    assert len(connections) == 0

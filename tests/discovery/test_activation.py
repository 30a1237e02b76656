"""Sockets that whoever starts us has opened: real descriptors, numbered one after the other."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from discovery.activation import Given, take
from discovery.errors import ConfigError

AT = 700  # numbers that nothing else in this process has


@pytest.fixture
def numbers() -> Iterator[list[int]]:
    """Closes what a test left open."""
    given: list[int] = []
    yield given
    for number in given:
        try:
            os.close(number)
        except OSError:  # closed with the socket that took it over
            continue


def stream(*, listens: bool = True, family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET:
        sock.bind(("127.0.0.1", 0))
    if listens:
        sock.listen()
    return sock


def datagram() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def hand_over(numbers: list[int], *sockets: socket.socket) -> None:
    for place, sock in enumerate(sockets):
        with sock:
            numbers.append(fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, AT + place))
        assert numbers[-1] == AT + place


def environment(count: object, names: str = "", pid: int = 1) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_PID": str(pid), "LISTEN_FDNAMES": names, "OTHER": "x"}


def close(given: Given) -> None:
    for sockets in given:
        for sock in sockets:
            sock.close()


def test_sockets_go_where_their_names_and_types_say(numbers: list[int]) -> None:
    hand_over(numbers, datagram(), stream(), stream(), stream())
    environ = environment(4, "dns:dns:tls:http")
    given = take(environ, 1, AT)
    assert environ == {"OTHER": "x"}
    assert [[sock.fileno() for sock in sockets] for sockets in given] == [[AT], [AT + 1], [AT + 2], [AT + 3]]
    for sockets in given:
        assert not sockets[0].getblocking()
        assert not os.get_inheritable(sockets[0].fileno())
    close(given)


def test_without_names_all_are_dns(numbers: list[int]) -> None:
    hand_over(numbers, datagram(), stream())
    given = take({"LISTEN_FDS": "2", "LISTEN_PID": "1"}, 1, AT)
    assert (len(given.udp), len(given.tcp)) == (1, 1)
    close(given)


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "1"}, environment(1, pid=2), {"LISTEN_FDS": "1"}])
def test_what_is_meant_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    assert take(environ, 1, AT) == Given()


@pytest.mark.parametrize(
    ("sockets", "environ", "said"),
    [
        ([], environment("x"), "LISTEN_FDS: expected a number"),
        ([], environment(2, "dns"), "LISTEN_FDNAMES: expected 2 names"),
        ([], environment(1), "is not open"),
        ([stream], environment(1, "web.socket"), "FileDescriptorName= to one of dns, tls, http"),
        ([datagram], environment(1, "http"), "of a wrong type; http wants ListenStream="),
        ([lambda: stream(listens=False)], environment(1), "does not listen"),
        ([lambda: stream(family=socket.AF_UNIX, listens=False)], environment(1), "no Internet socket"),
    ],
)
def test_what_cannot_be_served_is_said(
    numbers: list[int], sockets: list[type], environ: dict[str, str], said: str
) -> None:
    hand_over(numbers, *(make() for make in sockets))
    with pytest.raises(ConfigError, match=said):
        take(dict(environ), 1, AT)

"""discovery.sockets: bound sockets, and what is said when they cannot be."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from discovery import sockets
from discovery.activation import Given
from discovery.config import Config
from discovery.errors import ConfigError
from discovery.settings import HttpConfig
from discovery.sockets import bind_all, bind_dns, bind_tcp, interface_addresses, local_addresses, share


def test_udp_and_tcp_share_one_port() -> None:
    (udp,), tcp = bind_dns("127.0.0.1:0")
    with udp, tcp:
        assert udp.getsockname() == tcp.getsockname()
        assert not udp.getblocking()
        with socket.create_connection(tcp.getsockname()):
            pass


def test_ipv6_is_bound_for_itself() -> None:
    (udp,), tcp = bind_dns("[::1]:0")
    with udp, tcp:
        assert udp.getsockname()[0] == "::1"
        assert udp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_answers_are_never_cut_into_fragments_because_somebody_says_that_the_path_is_narrow() -> None:
    """What the DNS flag day of 2020 asks for: no path MTU discovery on answers, which a forged message could lower."""
    for host, level, option in (("127.0.0.1", socket.IPPROTO_IP, 10), ("[::1]", socket.IPPROTO_IPV6, 23)):
        (udp,), tcp = bind_dns(f"{host}:0")
        with udp, tcp:
            assert udp.getsockopt(level, option) == 5  # IP_MTU_DISCOVER, IP_PMTUDISC_OMIT


@contextmanager
def taken_port(kind: socket.SocketKind) -> Iterator[socket.socket]:
    """A socket bound on loopback whose port nobody has with the other protocol, on any address."""
    other = socket.SOCK_STREAM if kind == socket.SOCK_DGRAM else socket.SOCK_DGRAM
    for _ in range(100):
        with socket.socket(socket.AF_INET, kind) as taken, socket.socket(socket.AF_INET, other) as probe:
            if kind == socket.SOCK_DGRAM:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            taken.bind(("127.0.0.1", 0))
            try:
                probe.bind(("0.0.0.0", taken.getsockname()[1]))
            except OSError:
                continue
            probe.close()
            yield taken
            return
    raise AssertionError("no port is free with both protocols")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_taken_port_is_named_with_its_protocol(kind: socket.SocketKind) -> None:
    with taken_port(kind) as taken:
        if kind == socket.SOCK_STREAM:
            taken.listen()
        text = f"127.0.0.1:{taken.getsockname()[1]}"
        protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        with pytest.raises(ConfigError, match=rf"dns\.listen: {text} \({protocol}\) is in use"):
            bind_dns(text)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        bind_tcp("192.0.2.1:0", "http.listen")
    with pytest.raises(ConfigError, match=r"http\.listen: no\.such\.host\.invalid:0"):
        bind_tcp("no.such.host.invalid:0", "http.listen")


def test_local_addresses_are_addresses() -> None:
    for text in local_addresses():
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


# ---------------------------------------------------------------- wildcard addresses


@pytest.mark.parametrize(("host", "family"), [("0.0.0.0", socket.AF_INET), ("[::]", socket.AF_INET6)])
def test_a_wildcard_is_a_socket_for_each_local_address_and_one_for_the_rest(host: str, family: int) -> None:
    udp, tcp = bind_dns(f"{host}:0")
    with tcp:
        port = tcp.getsockname()[1]
        bound = [sock.getsockname()[:2] for sock in udp]
        for sock in udp:
            sock.close()
    loopback = "127.0.0.1" if family == socket.AF_INET else "::1"
    assert loopback in interface_addresses(family)
    assert bound == [(each, port) for each in (*interface_addresses(family), host.strip("[]"))]


def test_an_address_that_is_not_usable_yet_is_left_to_the_wildcards_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an IPv6 address while the network is asked whether somebody has it already."""
    monkeypatch.setattr(sockets, "interface_addresses", lambda family: ["127.0.0.1", "198.51.100.77"])
    udp, tcp = bind_dns("0.0.0.0:0")
    with tcp:
        assert [sock.getsockname()[0] for sock in udp] == ["127.0.0.1", "0.0.0.0"]
    for sock in udp:
        sock.close()


def test_a_port_that_another_has_on_one_address_is_refused_for_all() -> None:
    with taken_port(socket.SOCK_DGRAM) as taken:
        text = f"0.0.0.0:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"{text} \(UDP\) is in use"):
            bind_dns(text)


def test_a_second_node_cannot_take_a_wildcards_port() -> None:
    udp, tcp = bind_dns("0.0.0.0:0")
    port = tcp.getsockname()[1]
    tcp.close()
    with pytest.raises(ConfigError, match="is in use"):
        bind_dns(f"0.0.0.0:{port}")
    with pytest.raises(ConfigError, match="is in use"):
        bind_dns(f"127.0.0.1:{port}")
    for sock in udp:
        sock.close()


def test_interface_addresses_leave_out_those_of_one_link() -> None:
    assert not any(each.startswith("fe80") for each in interface_addresses(socket.AF_INET6))


# ---------------------------------------------------------------- one address for several workers


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_a_shared_address_gives_every_socket_its_clients_and_is_still_taken(address: str) -> None:
    (udp,), tcp = bind_dns(address)
    shared = share(udp, 3)
    try:
        assert len({sock.getsockname() for sock in shared}) == 1
        assert not any(sock.getblocking() for sock in shared)
        for _ in range(100):
            with socket.socket(udp.family, socket.SOCK_DGRAM) as client:
                client.sendto(b"x", udp.getsockname())
        for sock in shared:
            assert sock.recv(9) == b"x"
        host, port = udp.getsockname()[:2]
        with pytest.raises(ConfigError, match="is in use"):
            bind_dns(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    finally:
        for sock in (*shared, tcp):
            sock.close()


def test_an_address_that_cannot_be_shared_has_one_socket() -> None:
    """As one that another user's program has bound for us; here, what stands in the way is a socket of its own."""
    (udp,), tcp = bind_dns("127.0.0.1:0")
    with tcp, udp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(udp.getsockname())
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        assert share(udp, 3) == [udp]
        assert udp.fileno() >= 0


# ---------------------------------------------------------------- sockets that were given


def listening(host: str) -> socket.socket:
    return socket.create_server((host, 0))


def test_sockets_that_were_given_stand_in_for_the_settings() -> None:
    config = Config(http=HttpConfig(listen=("127.0.0.1:0",)))
    udp, tcp = bind_dns("127.0.0.1:0")
    bound = bind_all(config, Given(udp=tuple(udp), tcp=(tcp,)))
    assert (bound.udp, bound.tcp) == (tuple(udp), (tcp,))
    for sock in (*bound.udp, *bound.tcp, *bound.http):
        assert sock.fileno() >= 0
        sock.close()


def test_an_http_socket_beyond_loopback_needs_the_same_leave_as_a_setting() -> None:
    with listening("0.0.0.0") as given, pytest.raises(ConfigError, match=r"http\.open: true"):
        bind_all(Config(), Given(http=(given,)))
    assert given.fileno() < 0  # nothing is left open


def test_dns_over_one_transport_alone_is_said(caplog: pytest.LogCaptureFixture) -> None:
    config = Config(http=HttpConfig(listen=("127.0.0.1:0",)))
    bound = bind_all(config, Given(tcp=(listening("127.0.0.1"),)))
    for sock in (*bound.tcp, *bound.http):
        sock.close()
    assert bound.udp == ()
    assert "no UDP socket" in caplog.text

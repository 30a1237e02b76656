"""discovery.sockets: bound sockets, and what is said when they cannot be."""

from __future__ import annotations

import socket

import pytest

from discovery.errors import ConfigError
from discovery.sockets import bind_dns, bind_tcp, local_addresses


def test_udp_and_tcp_share_one_port() -> None:
    udp, tcp = bind_dns("127.0.0.1:0")
    with udp, tcp:
        assert udp.getsockname() == tcp.getsockname()
        assert not udp.getblocking()
        with socket.create_connection(tcp.getsockname()):
            pass


def test_ipv6_is_bound_for_itself() -> None:
    udp, tcp = bind_dns("[::1]:0")
    with udp, tcp:
        assert udp.getsockname()[0] == "::1"
        assert udp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_taken_port_is_named_with_its_protocol(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
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

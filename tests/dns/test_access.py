"""Who may ask."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest

from discovery.dns.access import REMEMBERED, Access


def packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


@pytest.mark.parametrize(
    ("allow", "deny", "client", "permitted"),
    [
        ([], [], "192.0.2.1", True),
        (["192.0.2.0/24"], [], "192.0.2.1", True),
        (["192.0.2.0/24"], [], "192.0.3.1", False),
        (["192.0.2.0/24"], [], "2001:db8::1", False),
        (["2001:db8::/32"], [], "2001:db8::1", True),
        (["192.0.2.0/24"], [], "::ffff:192.0.2.1", True),
        ([], ["192.0.2.0/25"], "192.0.2.1", False),
        ([], ["192.0.2.0/25"], "192.0.2.129", True),
        (["192.0.2.0/24"], ["192.0.2.1/32"], "192.0.2.1", False),
        (["192.0.2.1/32"], ["192.0.2.0/24"], "192.0.2.1", False),
        (["192.0.2.0/24"], [], "127.0.0.1", False),
    ],
)
def test_deny_wins_over_allow_and_an_empty_allow_is_everybody(
    allow: list[str], deny: list[str], client: str, permitted: bool
) -> None:
    access = Access([ip_network(each) for each in allow], [ip_network(each) for each in deny])
    assert access.permits(packed(client)) is permitted
    assert access.permits(packed(client)) is permitted
    assert access.is_open is (not allow and not deny)


def test_what_is_remembered_of_clients_is_bounded() -> None:
    access = Access([], [ip_network("10.0.0.0/9")])
    for number in range(REMEMBERED + 10):
        assert not access.permits((10 << 24 | number).to_bytes(4, "big"))
    assert len(access._known) == 10

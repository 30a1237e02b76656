"""DNS cookies in a cluster: what one node gives, every other one accepts."""

from __future__ import annotations

from pathlib import Path

import dns.edns
import dns.message
import dns.query
import pytest

from tests.support.etcd import etcd_cluster
from tests.support.node import RunningNode, running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def asked(node: RunningNode, cookie: bytes) -> dns.message.Message:
    """A query for a cookie alone (RFC 7873 section 5.4): BADCOOKIE where the one that is sent is not good."""
    query = dns.message.make_query("discovery.internal.", "SOA")
    query.question = []
    query.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)])
    return dns.query.udp(query, "127.0.0.1", port=node.dns_port, timeout=5)


def given(node: RunningNode) -> bytes:
    """The cookie that the node gives; b"" before it has read the secret."""
    options = asked(node, b"12345678").options
    return (options[0].to_wire() or b"") if options else b""


def test_a_cookie_of_one_node_is_good_at_another_and_after_a_restart(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd", 1) as cluster:
        settings = ["store.engine=etcd", f"store.etcd.endpoints={cluster.endpoints}"]
        with (
            running_node(tmp_path / "a", [*settings, "node.name=a"]) as first,
            running_node(tmp_path / "b", [*settings, "node.name=b"]) as second,
        ):
            for node in (first, second):
                wait_for(lambda node=node: bool(given(node)), 60, "a cookie")  # type: ignore[misc]
            cookie = given(first)
            assert asked(second, cookie).rcode() == 0
            assert asked(first, given(second)).rcode() == 0
            assert asked(second, cookie[:-1] + bytes((cookie[-1] ^ 1,))).rcode() == 23
        with running_node(tmp_path / "a", [*settings, "node.name=a"]) as again:
            wait_for(lambda: bool(given(again)), 60, "a cookie")
            assert asked(again, cookie).rcode() == 0

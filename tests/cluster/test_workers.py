"""Workers of nodes over etcd: foreign leases, live nodes, and a store that goes away."""

from __future__ import annotations

from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest

from tests.support.etcd import etcd_cluster
from tests.support.node import RunningNode, running_node, wait_for
from tests.support.workers import PORTS, is_replaced, kill

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ZONE = "discovery.internal."
NAME = "web.prod." + ZONE
KEY = "/skydns/internal/discovery/prod/web/i1"


def said(node: RunningNode, name: str = NAME, rtype: str = "A") -> set[str]:
    """What the workers say: answers with their TTL, or the response code, and extended errors."""
    found = set()
    for _ in range(PORTS):
        reply = node.ask(name, rtype)
        errors = [int(each.code) for each in reply.options if isinstance(each, dns.edns.EDEOption)]
        answers = sorted(f"{rrset.ttl} {item}" for rrset in reply.answer for item in rrset)
        found.add(f"{' '.join(answers) or dns.rcode.to_text(reply.rcode())} {errors}")
    return found


def test_workers_know_what_their_node_knows_of_the_cluster(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd", 1) as cluster:
        (member,) = cluster.members
        settings = [
            "store.engine=etcd",
            f"store.etcd.endpoints={cluster.endpoints}",
            "dns.workers=2",
            "stale_after=1",
        ]
        first = [*settings, "node.name=a"]
        with running_node(tmp_path / "a", first) as node:
            lease = cluster.ctl("lease", "grant", "90").split()[1]
            cluster.put(KEY, '{"host": "10.0.0.1", "ttl": 3600}', f"--lease={lease}")
            wait_for(lambda: said(node) == {"90 10.0.0.1 []"}, 60, "the lease's TTL is known to all")
            with running_node(tmp_path / "b", [*settings, "node.name=b"]):
                both = f"5 a.ns.dns.{ZONE} 5 b.ns.dns.{ZONE} []"
                wait_for(lambda: said(node, ZONE, "NS") == {both}, 60, "two name servers")
                killed = kill(node, 0)
                wait_for(lambda: is_replaced(node, killed), 60, "both serve")
                assert said(node) == {"90 10.0.0.1 []"}
                assert said(node, ZONE, "NS") == {both}
            member.kill()
            wait_for(lambda: said(node) == {"30 10.0.0.1 [3]"}, 60, "stale")
            killed = kill(node, 1)
            wait_for(lambda: is_replaced(node, killed), 60, "both serve")
            assert said(node) == {"30 10.0.0.1 [3]"}
        with running_node(tmp_path / "a", first) as node:
            assert said(node) == {"5 10.0.0.1 [3]"}  # from the view that was kept, without the leases' TTLs
            member.start()
            member.until_healthy()
            wait_for(lambda: said(node) == {"90 10.0.0.1 []"}, 60, "no longer stale")
        member.kill()
        with running_node(tmp_path / "new", settings) as node:  # it never had one
            assert said(node) == {"SERVFAIL [14]"}
            member.start()
            wait_for(lambda: said(node) == {"90 10.0.0.1 []"}, 60, "loaded")

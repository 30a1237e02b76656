"""Three nodes with the very settings of the compose file and of the Kubernetes manifests, on hosts of their own.

Addresses change when one is made anew, as a pod's do; its name stays.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from tests.support.deployed import Container, Deployed, composed, manifest, pods
from tests.support.network import network
from tests.support.node import ROOT, run_discovery, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.e2e]

PAGE = (ROOT / "deploy" / "kubernetes.md").read_text()
LIMIT = 180.0  # seconds for a cluster to stand, on a busy machine


@contextmanager
def deployed(
    containers: Sequence[Container],
    folder: Path,
    more: Mapping[str, int] | None = None,
    certs: Path | None = None,
) -> Iterator[tuple[list[Deployed], dict[str, str]]]:
    """Each on a host, and what each name stands for; `more`: further names, with the number of the host of each."""
    with network([each.name for each in containers]) as hosts:
        each_host = [hosts.hosts[each.name] for each in containers]
        names = {each.hostname: host.address for each, host in zip(containers, each_host, strict=True)}
        names |= {name: each_host[number].address for name, number in (more or {}).items()}
        made = [
            Deployed(each, host, names, folder, certs)
            for each, host in zip(containers, each_host, strict=True)
        ]
        try:
            yield made, names
        finally:
            for node in made:
                node.leave()
            for node in made:
                node.stop()
            for node in made:
                assert "Traceback" not in node.log.read_text(), node.log.read_text()


def answers(node: Deployed, name: str, rtype: str) -> list[str]:
    try:
        answer = dns.query.udp(dns.message.make_query(name, rtype), node.host.address, port=1053, timeout=3)
    except (OSError, dns.exception.Timeout):
        return []
    return sorted(item.to_text() for rrset in answer.answer for item in rrset)


def until(condition: object, what: str, nodes: Sequence[Deployed]) -> None:
    try:
        wait_for(condition, LIMIT, what)  # type: ignore[arg-type]
    except AssertionError as error:
        logs = "\n".join(f"== {node.name}\n{node.log.read_text()[-3000:]}" for node in nodes)
        raise AssertionError(f"{error}\n{logs}") from None


def put(node: Deployed, service: str, host: str, token: str = "") -> None:
    request = urllib.request.Request(
        f"http://{node.host.address}:8053/v1/services/{service}/i1",
        json.dumps({"host": host, "lease_ttl": 3600}).encode(),
        {"Authorization": f"Bearer {token}"} if token else {},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status in (200, 201)


def well(node: Deployed, *arguments: str) -> bool:
    return node.run("cluster", "status", *arguments).returncode == 0


def test_the_compose_files_three_nodes_are_a_cluster(tmp_path: Path) -> None:
    with deployed(composed(), tmp_path) as (nodes, _):
        for node in nodes:
            node.start()
        until(lambda: all(node.status("/readyz?writes") == 200 for node in nodes), "all take writes", nodes)
        until(
            lambda: well(nodes[0]), "`discovery cluster status`, as docker.md has it, finds all well", nodes
        )
        put(nodes[0], "web.prod", "192.0.2.1")
        for node in nodes:
            until(
                lambda node=node: answers(node, "web.prod.discovery.internal", "A") == ["192.0.2.1"],
                "each answers",
                nodes,
            )
        names = [f"n{number}.ns.dns.discovery.internal." for number in (1, 2, 3)]
        until(lambda: answers(nodes[2], "discovery.internal", "NS") == names, "all are name servers", nodes)


def prepared(folder: Path) -> tuple[Path, str, str]:
    """The page's first block, typed: the certificates, the token and what lets it in."""
    block = re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)[0].replace("\\\n", " ")
    certs_line, token_line = re.findall(r"^\$ discovery (.*)$", block, re.M)
    certs = folder / "certs"
    words = [word.replace("./certs", str(certs)) for word in shlex.split(certs_line)]
    done = run_discovery(*words, timeout=60)
    assert done.returncode == 0, done.stderr
    words = shlex.split(token_line)
    assert words[-2:] == [">", "admin.token"]
    done = run_discovery(*words[:-2])
    (folder / "admin.token").write_text(done.stdout)
    (listed,) = re.findall(r'(\["operate sha256:[0-9a-f]{64}"\])', done.stderr)
    return certs, done.stdout.strip(), listed


def test_the_pods_are_a_cluster_over_tls_and_one_that_lost_its_volume_comes_in_anew(tmp_path: Path) -> None:
    certs, token, listed = prepared(tmp_path)
    (certs / "ca-key.pem").unlink()  # it is not in the Secret
    file = ["--token-file", str(tmp_path / "admin.token")]
    store = f"{manifest('Service', 'discovery-store')['metadata']['name']}.discovery.svc.cluster.local"
    with deployed(pods({"discovery-tokens/tokens": listed}), tmp_path, {store: 0}, certs) as (nodes, names):
        for node in nodes:
            node.start()
        (container,) = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
        ready = container["readinessProbe"]["httpGet"]["path"]
        assert [container[f"{each}Probe"]["httpGet"]["path"] for each in ("startup", "liveness")] == [
            "/healthz"
        ] * 2
        until(lambda: all(node.status(ready) == 200 for node in nodes), "all are ready", nodes)
        assert nodes[0].status("/v1/services") == 401
        until(lambda: well(nodes[0], *file), "`discovery cluster status` finds all well", nodes)
        put(nodes[1], "web.prod", "192.0.2.1", token)
        last = nodes[2]
        until(lambda: answers(last, "web.prod.discovery.internal", "A") == ["192.0.2.1"], "it answers", nodes)

        # Its volume is lost: it says so, and joins with the line that the ConfigMap has ready.
        last.stop()
        shutil.rmtree(last.store)
        last.start()
        until(lambda: not last.runs, "it does not start", nodes)
        assert "set store.member.join" in last.log.read_text()
        settings = (last.folder / "discovery.yaml").read_text()
        listed_members = re.findall(r"^ *initial_cluster:\n(?: +discovery-\d: .*\n)+", settings, re.M)[0]
        (join,) = re.findall(r"^( +)# (join: .*)$", settings, re.M)
        for node in nodes:
            node.configure({listed_members: f"{''.join(join)}\n"})
        last.start()
        until(lambda: last.status("/readyz?writes") == 200, "it came in anew", nodes)
        until(lambda: answers(last, "web.prod.discovery.internal", "A") == ["192.0.2.1"], "it answers", nodes)
        until(lambda: well(nodes[0], *file), "all is well", nodes)

        # The others go on with the same ConfigMap, each with the data it has; one that is made anew at another address.
        moved = nodes[1]
        moved.stop()
        moved.host.moves(101)
        names[moved.hostname] = moved.host.address
        for node in nodes:
            node.knows(names)
        moved.start()
        until(lambda: moved.status("/readyz?writes") == 200, "it goes on at its new address", nodes)
        until(lambda: well(nodes[0], *file), "all is well", nodes)
        members = json.loads(nodes[0].run("cluster", "status", "--json", *file).stdout)["store"]["members"]
        kept = sorted(member["name"] for member in members)
        assert kept[:2] == ["discovery-0", "discovery-1"]
        assert kept[2].startswith("discovery-2-")
        # And the others need it: without the first the two at new places are the quorum.
        nodes[0].stop()
        until(lambda: moved.status("/readyz?writes") == 200, "two are a quorum", nodes)
        put(last, "late.prod", "192.0.2.2", token)
        until(lambda: answers(moved, "late.prod.discovery.internal", "A") == ["192.0.2.2"], "told", nodes)

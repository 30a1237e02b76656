"""dig, kdig and delv against a whole node: what they say of its answers, and that they complain of nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.node import RunningNode, running_node

pytestmark = pytest.mark.e2e
NAME = "web.discovery.internal."
COMPLAINTS = re.compile(
    "warning|malformed|mismatch|unexpected|error:|bad cookie|\\(bad\\)|extra bytes|not authoritative", re.I
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("programs") / "s", ["node.name=n1"]) as running:
        for number in range(1, 101):
            body = {"host": f"10.0.0.{number}", "port": 80}
            assert running.call("PUT", f"/v1/services/web/i{number}", body)[0] == 201
        yield running


def told(node: RunningNode, program: str, *arguments: str) -> str:
    command = [program, "@127.0.0.1", "-p", str(node.dns_port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done
    said = (done.stdout + done.stderr).replace(";; WARNING: recursion requested but not available", "")
    assert not COMPLAINTS.search(said), said
    return done.stdout


def test_dig_as_it_is_sends_a_cookie_and_finds_ours_good(node: RunningNode) -> None:
    said = told(node, "dig", "i1." + NAME, "A", "+tries=1")
    assert "status: NOERROR" in said
    assert re.search(r"flags: qr aa rd; QUERY: 1, ANSWER: 1", said)
    assert re.search(r"; COOKIE: [0-9a-f]{48} \(good\)", said), said
    assert re.search(r"EDNS: version: 0, flags:; udp: 1232", said)


def test_dig_goes_over_to_tcp_for_what_is_truncated(node: RunningNode) -> None:
    said = told(node, "dig", NAME, "SRV", "+tries=1")
    assert "ANSWER: 100" in said
    assert re.search(r"SERVER: .*\(TCP\)", said)
    said = told(node, "dig", NAME, "SRV", "+ignore", "+tries=1")
    assert re.search(r"flags: qr aa tc rd", said)


def test_dig_nsid_dnssec_and_many_questions_on_one_connection(node: RunningNode) -> None:
    assert 'NSID: 6e 31 ("n1")' in told(node, "dig", NAME, "SOA", "+nsid")
    assert "flags: do;" in told(node, "dig", NAME, "SOA", "+dnssec")
    said = told(node, "dig", "+tcp", "+keepopen", "i1." + NAME, "A", "i2." + NAME, "A", "+short")
    assert said.split() == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("nothing.discovery.internal.", "A"), "status: NXDOMAIN"),
        ((NAME, "ANY", "+notcp"), "RFC8482"),
        ((NAME, "TYPE65280"), "ANSWER: 0, AUTHORITY: 1"),
        (("+opcode=15", "+header-only"), "opcode: RESERVED15, status: NOTIMP"),
        (("+edns=1", "+noednsneg", NAME, "SOA"), "status: BADVERS"),
        (("+ednsopt=100:abcd", "+ednsflags=0x40", NAME, "SOA"), "status: NOERROR"),
        (("+zflag", "+adflag", "+cdflag", NAME, "SOA"), "status: NOERROR"),
        (("+noedns", NAME, "SOA"), "status: NOERROR"),
        (("+subnet=10.0.0.0/8", NAME, "SOA"), "status: NOERROR"),
        (("+qid=0", NAME, "SOA"), "id: 0"),
        (("version.bind.", "CH", "TXT"), "discovery "),
        (("example.com.", "A"), "EDE: 20"),
    ],
)
def test_dig_with_all_its_options(node: RunningNode, arguments: tuple[str, ...], wanted: str) -> None:
    if wanted == "EDE: 20":
        command = ["dig", "@127.0.0.1", "-p", str(node.dns_port), *arguments]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        assert "EDE: 20 (Not Authoritative)" in said
        assert "status: REFUSED" in said
    else:
        assert wanted in told(node, "dig", "+tries=1", *arguments)


def test_kdig(node: RunningNode) -> None:
    said = told(node, "kdig", NAME, "SRV", "+cookie", "+nsid", "+bufsize=4096", "+ignore")
    assert re.search(r"Flags: qr aa tc rd; QUERY: 1", said)
    assert "NSID: 6E31" in said or "n1" in said
    assert "COOKIE:" in said
    said = told(node, "kdig", NAME, "SRV", "+tcp", "+keepopen")
    assert "ANSWER: 100" in said


def test_delv(node: RunningNode) -> None:
    """Without validation, for nobody signs these zones."""
    said = told(node, "delv", "-i", "i1." + NAME, "A")
    assert "; authoritative" in said
    assert re.search(r"i1\.web\.discovery\.internal\.\s+\d+\s+IN\s+A\s+10\.0\.0\.1", said)
    said = told(node, "delv", "-i", "nothing.discovery.internal.", "A")
    assert "NXDOMAIN" in said or "ncache nxdomain" in said

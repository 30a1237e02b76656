"""DNS over TLS from the outside: kdig and dnspython against a whole node, and certificates renewed while it runs."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support.certificates import AUTHORITY, certificate, client_context
from tests.support.node import RunningNode, run_discovery, running_node, wait_for

pytestmark = pytest.mark.e2e
SOA = "discovery.internal."


def tls_port(node: RunningNode) -> int:
    (port,) = re.findall(r"^TLS +\S+:(\d+) ", "\n".join(node.lines), re.M)
    return int(port)


def shown(port: int) -> str:
    """The serial number of the certificate."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        client_context().wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        shown = secure.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


@pytest.mark.parametrize("workers", [0, 2])
def test_kdig_and_dnspython_over_tls_and_a_renewed_certificate(tmp_path: Path, workers: int) -> None:
    files = certificate(tmp_path)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = [
        "dns.tls_listen=['127.0.0.1:0']",
        f"dns.tls.cert={files.cert}",
        f"dns.tls.key={files.key}",
        f"dns.workers={workers}",
    ]
    with running_node(tmp_path / "s", settings) as node:
        port = tls_port(node)
        kdig = [
            "kdig",
            "@127.0.0.1",
            "-p",
            str(port),
            f"+tls-ca={tmp_path}/ca.pem",
            "+tls-host=localhost",
            "+padding",
        ]
        told = subprocess.run(
            [*kdig, SOA, "SOA"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
        assert "status: NOERROR" in told
        assert "TLS session (TLS1.3)" in told
        assert re.search(r"Received 468 B", told), told
        query = dns.message.make_query(SOA, "SOA", use_edns=0)
        answer = dns.query.tls(
            query,
            "127.0.0.1",
            port=port,
            timeout=10,
            ssl_context=client_context(),
            server_hostname="localhost",
        )
        assert answer.answer
        first = shown(port)
        files.renew()
        assert shown(port) == first
        assert node.call("POST", "/v1/config/reload")[0] == 200
        second = shown(port)
        assert second != first
        files.renew()
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: shown(port) != second, 60, "the certificate after SIGHUP")
        third = shown(port)
        files.cert.write_text("no certificate")
        status, problem = node.call("POST", "/v1/config/reload")
        assert status >= 400
        assert "no certificate chain" in problem["detail"]
        assert shown(port) == third


def test_without_a_certificate_it_does_not_start(tmp_path: Path) -> None:
    sets = (f"store.path={tmp_path}/s", "dns.listen=['127.0.0.1:0']", "dns.tls_listen=['127.0.0.1:0']")
    done = run_discovery("serve", *(word for each in sets for word in ("--set", each)))
    assert done.returncode != 0
    assert "needs a certificate; set dns.tls.cert" in done.stderr


def test_version_of_tls() -> None:
    """What the tests above rest on: this machine's TLS can do 1.3."""
    assert ssl.HAS_TLSv1_3

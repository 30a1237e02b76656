"""Certificate files, and what is said of those that will not do."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.tls import ends_at, node_context, only_clients_of, server_context
from tests.support.certificates import AUTHORITY, certificate


def test_a_chain_and_its_key_in_two_files_or_one(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    context = server_context(str(files.cert), str(files.key), "dns.tls")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    both = tmp_path / "both.pem"
    both.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
    server_context(str(both), "", "dns.tls")


@pytest.mark.parametrize("end", ["2049-12-31T23:59:59", "2050-01-01T00:00:00", "2038-01-19T03:14:08"])
def test_when_a_certificate_ends(end: str) -> None:
    """RFC 5280 section 4.1.2.5: the year has two digits up to 2049."""
    when = datetime.fromisoformat(end)
    issued = AUTHORITY.issue_cert("localhost", not_after=when)
    pems = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    assert ends_at(pems) == when.replace(tzinfo=UTC).timestamp()
    assert ends_at(b"a comment\n" + pems + issued.private_key_pem.bytes()) == ends_at(pems)


def test_what_will_not_do_is_named(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    absent = tmp_path / "absent.pem"
    for cert, key, said in (
        (absent, files.key, rf"^dns\.tls\.cert: {absent} cannot be read: No such file"),
        (files.cert, absent, rf"^dns\.tls\.key: {absent} cannot be read"),
        (empty, files.key, r"^dns\.tls: .*empty.pem and .*key.pem are no certificate chain and its key"),
        (files.cert, files.cert, "are no certificate chain and its key"),
    ):
        with pytest.raises(ConfigError, match=said):
            server_context(str(cert), str(key), "dns.tls")


def test_a_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match="KEY_VALUES_MISMATCH"):
        server_context(str(files.cert), str(certificate(other).key), "dns.tls")


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    files = certificate(tmp_path)
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    )
    files.key.write_bytes(locked)
    with pytest.raises(ConfigError, match="without a password"):
        server_context(str(files.cert), str(files.key), "dns.tls")


def test_a_ca_that_will_not_do_is_named(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    context = server_context(str(files.cert), str(files.key), "http.tls")
    for ca in (tmp_path / "absent.pem", files.key):
        with pytest.raises(ConfigError, match=rf"^http\.tls\.client_ca: {ca} is no CA's certificate"):
            only_clients_of(context, str(ca), "http.tls.client_ca")
        with pytest.raises(ConfigError, match="is no CA's certificate"):
            node_context(str(files.cert), str(files.key), str(ca), "http.tls")

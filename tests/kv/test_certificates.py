"""What certificates of a cluster hold, as OpenSSL and another library see them."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from discovery.kv import certificates
from discovery.kv.certificates import AUTHORITY_LIFE, DAY, NODE_LIFE, Issued

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
CA = certificates.new_authority(NOW)


def made(*hosts: str, authority: Issued = CA) -> x509.Certificate:
    return certificates.issue(authority, "n1", hosts, NOW).certificate


def test_a_node_s_certificate_is_for_its_addresses_and_names_and_both_uses() -> None:
    node = made("10.0.0.1", "2001:DB8::1", "N1.Example.NET.")
    assert set(certificates.hosts_in(node)) == {
        *("10.0.0.1", "2001:db8::1", "n1.example.net"),
        *("localhost", "127.0.0.1", "::1"),
    }
    assert not certificates.lacks_use(node)
    assert certificates.is_issued_by([node], [CA.certificate])
    assert not node.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert node.not_valid_after_utc == NOW + NODE_LIFE
    assert node.not_valid_before_utc < NOW  # a machine whose clock is a little behind takes it


def test_an_authority_signs_and_is_nothing_else() -> None:
    extensions = CA.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert CA.certificate.not_valid_after_utc == NOW + AUTHORITY_LIFE


def test_no_certificate_outlives_its_authority() -> None:
    late = NOW + AUTHORITY_LIFE - 10 * DAY
    node = certificates.issue(CA, "n1", ["10.0.0.1"], late).certificate
    assert node.not_valid_after_utc == CA.certificate.not_valid_after_utc


def test_a_renewed_authority_stands_behind_what_the_old_one_issued() -> None:
    node = made("10.0.0.1")
    renewed = certificates.new_authority(NOW + 3600 * DAY, CA.key)
    assert certificates.is_issued_by([node], [renewed.certificate])
    assert not certificates.is_issued_by([node], [certificates.new_authority(NOW).certificate])


@pytest.mark.parametrize("host", ["", "a..b", "10.0.0.256", "n1:2380", "-a", "x" * 64, "1.2.3", "a b", "*.x"])
def test_what_is_neither_address_nor_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="expected an address or a host name"):
        certificates.wanted([host])


def test_a_chain_may_lead_to_the_authority() -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    issued = between.issue_cert("10.0.0.1")
    chain = [x509.load_pem_x509_certificate(blob.bytes()) for blob in issued.cert_chain_pems]
    authority = x509.load_pem_x509_certificate(root.cert_pem.bytes())
    assert certificates.is_issued_by(chain, [authority])
    assert not certificates.is_issued_by(chain[:1], [authority])
    assert not certificates.is_issued_by(chain, [CA.certificate])


def test_a_certificate_for_one_use_is_known() -> None:
    def with_uses(*uses: x509.ObjectIdentifier) -> x509.Certificate:
        builder = certificates._builder(
            CA.certificate.subject, CA.certificate.subject, CA.key.public_key(), NOW, NOW + DAY
        )
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(CA.key, hashes.SHA256())

    server, client = certificates.USES
    assert [
        certificates.lacks_use(with_uses(*uses)) for uses in ((), (server,), (client,), (server, client))
    ] == [
        False,
        True,
        True,
        False,
    ]


def test_openssl_reads_them(tmp_path: Path) -> None:
    issued = certificates.issue(CA, "n1", ["10.0.0.1"], NOW)
    cert, key = certificates.pem(issued)
    (tmp_path / "cert").write_bytes(cert)
    (tmp_path / "key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    assert certificates.fits(issued.certificate, issued.key)
    assert not certificates.fits(issued.certificate, CA.key)
    assert not certificates.fits(issued.certificate, "no key")

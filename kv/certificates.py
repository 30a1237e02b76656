"""Certificates of a cluster's own CA: made, renewed, and looked into.

Owns what such a certificate holds: an EC key (P-256), the addresses and names of one node, and both uses, since etcd
shows the same one to clients and to the other members. It reads and writes no file, and `now` is an argument. A CA is
renewed with the key it has, so what it issued before stays good under the new one.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
AUTHORITY_LIFE = 3650 * DAY
NODE_LIFE = 365 * DAY
BACKDATED = datetime.timedelta(hours=1)  # so that a machine whose clock is behind takes it at once
LOCAL = ("localhost", "127.0.0.1", "::1")  # every node reaches its own member so
USES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

Certificate = x509.Certificate
Key = ec.EllipticCurvePrivateKey


class Issued(NamedTuple):
    certificate: Certificate
    key: Key


def new_authority(now: datetime.datetime, key: Key | None = None) -> Issued:
    """A CA for members alone. `key`: of the CA that it renews."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Discovery cluster CA")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issued(made, key)


def issue(
    authority: Issued, name: str, hosts: Sequence[str], now: datetime.datetime, key: Key | None = None
) -> Issued:
    """For node `name` at `hosts` (addresses and host names) and at this machine's loopback. It ends with the CA.

    Raises ValueError for what is neither an address nor a host name.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = min(now + NODE_LIFE, authority.certificate.not_valid_after_utc)
    made = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(USES), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, wanted(hosts)))), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    return Issued(made, key)


def wanted(hosts: Sequence[str]) -> Sequence[str]:
    """`hosts` in one form, and loopback. Raises ValueError."""
    return list(dict.fromkeys(host_of(each) for each in (*hosts, *LOCAL)))


def host_of(text: str) -> str:
    """An address or a host name in its one form. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    label = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    folded = text.lower().removesuffix(".")
    if len(folded) > 253 or not re.fullmatch(rf"{label}(\.{label})*", folded):
        raise ValueError(f"expected an address or a host name; got {text!r}")
    if re.fullmatch(r"[0-9]+", folded.rpartition(".")[2]):
        raise ValueError(f"expected an address or a host name; got {text!r}")
    return folded


def hosts_in(certificate: Certificate) -> Sequence[str]:
    """The addresses and names it is good for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    return [*(each.lower() for each in names.get_values_for_type(x509.DNSName)), *addresses]


def lacks_use(certificate: Certificate) -> bool:
    """It is not for servers and clients both, which etcd wants of the one it shows to other members."""
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return not set(USES) <= set(uses)


def is_issued_by(chain: Sequence[Certificate], authorities: Sequence[Certificate]) -> bool:
    """Whether one of the authorities stands behind the first of the chain; the rest of the chain may lead there."""
    current, *between = chain
    for _ in chain:
        if any(_signed(current, each) for each in authorities):
            return True
        step = next((each for each in between if _signed(current, each)), None)
        if step is None:
            return False
        current = step
    return False


def fits(certificate: Certificate, key: object) -> bool:
    """Whether the private key is the certificate's."""
    public = getattr(key, "public_key", None)
    if public is None:
        return False
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    same: bool = public().public_bytes(*form) == certificate.public_key().public_bytes(*form)
    return same


def pem(issued: Issued) -> tuple[bytes, bytes]:
    """The certificate and its key, without a password: etcd has nobody to ask."""
    key = issued.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return issued.certificate.public_bytes(serialization.Encoding.PEM), key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _signed(certificate: Certificate, issuer: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True

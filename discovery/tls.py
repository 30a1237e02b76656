"""What a TLS server of ours is set up with, and a client that calls another node.

Owns turning certificate files into a context, and what can be wrong with them into one line that says what to change.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

from discovery.errors import ConfigError

_VERSION, _UTC_TIME = 0xA0, 0x17  # tags of DER


def certificate(cert: str, key: str, setting: str) -> tuple[bytes, bytes]:
    """The contents of both files, checked; the key's stands in the first where it has none. Raises ConfigError."""
    server_context(cert, key, setting)
    try:
        return Path(cert).read_bytes(), Path(key).read_bytes() if key else b""
    except OSError as error:
        raise ConfigError(
            f"{setting}: {error.filename} cannot be read: {error.strerror}", field=setting
        ) from error


def ends_at(cert: bytes) -> float:
    """When the first certificate in PEM ends: seconds since the epoch (RFC 5280 section 4.1). It has been checked."""
    text = cert.decode("ascii", "replace")
    begin, end = (text.index(f"-----{each} CERTIFICATE-----") for each in ("BEGIN", "END"))
    der = ssl.PEM_cert_to_DER_cert(f"{text[begin:end]}-----END CERTIFICATE-----\n")
    _, at, _ = _element(der, _element(der, 0)[1])  # TBSCertificate, in Certificate
    if der[at] == _VERSION:
        _, _, at = _element(der, at)
    for _ in ("serial number", "signature", "issuer"):
        _, _, at = _element(der, at)
    _, _, at = _element(der, _element(der, at)[1])  # not before, in the validity
    tag, begin, end = _element(der, at)
    written = der[begin:end].decode()
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        written = ("19" if written >= "5" else "20") + written
    return datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the DER element at `at`, and where its content begins and ends."""
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(der[at + 2 : begin], "big")
    return der[at], begin, begin + size


def context_of(cert: bytes, key: bytes) -> ssl.SSLContext:
    """The server's context from what `certificate` gave. OpenSSL reads files, so they stand in memory as such."""
    with open(os.memfd_create("cert"), "wb") as chain, open(os.memfd_create("key"), "wb") as secret:
        for file, content in ((chain, cert), (secret, key)):
            file.write(content)
            file.flush()
        path = "/proc/self/fd/{}".format
        return server_context(path(chain.fileno()), path(secret.fileno()) if key else "", "dns.tls")


def server_context(cert: str, key: str, setting: str) -> ssl.SSLContext:
    """For TLS 1.2 and later. `key` empty: it stands in the certificate's file. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in (("cert", cert), ("key", key)):
        try:
            if path:
                with open(path, "rb"):
                    pass
        except OSError as error:
            raise ConfigError(
                f"{setting}.{name}: {path} cannot be read: {error.strerror}", field=f"{setting}.{name}"
            ) from error
    try:
        context.load_cert_chain(cert, key or None, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"{setting}: {cert} and {key or cert} are no certificate chain and its key in PEM without a password: "
            f"{getattr(error, 'reason', None) or error}",
            field=setting,
        ) from error
    return context


def only_clients_of(context: ssl.SSLContext, ca: str, setting: str) -> None:
    """Makes a server take only clients whose certificate the CA in the file has signed. Raises ConfigError."""
    _trust(context, ca, setting)
    context.verify_mode = ssl.CERT_REQUIRED


class Renewable:
    """A server's context, `context`, whose connections begin with what `newest` is by then.

    Another certificate is not loaded into the first context: where its key is of another kind, that would hold both.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = self.newest = context
        context.sni_callback = self._begin  # called without a name too

    def _begin(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self.newest


def node_context(cert: str, key: str, ca: str, setting: str) -> ssl.SSLContext:
    """A client that shows this node's certificate to other nodes, and trusts the system's CAs, `ca` ("": none), and
    whoever `cert` ends with. Raises ConfigError."""
    context = ssl.create_default_context()
    for file in (ca, cert):
        if file:
            _trust(context, file, setting)
    context.load_cert_chain(cert, key or None, password=_no_password)
    return context


def _trust(context: ssl.SSLContext, ca: str, setting: str) -> None:
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        why = getattr(error, "reason", None) or error.strerror
        raise ConfigError(f"{setting}: {ca} is no CA's certificate in PEM: {why}", field=setting) from error


def _no_password() -> str:
    """Without it OpenSSL would ask on the terminal."""
    raise ValueError("the key has a password")

"""Real certificates, made in the test."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import trustme

AUTHORITY = trustme.CA()


class Files(NamedTuple):
    cert: Path
    key: Path

    def renew(self) -> None:
        """Another certificate of the same authority for the same names."""
        issued = AUTHORITY.issue_cert("localhost", "127.0.0.1", "::1")
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())


def certificate(folder: Path) -> Files:
    files = Files(folder / "cert.pem", folder / "key.pem")
    files.renew()
    return files


def client_context() -> ssl.SSLContext:
    """One that trusts the authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context

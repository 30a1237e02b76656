"""What a TLS server of ours is set up with.

Owns turning certificate files into a context, and what can be wrong with them into one line that says what to change.
"""

from __future__ import annotations

import ssl

from discovery.errors import ConfigError


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


def _no_password() -> str:
    """Without it OpenSSL would ask on the terminal."""
    raise ValueError("the key has a password")

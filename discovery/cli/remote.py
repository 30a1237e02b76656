"""A node's HTTP API as the command line calls it.

Owns one session to one node, and the step from its answers to errors: a problem document (RFC 9457) becomes one line
that says what the node said, no answer at all becomes NodeUnreachable, which says how to start a node.
It never retries: whether that makes sense is the command's to know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from discovery.cli.options import tls_files
from discovery.client.transport import tls_context
from discovery.errors import ConfigError, DiscoveryError, NodeUnreachable

TIMEOUT = 10.0  # seconds for one call, connecting included
DOWNLOAD_TIMEOUT = 300.0  # seconds until a download's first byte, or its next: the node makes the file first

# What a node answers is JSON whose fields http-api.md gives; the commands read them by name.
Answer = dict[str, Any]


class NodeRefused(DiscoveryError):
    """The node answered, and the answer is no. `answered` is its HTTP status."""

    code, status, exit_code = "node-refused", 502, 1

    def __init__(self, detail: str, *, answered: int, field: str | None = None) -> None:
        super().__init__(detail, field=field)
        self.answered = answered


class BadCall(NodeRefused):
    """The node says that what was asked is wrong (400)."""

    exit_code = 2


class Node:
    """One node, for `async with`, with the certificates that the command was given. Raises ConfigError for an address
    that is no http(s) URL, and for certificates that can't be used."""

    def __init__(self, url: str, token: str | None) -> None:
        try:
            base = URL(url)
        except ValueError:
            base = URL()
        if base.scheme not in ("http", "https") or not base.host:
            raise ConfigError(
                f"{url!r} is not the address of a node; expected http://HOST:PORT", field="node"
            )
        self._base = base
        self._token = token
        self._tls = tls_context(*tls_files())

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connector = aiohttp.TCPConnector(ssl=True if self._tls is None else self._tls)
        self._session = aiohttp.ClientSession(headers=headers, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        seconds: float = TIMEOUT,
    ) -> Answer:
        """Call `path` (its segments, not yet quoted) and return the answer's JSON, `{}` when there is none.

        `seconds` are what it may take in all. Raises NodeUnreachable, NodeRefused, and BadCall when the node finds the
        call itself wrong.
        """
        text = "/" + "/".join(quote(segment, safe="") for segment in path)
        url = URL(str(self._base.origin()) + self._base.raw_path.rstrip("/") + text, encoded=True)
        try:
            async with self._session.request(
                method,
                url.update_query(query or {}),
                json=body,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                raw = await response.read()
                return _read(response, raw)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise NodeUnreachable(
                f"no node answers at {self._base} ({_reason(error, seconds)}); "
                "start one with `discovery serve` or name another with --node"
            ) from None

    async def download(
        self,
        method: str,
        path: Sequence[str],
        target: BinaryIO,
        progress: Callable[[int, int], None],
        *,
        query: Mapping[str, str] | None = None,
    ) -> int:
        """Write the answer's bytes to `target`; the revision it is of (0: not told).

        `progress` is told the bytes so far and in all. Raises as `call`, and OSError when `target` can't be written.
        """
        url = URL(
            str(self._base.origin()) + self._base.raw_path.rstrip("/") + "/" + "/".join(path), encoded=True
        )
        patient = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=DOWNLOAD_TIMEOUT)
        try:
            async with self._session.request(
                method, url.update_query(query or {}), timeout=patient, allow_redirects=False
            ) as response:
                if response.status != 200:
                    _read(response, await response.read())
                    raise NodeRefused(f"{url} answered {response.status}", answered=response.status)
                total, done = response.content_length or 0, 0
                async for piece in response.content.iter_chunked(1 << 20):
                    target.write(piece)
                    done += len(piece)
                    progress(done, total)
                return int(response.headers.get("X-Revision", 0))
        except (TimeoutError, aiohttp.ClientError) as error:
            raise NodeUnreachable(
                f"no whole answer came from {self._base} ({_reason(error, TIMEOUT)}); "
                "try again, or name another with --node"
            ) from None


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {seconds:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        return f"its certificate is not trusted, {why}: name its CA with --ca"
    if isinstance(error, aiohttp.ClientSSLError):
        return str(error)
    if isinstance(error, OSError) and error.errno:  # below 0 the number is getaddrinfo's, which has said why
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__


def _read(response: aiohttp.ClientResponse, raw: bytes) -> Answer:
    try:
        answer = json.loads(raw) if raw else {}
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise NodeRefused(
            f"{response.url} answered {response.status} without JSON; is a node listening there?",
            answered=response.status,
        )
    if response.status < 300:
        return answer
    detail = answer.get("detail") or answer.get("title") or f"{response.url} answered {response.status}"
    field = answer.get("field")
    if field and field not in detail:
        detail = f"{field}: {detail}"
    kind = BadCall if response.status == 400 else NodeRefused
    raise kind(detail, answered=response.status, field=field)

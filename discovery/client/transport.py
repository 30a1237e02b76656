"""HTTP calls to the nodes of a cluster: which node is asked, and when another one is.

Owns the session, the token, TLS, and the order of the nodes: it stays with the one that answered last and goes on to
the next when that does not answer in time or says 429 or 5xx. Each node is asked once a call. Every call of the API
may be made twice without harm, so one whose answer was lost is made again elsewhere. It never waits between tries.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from discovery.client.errors import Refused, Unavailable, refused
from discovery.errors import ConfigError

DEFAULT_NODE = "http://127.0.0.1:8053"
TIMEOUT = 5.0  # seconds that one node is given, connecting included
CONNECT_TIMEOUT = 2.0  # seconds for the connection alone, so that a machine that is gone costs no more

T = TypeVar("T")


class _Problem(msgspec.Struct):
    """RFC 9457, as much as a client needs."""

    detail: str = ""
    title: str = ""
    field: str | None = None


def tls_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """For nodes behind a CA of their own (a file), and for a client certificate with its key (files).

    None: the system's CAs, no certificate. Raises ConfigError when a file cannot be used.
    """
    if cert is None and key is not None:
        raise ConfigError("a key was given without its certificate: name both, or neither", field="cert")
    if ca is None and cert is None:
        return None
    file = ca
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            file = cert
            context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{file} cannot be used for TLS: {error}") from None
    return context


def node_urls(nodes: str | Sequence[str]) -> tuple[URL, ...]:
    """Raises ConfigError for what is no http(s) URL. One text may name several, with commas between."""
    texts = nodes.split(",") if isinstance(nodes, str) else nodes
    urls = []
    for text in (each.strip() for each in texts):
        try:
            url = URL(text)
        except ValueError:
            url = URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(
                f"{text!r} is not the address of a node; expected http://HOST:PORT", field="nodes"
            )
        urls.append(url)
    if not urls:
        raise ConfigError("no node is named; expected at least one http://HOST:PORT", field="nodes")
    return tuple(urls)


class Transport:
    """Made inside a running event loop; `close` it."""

    def __init__(self, nodes: tuple[URL, ...], token: str | None, tls: ssl.SSLContext | None) -> None:
        self._nodes = nodes
        self._at = 0  # the node that answered last
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
        self._session = aiohttp.ClientSession(headers=headers, connector=connector)

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self,
        kind: type[T],
        method: str,
        path: Sequence[str],
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        revision: int | None = None,
        seconds: float = TIMEOUT,
    ) -> T:
        """The answer's JSON as `kind`; `path` are the segments, not yet quoted; `seconds` are for each node.

        `revision`: it is done to what has that revision only (If-Match). Raises Unavailable and Refused.
        """
        asked = self.answer(kind, method, path, query=query, body=body, revision=revision, seconds=seconds)
        return (await asked)[1]

    async def answer(
        self,
        kind: type[T],
        method: str,
        path: Sequence[str],
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        revision: int | None = None,
        seconds: float = TIMEOUT,
    ) -> tuple[int, T]:
        """As `call`, with the HTTP status in front."""
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_TIMEOUT))
        content = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": "application/json"} if content is not None else {}
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'

        async def attempt(base: URL) -> tuple[int, T]:
            response = await self._ask(
                method, _below(base, path, query), headers=headers, limits=timeout, content=content
            )
            async with response:
                return response.status, await _read(response, kind)

        return await self._first(attempt)

    @asynccontextmanager
    async def stream(
        self,
        path: Sequence[str],
        query: Mapping[str, str],
        *,
        accept: str,
        silence: float,
        method: str = "GET",
        content: bytes | None = None,
        content_type: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that goes on; its body is the caller's to read, which raises TimeoutError when nothing comes for
        `silence` seconds. Raises as `call`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=silence)
        headers = {"Accept": accept} | ({"Content-Type": content_type} if content is not None else {})

        async def attempt(base: URL) -> aiohttp.ClientResponse:
            return await self._ask(
                method, _below(base, path, query), headers=headers, limits=timeout, content=content
            )

        response = await self._first(attempt)
        async with response:
            yield response

    def give_up(self, url: URL) -> None:
        """The next call begins with another node than the one that `url` lies on: what it sent came to an end."""
        if self._nodes[self._at].origin() == url.origin():
            self._at = (self._at + 1) % len(self._nodes)

    async def _first(self, attempt: Callable[[URL], Awaitable[T]]) -> T:
        """The first node's answer, from the one on that answered last."""
        begin = self._at
        unavailable: list[Unavailable] = []
        for step in range(len(self._nodes)):
            at = (begin + step) % len(self._nodes)
            try:
                answer = await attempt(self._nodes[at])
            except Unavailable as error:
                unavailable.append(error)
                continue
            except Refused:
                self._at = at
                raise
            self._at = at
            return answer
        self._at = (begin + 1) % len(self._nodes)  # next time another one has the first word
        waits = [error.retry_after for error in unavailable if error.retry_after is not None]
        raise Unavailable(
            "; ".join(error.detail for error in unavailable),
            retry_after=min(waits, default=None),
            answered=next((error.answered for error in unavailable if error.answered), None),
        )

    async def _ask(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        content: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        """An answer below 300. Raises Unavailable, and Refused for a no of the node's."""
        for again in (False, True):
            try:
                response = await self._session.request(
                    method, url, data=content, headers=headers, timeout=limits, allow_redirects=False
                )
            except aiohttp.ServerDisconnectedError as error:
                if again:
                    raise _unavailable(url, error) from None
                continue  # it closed an idle connection just when we used it
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                raise _unavailable(url, error) from None
            break
        else:
            raise AssertionError  # the second turn never goes on
        if response.status < 300:
            return response
        async with response:
            raise await _no(response)


def _below(base: URL, path: Sequence[str], query: Mapping[str, str] | None) -> URL:
    text = "".join("/" + quote(segment, safe="") for segment in path)
    return URL(str(base.origin()) + base.raw_path.rstrip("/") + text, encoded=True).update_query(query or {})


async def _no(response: aiohttp.ClientResponse) -> Unavailable | Refused:
    """The error that an answer of 300 and more stands for."""
    try:
        problem = msgspec.json.decode(await response.read(), type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, TimeoutError, aiohttp.ClientError, OSError):
        problem = _Problem()
    asked = f"{response.method} {response.url}"
    detail = problem.detail or problem.title or f"{asked} was answered with {response.status}"
    if response.status == 429 or response.status >= 500:
        return Unavailable(
            f"{response.url.origin()}: {detail}", retry_after=_seconds(response), answered=response.status
        )
    if problem.field and problem.field not in detail:
        detail = f"{problem.field}: {detail}"
    return refused(detail, response.status, problem.field)


def _seconds(response: aiohttp.ClientResponse) -> float | None:
    """Retry-After in seconds (RFC 9110 section 10.2.3); None when it is absent, or a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


async def _read(response: aiohttp.ClientResponse, kind: type[T]) -> T:
    try:
        raw = await response.read()
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _unavailable(response.url, error) from None
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused(
            f"{response.url} answered {response.status} with something else than was asked; is a node there?",
            answered=response.status,
        ) from None


def _unavailable(url: URL, error: Exception) -> Unavailable:
    if isinstance(error, TimeoutError):
        reason = "nothing came in time"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        reason = f"its certificate is not trusted, {why}"
    elif isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        reason = str(error)  # its number is OpenSSL's
    elif isinstance(error, OSError) and error.errno:
        # Below 0 the number is getaddrinfo's, which has said why.
        reason = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    else:
        reason = str(error) or type(error).__name__
    return Unavailable(f"no node answers at {url.origin()} ({reason})")

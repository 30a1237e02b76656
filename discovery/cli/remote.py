"""A node's HTTP API as the command line calls it.

Owns the step from the client's transport to a command: JSON answers as they are, bodies that go on into a file, and
errors that say what a person at a terminal can do. Where --node names several nodes, the first that answers is asked.
It never waits and tries again: whether that makes sense is the command's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self

import aiohttp

from discovery.cli.calls import TIMEOUT
from discovery.cli.options import tls_files
from discovery.client.errors import Unavailable
from discovery.client.transport import Transport, node_urls, tls_context
from discovery.errors import DiscoveryError, NodeUnreachable

DOWNLOAD_TIMEOUT = 300.0  # seconds until a download's first byte, or its next: the node makes the file first

# What a node answers is JSON whose fields http-api.md gives; the commands read them by name.
Answer = dict[str, Any]


class _Fields(Answer):
    """An answer, or an object within: what reads a field that is not there meets a plain error."""

    def __missing__(self, name: str) -> Any:  # Any: JSON
        raise DiscoveryError(
            f"the answer has no {name!r}: another program is there, or a node of another version; see --node"
        )


def _fields(value: Any) -> Any:  # Any: JSON
    if isinstance(value, dict):
        return _Fields((name, _fields(each)) for name, each in value.items())
    return [_fields(each) for each in value] if isinstance(value, list) else value


class Node:
    """A node, for `async with`, with the certificates that the command was given. Raises ConfigError for an address
    that is no http(s) URL, and for certificates that can't be used."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._nodes = node_urls(url)
        self._token = token
        self._tls = tls_context(*tls_files())

    async def __aenter__(self) -> Self:
        self._transport = Transport(self._nodes, self._token, self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

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

        `seconds` are what a node may take in all. Raises NodeUnreachable, Unavailable for a node that can't do it now,
        and Refused.
        """
        try:
            found = await self._transport.call(dict, method, path, query=query, body=body, seconds=seconds)
        except Unavailable as error:
            raise _at_a_terminal(error) from None
        answer: Answer = _fields(found)
        return answer

    async def download(
        self,
        method: str,
        path: Sequence[str],
        target: BinaryIO,
        progress: Callable[[int, int], None] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "application/json",
    ) -> int:
        """Write the answer's bytes to `target`; the revision it is of (0: not told).

        `progress` is told the bytes so far and in all. Raises as `call`, and OSError when `target` can't be written.
        """
        try:
            async with self._transport.stream(
                path,
                query or {},
                method=method,
                accept="*/*",
                silence=DOWNLOAD_TIMEOUT,
                content=content,
                content_type=content_type,
            ) as response:
                total, done = response.content_length or 0, 0
                async for piece in response.content.iter_chunked(1 << 20):
                    target.write(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(done, total)
                return int(response.headers.get("X-Revision", 0))
        except Unavailable as error:
            raise _at_a_terminal(error) from None
        except (TimeoutError, aiohttp.ClientError) as error:
            raise NodeUnreachable(
                f"no whole answer came from {self.url} ({str(error) or 'nothing came in time'}); "
                "try again, or name another with --node"
            ) from None


def _at_a_terminal(error: Unavailable) -> Unavailable | NodeUnreachable:
    if error.answered is not None:
        return error
    if "its certificate is not trusted" in error.detail:
        return NodeUnreachable(f"{error.detail}: name its CA with --ca")
    return NodeUnreachable(f"{error.detail}; start one with `discovery serve` or name another with --node")

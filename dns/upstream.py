"""One question to one other server, over UDP or TCP.

Owns the exchange: a socket with a fresh random port for each query, a random id and random letter case (0x20), so that
an answer cannot be guessed (RFC 5452); an answer that doesn't fit is not ours and waited past. Truncated, or with the
letter case changed, it is asked again over TCP. It never chooses a server and keeps nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import NamedTuple

from discovery.dns import wire
from discovery.dns.foreign import Foreign, read

LOOP_OPTION = 65301  # EDNS option of RFC 6891's local range: "a Discovery node has forwarded this already"
_LOOP = wire.encode_option(LOOP_OPTION, b"discovery")
PAYLOAD = 1232


class Server(NamedTuple):
    """Where another name server answers."""

    host: str
    port: int


class NoAnswer(Exception):
    """The server did not answer, or not usably; the text says why."""


class Ask(NamedTuple):
    """What to ask: a name in wire form (folded), its type, and the bits of the client that the answer depends on."""

    name: bytes
    qtype: int
    do: bool
    cd: bool


def has_loop_mark(edns: wire.Edns | None) -> bool:
    """Whether a query has been forwarded by a node of ours before."""
    return edns is not None and _LOOP in edns.options


async def exchange(server: Server, ask: Ask, seconds: float) -> Foreign:
    """The server's answer within so many seconds. Raises NoAnswer."""
    try:
        async with asyncio.timeout(seconds):
            answer = await _over_udp(server, ask)
            if answer is None or answer.flags & wire.TC:
                answer = await _over_tcp(server, ask)
            return answer
    except TimeoutError:
        raise NoAnswer(f"{server.host} port {server.port} did not answer within {seconds:g} s") from None
    except (OSError, wire.FormatError, asyncio.IncompleteReadError) as error:
        raise NoAnswer(f"{server.host} port {server.port}: {error}") from None


def _query(ask: Ask, *, mix_case: bool) -> tuple[int, bytes, bytes]:
    """(id, question, the query)."""
    ident = secrets.randbelow(65536)
    name = _mixed(ask.name) if mix_case else ask.name
    question = name + ask.qtype.to_bytes(2, "big") + b"\0\1"
    flags = wire.RD | (wire.CD if ask.cd else 0)
    header = b"".join(value.to_bytes(2, "big") for value in (ident, flags, 1, 0, 0, 1))
    return ident, question, header + question + wire.encode_opt(PAYLOAD, ask.do, options=_LOOP)


def _mixed(name: bytes) -> bytes:
    """The name with random letter case; length bytes are below any letter."""
    bits = secrets.randbits(len(name))
    return bytes(byte - 32 if 97 <= byte <= 122 and bits >> at & 1 else byte for at, byte in enumerate(name))


class _Answers(asyncio.DatagramProtocol):
    """Waits for the datagram that answers; all others are ignored, as guesses of somebody else's."""

    def __init__(self, ident: int, question: bytes) -> None:
        self._ident = ident
        self._question = question
        self.answer: asyncio.Future[Foreign | None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.answer.done():
            return
        try:
            self.answer.set_result(read(data, self._ident, self._question))
        except wire.FormatError:
            try:
                read(
                    data[:12]
                    + data[12 : 12 + len(self._question)].lower()
                    + data[12 + len(self._question) :],
                    self._ident,
                    self._question.lower(),
                )
            except wire.FormatError:
                return
            self.answer.set_result(None)  # ours but for the letter case: over TCP nobody can guess

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _over_udp(server: Server, ask: Ask) -> Foreign | None:
    """None: a server that does not keep the letter case."""
    ident, question, query = _query(ask, mix_case=True)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Answers(ident, question), remote_addr=server
    )
    try:
        transport.sendto(query)
        return await protocol.answer
    finally:
        transport.close()


async def _over_tcp(server: Server, ask: Ask) -> Foreign:
    ident, question, query = _query(ask, mix_case=False)
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return read(await reader.readexactly(length), ident, question)
    finally:
        writer.transport.abort()

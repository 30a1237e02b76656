"""TCP: a class for each RFC, the section in the docstring (TLS on real certificates: tests/dns/test_tls.py)."""

from __future__ import annotations

import socket

import dns.message
import pytest

from tests.support.live import LiveServer


def frame(name: str = "web.d.test.", rtype: str = "A", ident: int = 1) -> bytes:
    made = dns.message.make_query(name, rtype, id=ident)
    packet = made.to_wire()
    return len(packet).to_bytes(2, "big") + packet


def answer(stream: socket.socket) -> dns.message.Message:
    return dns.message.from_wire(exactly(stream, int.from_bytes(exactly(stream, 2), "big")))


def exactly(stream: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = stream.recv(size - len(got))
        assert part, "the connection ended"
        got += part
    return got


class TestRfc7766:
    """DNS over TCP."""

    def test_many_queries_on_one_connection(self, live: LiveServer) -> None:
        """Section 6.2.1: it stays open."""
        with live.stream() as stream:
            for ident in range(1, 50):
                stream.sendall(frame(ident=ident))
                assert answer(stream).id == ident

    def test_pipelining(self, live: LiveServer) -> None:
        """Section 6.2.1.1: without waiting for the answers."""
        with live.stream() as stream:
            stream.sendall(b"".join(frame(ident=ident) for ident in range(200)))
            assert {answer(stream).id for _ in range(200)} == set(range(200))

    @pytest.mark.parametrize("sizes", [(1,), (2,), (1, 1, 5), (3, 7), (30,)])
    def test_length_and_message_in_any_pieces(self, live: LiveServer, sizes: tuple[int, ...]) -> None:
        """Section 8: a server must not mind how the bytes arrive."""
        with live.stream() as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent = frame(ident=1) + frame(ident=2)
            at = 0
            while at < len(sent):
                for size in sizes:
                    stream.sendall(sent[at : at + size])
                    at += size
            assert [answer(stream).id for _ in range(2)] == [1, 2]

    def test_a_half_closed_connection_is_answered_and_closed(self, live: LiveServer) -> None:
        """Section 6.2.4: the client closes, in its own time."""
        with live.stream() as stream:
            stream.sendall(frame(ident=1) + frame(ident=2))
            stream.shutdown(socket.SHUT_WR)
            assert [answer(stream).id for _ in range(2)] == [1, 2]
            assert stream.recv(1) == b""

    def test_large_answers(self, live: LiveServer) -> None:
        """Section 5: what UDP truncated is whole here."""
        with live.stream() as stream:
            stream.sendall(frame("big.d.test.", "SRV"))
            response = answer(stream)
            assert len(response.answer[0]) == 200

    def test_other_connections_go_on_beside_a_silent_one(self, live: LiveServer) -> None:
        """Section 6.2.3; limits and times are in tests/dns/test_tcp.py and test_connections.py."""
        with live.stream() as silent, live.stream() as stream:
            silent.sendall(frame()[:5])
            stream.sendall(frame(ident=7))
            assert answer(stream).id == 7
            silent.sendall(frame()[5:])
            assert answer(silent).id == 1

"""TCP and TLS: a class for each RFC, the section in the docstring; limits and bad clients are in tests/dns."""

from __future__ import annotations

import socket

import dns.edns
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


class TestRfc7858:
    """DNS over TLS."""

    def test_questions_on_one_session(self, live: LiveServer) -> None:
        """Section 3.3: framed as over TCP, without waiting for the answers."""
        with live.secure() as stream:
            stream.sendall(b"".join(frame(ident=ident) for ident in range(50)))
            assert {answer(stream).id for _ in range(50)} == set(range(50))
            assert stream.version() == "TLSv1.3"

    def test_a_port_for_tls_answers_nothing_in_clear(self, live: LiveServer) -> None:
        """Section 3.1: no mixing of the two on one port."""
        with socket.create_connection(("127.0.0.1", live.tls_port), 10) as plain:
            plain.sendall(frame(ident=1))
            said = b""
            while part := plain.recv(4096):
                said += part
        assert len(said) < 12  # an alert at the most

    def test_a_session_can_be_taken_up_again(self, live: LiveServer) -> None:
        """Section 3.4."""
        with live.secure() as stream:
            stream.sendall(frame(ident=1))
            assert answer(stream).id == 1
            session = stream.session
        with live.secure(session) as stream:
            stream.sendall(frame(ident=2))
            assert answer(stream).id == 2
            assert stream.session_reused


class TestRfc7830AndRfc8467:
    """Padding of what is encrypted (in clear: test_edns.py)."""

    @pytest.mark.parametrize("name", ["web.d.test.", "nothing.d.test.", "big.d.test."])
    def test_an_answer_is_padded_for_those_who_pad(self, live: LiveServer, name: str) -> None:
        """RFC 7830 section 4, RFC 8467 section 4.1: to whole blocks of 468 bytes."""
        made = dns.message.make_query(name, "SRV", id=5)
        made.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(30))])
        packet = made.to_wire()
        with live.secure() as stream:
            stream.sendall(len(packet).to_bytes(2, "big") + packet)
            length = int.from_bytes(exactly(stream, 2), "big")
            response = dns.message.from_wire(exactly(stream, length))
        assert length % 468 == 0
        assert [int(option.otype) for option in response.options] == [12]

    def test_others_are_left_as_they_are(self, live: LiveServer) -> None:
        """RFC 7830 section 4: a query without the option has an answer without."""
        with live.secure() as stream:
            stream.sendall(frame())
            assert answer(stream).edns == -1

"""A real DNS server on one port, UDP and TCP, whose answers a test writes with dnspython."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Self

import dns.message

Answer = Callable[[dns.message.Message, str], Iterable[bytes]]
"""From a question and `UDP` or `TCP` to the packets to send, in order; none for silence."""


class DnsServer:
    """For `with`. `asked` are the transports of the questions as they came.

    Over TCP the first byte goes out alone, then `between_pieces` is called, then the rest goes out.
    """

    def __init__(self, answer: Answer, between_pieces: Callable[[], object] = lambda: None) -> None:
        self._answer = answer
        self.between_pieces = between_pieces
        self.asked: list[str] = []
        self.questions: list[dns.message.Message] = []

    def __enter__(self) -> Self:
        while True:
            self._tcp = socket.create_server(("127.0.0.1", 0))
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.port = self._tcp.getsockname()[1]
            try:
                self._udp.bind(("127.0.0.1", self.port))
                break
            except OSError:  # the port is taken for UDP: another
                self._tcp.close()
                self._udp.close()
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", ("127.0.0.1", self.port))
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._udp.close()
        self._tcp.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _packets(self, raw: bytes, transport: str) -> Iterable[bytes]:
        query = dns.message.from_wire(raw)
        self.asked.append(transport)
        self.questions.append(query)
        return self._answer(query, transport)

    def _serve_udp(self) -> None:
        while True:
            raw, client = self._udp.recvfrom(65535)
            if not raw:
                return
            for packet in self._packets(raw, "UDP"):
                self._udp.sendto(packet, client)

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection, connection.makefile("rb") as stream:
                size = stream.read(2)
                if not size:
                    return
                for packet in self._packets(stream.read(int.from_bytes(size)), "TCP"):
                    whole = len(packet).to_bytes(2) + packet
                    connection.sendall(whole[:1])
                    self.between_pieces()
                    connection.sendall(whole[1:])

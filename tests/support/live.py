"""A DNS server of ours on real sockets in this process, asked with dnspython as by any client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Self

import dns.message
import dns.query

from discovery.dns.cookies import Secret
from discovery.dns.forward import Routes
from discovery.dns.server import DnsServer
from discovery.sockets import bind_dns, bind_tcp
from discovery.tls import server_context
from tests.support.certificates import Files, client_context
from tests.support.dns import Stored, World

HOST = "127.0.0.1"
LIMIT = 10.0  # seconds for an answer on however busy a machine


class LiveServer:
    """For `with`. Answers are asked for with `ask` (a whole message) and `raw` (bytes, over UDP)."""

    def __init__(self, stored: Stored, certificate: Files) -> None:
        self.world = World(stored, chaos={b"\x07version\x04bind\x00": b"discovery"}, nsid=b"n1")
        self._certificate = certificate
        self._loop = asyncio.new_event_loop()
        self.client = client_context()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        (udp,), tcp = bind_dns(f"{HOST}:0")
        tls = bind_tcp(f"{HOST}:0", "dns.tls_listen")
        self.port, self.tls_port = int(tcp.getsockname()[1]), int(tls.getsockname()[1])
        context = server_context(str(self._certificate.cert), str(self._certificate.key), "dns.tls")
        world = self.world
        self._server = DnsServer(
            world.view, world.settings, Routes(), world.counters, cache_bytes=1 << 20, draw=lambda: 0.0
        )
        self._server.cookies.use([Secret(b"k" * 16, 0)])
        self._run(self._server.start([udp], [tcp], [tls], context))
        self._client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._client.settimeout(LIMIT)
        self._client.connect((HOST, self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._run(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()

    def _run(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LIMIT)  # type: ignore[arg-type]

    def ask(self, query: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
        """The answer, as dnspython reads it; it checks id, question and where it comes from."""
        if tcp:
            return dns.query.tcp(query, HOST, port=self.port, timeout=LIMIT)
        return dns.query.udp(query, HOST, port=self.port, timeout=LIMIT)

    def raw(self, packet: bytes) -> bytes:
        """The next datagram that comes back."""
        self._client.send(packet)
        return self._client.recv(65535)

    def is_silent(self, packet: bytes) -> bool:
        """Whether nothing answers the packet: the answer to a question behind it comes first."""
        behind = dns.message.make_query("d.test.", "SOA", id=4242).to_wire()
        self._client.send(packet)
        self._client.send(behind)
        return self._client.recv(65535)[:2] == behind[:2] and packet[:2] != behind[:2]

    def stream(self) -> socket.socket:
        """A connection over TCP."""
        return socket.create_connection((HOST, self.port), LIMIT)

    def secure(self, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """A connection over TLS; `session`: an earlier one's, to go on with."""
        plain = socket.create_connection((HOST, self.tls_port), LIMIT)
        return self.client.wrap_socket(plain, server_hostname="localhost", session=session)

"""Load for a node: DNS questions and registrations, each client one at a time, until a count or a time is reached.

Owns the clients and what they measure. A client waits for its answer before it asks again, so nothing piles up and no
node is sent more than it can take. It prints nothing, and never decides whom it may load.
"""

from __future__ import annotations

import asyncio
import secrets
import selectors
import socket
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from discovery.cli.remote import Node
from discovery.dns.text import rcode_name
from discovery.errors import DiscoveryError

PATIENCE = 2.0  # seconds until a question counts as lost
TICK = 0.1  # seconds between looks at the clock, and at what is lost
LEASE_MARGIN = 60  # seconds that what was registered outlives the load, should the program be killed
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)

Tell = Callable[[int], None]
"""Is told how much is done, now and then."""


class Bounds(msgspec.Struct, frozen=True):
    """The load ends with the first that is reached. `clients` ask at once, each one question at a time."""

    count: int
    seconds: float
    clients: int


class Load(msgspec.Struct):
    """What came of it: `outcomes` by response code or by what went wrong, `latencies` in seconds, of answers alone."""

    asked: int = 0
    lost: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    latencies: array[float] = msgspec.field(default_factory=lambda: array("d"))


def quantiles(latencies: Sequence[float]) -> dict[float, float]:
    """By nearest rank: the smallest latency that so large a part of all did not exceed; empty without any."""
    ordered = sorted(latencies)
    if not ordered:
        return {}
    return {part: ordered[max(0, -int(-part * len(ordered) // 1) - 1)] for part in QUANTILES}


# ---------------------------------------------------------------- DNS


class _Asker:
    """One client: a socket, and the question that it waits for."""

    __slots__ = ("begun", "number", "sock")

    def __init__(self, family: int, address: tuple[str, int]) -> None:
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect(address)
        self.number = secrets.randbits(16)
        self.begun = 0.0


def ask_dns(address: tuple[str, int], questions: Sequence[bytes], bounds: Bounds, tell: Tell) -> Load:
    """Sends `questions`, packets whose ids do not matter, one after the other over UDP. Raises OSError."""
    family, _, _, _, where = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    load, now = Load(), time.perf_counter
    clients = [_Asker(family, where[:2]) for _ in range(min(bounds.clients, bounds.count))]  # type: ignore[arg-type]
    waiting = set(clients)

    def ask(client: _Asker) -> None:
        if load.asked >= bounds.count or now() >= end:
            waiting.discard(client)
            return
        client.number = (client.number + 1) & 0xFFFF
        question = questions[load.asked % len(questions)]
        load.asked += 1
        client.begun = now()
        try:
            client.sock.send(client.number.to_bytes(2, "big") + question[2:])
        except OSError:  # a port unreachable of before: this one counts as lost in time
            pass

    with selectors.DefaultSelector() as selector:
        try:
            for client in clients:
                selector.register(client.sock, selectors.EVENT_READ, client)
            begun = now()
            end, look = begun + bounds.seconds, begun + TICK
            for client in clients:
                ask(client)
            while waiting:
                for key, _ in selector.select(TICK):
                    if _answered(key.data, load, now):
                        ask(key.data)
                if now() >= look:
                    look = now() + TICK
                    tell(load.asked)
                    for client in [each for each in waiting if now() - each.begun > PATIENCE]:
                        load.lost += 1
                        ask(client)
            load.seconds = now() - begun
        finally:
            for client in clients:
                client.sock.close()
    return load


def _answered(client: _Asker, load: Load, now: Callable[[], float]) -> bool:
    """Whether the answer to its question has come."""
    try:
        packet = client.sock.recv(65535)
    except OSError:  # nothing there, or nobody listens there: lost in time
        return False
    if len(packet) < 12 or packet[:2] != client.number.to_bytes(2, "big"):
        return False  # late, for a question that was lost already
    load.latencies.append(now() - client.begun)
    load.outcomes[rcode_name(packet[3] & 15)] += 1
    return True


# ---------------------------------------------------------------- registrations


async def register(node: Node, service: str, bounds: Bounds, tell: Tell) -> Load:
    """Registers instances of `service` on one lease, and revokes it at the end, which removes them all.

    Raises what the node says to the lease; what it says to a registration is counted.
    """
    load, now, mark = Load(), time.perf_counter, secrets.token_hex(4)
    lease = (await node.call("POST", ("v1", "leases"), body={"ttl": int(bounds.seconds) + LEASE_MARGIN}))[
        "id"
    ]

    async def client() -> None:
        while load.asked < bounds.count and now() < end:
            load.asked += 1
            path = ("v1", "services", service, f"{mark}-{load.asked}")
            body = {"host": "192.0.2.1", "port": 1 + load.asked % 65535, "lease": lease}
            begun = now()
            try:
                await node.call("PUT", path, body=body)
            except DiscoveryError as error:
                load.lost += 1
                load.outcomes[error.code] += 1
                if load.lost > bounds.clients and not load.latencies:
                    return  # nothing works: the rest would not either
                continue
            load.latencies.append(now() - begun)
            load.outcomes["registered"] += 1

    async def look() -> None:
        while True:
            await asyncio.sleep(TICK)
            tell(load.asked)

    begun = now()
    end = begun + bounds.seconds
    looking = asyncio.create_task(look())
    try:
        await asyncio.gather(*(client() for _ in range(bounds.clients)))
        load.seconds = now() - begun
    finally:
        looking.cancel()
        await asyncio.shield(node.call("DELETE", ("v1", "leases", lease)))
    return load

"""What clients do to the nodes during a chaos run, and the record of it: services that come and go, and questions.

Owns the lives of instances and the questions to DNS. It judges nothing. A client here is as the API's description
wants it: it goes to any node, and with a 503, or without an answer in time, to another; after a 404 the instance is
gone, and what it registers next has another name, so that a name stands for one life.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
import dns.edns
import dns.flags
import dns.message
import dns.rcode

from tests.cluster.history import History, Query, Request, Verb

ATTEMPT = 1.5  # seconds a client waits for one node with a heartbeat
PATIENCE = 6.0  # and with a registration or deregistration: longer than a node takes to say that it failed
AGAIN = 0.3  # seconds, when all nodes were asked in vain
TTLS = (3, 4, 5, 6, 8)
LIVES = (2.0, 40.0)  # seconds from the registration to the end of an instance's will to live
SERVICES = 6
AGENT = 3  # instances on the lease of an agent
ZONE = "discovery.internal."

Now = Callable[[], float]


class Clients:
    """`nodes`: name -> URL of the API. `now`: the clock of the history. `count` instances at a time."""

    def __init__(
        self, history: History, nodes: Mapping[str, str], chance: random.Random, now: Now, count: int
    ) -> None:
        self._history = history
        self._nodes = dict(nodes)
        self._chance = chance
        self._now = now
        self._count = count
        self._numbers = 0
        self._lives: set[asyncio.Task[None]] = set()
        self.known: list[str] = []  # names for questions
        self.is_ending = False  # nobody comes or goes from here on; who lives beats on
        self.failures: list[BaseException] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as self._session:
            try:
                while True:
                    while len(self._lives) < self._count and not self.is_ending:
                        self._begin(
                            self._chance.choice((self._beaten, self._beaten, self._put_again, self._agent))
                        )
                        await asyncio.sleep(self._chance.uniform(0.02, 0.1))
                    await asyncio.sleep(0.05)
            finally:
                for task in self._lives:
                    task.cancel()
                await asyncio.gather(*self._lives, return_exceptions=True)

    def _begin(self, life: Callable[[], Awaitable[None]]) -> None:
        async def lived() -> None:
            await life()

        task = asyncio.create_task(lived())
        self._lives.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._lives.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    # ---------------------------------------------------------------- lives

    async def _beaten(self) -> None:
        """Registers, beats with POST, and ends with a DELETE or in silence."""
        name, ttl, end = self._instance()
        revision = await self._until_taken(self._register_of(name, ttl))
        while revision and self._goes_on(end):
            await asyncio.sleep(ttl / 3)
            if not await self._until_taken(self._beat_of([name], ttl, f"{_path(name)}/heartbeat", revision)):
                return
        if revision and self._chance.random() < 0.5:
            await self._until_taken(self._deregister_of(name, ttl))

    async def _put_again(self) -> None:
        """As a job with curl: the same PUT again and again."""
        name, ttl, end = self._instance()
        revision = await self._until_taken(self._register_of(name, ttl))
        while revision and self._goes_on(end):
            await asyncio.sleep(ttl / 3)
            revision = await self._until_taken(self._register_of(name, ttl, seconds=ATTEMPT))
        if revision and self._chance.random() < 0.5:
            await self._until_taken(self._deregister_of(name, ttl))

    async def _agent(self) -> None:
        """Several instances on one lease, kept alive by the batch; they end in silence."""
        _, ttl, end = self._instance()
        lease = ""

        async def grant(node: str) -> int:
            nonlocal lease
            status, body, _ = await self._call(node, "POST", "/v1/leases", {"ttl": ttl})
            lease = body["id"] if status == 201 else ""
            return 1 if lease else -1

        await self._until_taken(grant)
        names = [self._instance()[0] for _ in range(AGENT)]
        revisions: list[int] = []
        for name in names:
            revision = await self._until_taken(self._register_of(name, ttl, lease, names))
            if not revision:
                return
            revisions.append(revision)
        while self._goes_on(end):
            await asyncio.sleep(ttl / 3)
            beat = self._beat_of(names, ttl, "/v1/heartbeats", max(revisions), {"leases": [lease]})
            if not await self._until_taken(beat):
                return

    def _instance(self) -> tuple[str, int, float]:
        """(name, TTL, when it ends)."""
        self._numbers += 1
        name = f"i{self._numbers}.s{self._numbers % SERVICES}"
        end = self._now() + self._chance.uniform(*LIVES)
        return name, self._chance.choice(TTLS), end

    def _goes_on(self, end: float) -> bool:
        return self.is_ending or self._now() < end

    # ---------------------------------------------------------------- requests

    async def _until_taken(self, attempt: Callable[[str], Awaitable[int]]) -> int:
        """Asks one node after the other until one has said more than "try another": what `attempt` made of it."""
        while True:
            for node in self._chance.sample(sorted(self._nodes), len(self._nodes)):
                outcome = await attempt(node)
                if outcome >= 0:
                    return outcome
            await asyncio.sleep(AGAIN)

    def _register_of(
        self, name: str, ttl: int, lease: str = "", shared: Sequence[str] = (), seconds: float = PATIENCE
    ) -> Callable[[str], Awaitable[int]]:
        """An attempt: the revision; 0: its lease is gone; -1: ask another node."""
        number = int(name[1:].partition(".")[0])
        body: dict[str, object] = {
            "host": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "port": 80,
        }
        body |= {"lease": lease} if lease else {"lease_ttl": ttl}

        async def attempt(node: str) -> int:
            sent = self._now()
            status, answer, retry = await self._call(node, "PUT", _path(name), body, seconds=seconds)
            done = status in (200, 201)
            revision = answer["revision"] if done else 0
            granted = answer["lease_ttl"] if done else ttl
            if status == 404 and lease:
                return 0
            self._note(name, "register", node, granted, sent, status, revision, retry)
            for other in shared:
                if other != name:  # the lease may have been renewed for all
                    self._note(other, "beat", node, granted, sent, 503 if status else 0, 0, True)
            if done:
                self.known.append(name)
            return revision if done else -1

        return attempt

    def _beat_of(
        self, names: Sequence[str], ttl: int, path: str, revision: int, body: object = None
    ) -> Callable[[str], Awaitable[int]]:
        """An attempt: 1; 0: it is gone; -1: ask another node."""

        async def attempt(node: str) -> int:
            sent = self._now()
            status, answer, retry = await self._call(node, "POST", path, body)
            if status == 200 and body is not None and answer["missing"]:
                status = 404
            for name in names:
                self._note(name, "beat", node, ttl, sent, status, revision, retry)
            return {200: 1, 404: 0}.get(status, -1)

        return attempt

    def _deregister_of(self, name: str, ttl: int) -> Callable[[str], Awaitable[int]]:
        async def attempt(node: str) -> int:
            sent = self._now()
            status, revision, retry = await self._call(node, "DELETE", _path(name), seconds=PATIENCE)
            self._note(name, "deregister", node, ttl, sent, status, revision if status == 204 else 0, retry)
            return 1 if status in (204, 404) else -1

        return attempt

    def _note(
        self,
        name: str,
        verb: Verb,
        node: str,
        ttl: int,
        sent: float,
        status: int,
        revision: int,
        retry_after: bool,
    ) -> None:
        answered = self._now() if status else None
        self._history.requests.append(
            Request(name, verb, node, ttl, sent, answered, status, revision, retry_after)
        )

    async def _call(
        self, node: str, method: str, path: str, body: object = None, *, seconds: float = ATTEMPT
    ) -> tuple[int, Any, bool]:  # Any: JSON
        """(status or 0, the JSON, or of an answer without one its X-Revision, whether there is a Retry-After)."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(
                method, self._nodes[node] + path, json=body, timeout=timeout
            ) as response:
                text = await response.read()
                answer = (
                    await response.json(content_type=None)
                    if text
                    else int(response.headers.get("X-Revision", 0))
                )
                return response.status, answer, "Retry-After" in response.headers
        except (aiohttp.ClientError, TimeoutError):
            return 0, None, False


def _path(name: str) -> str:
    instance, _, service = name.partition(".")
    return f"/v1/services/{service}/{instance}"


# ---------------------------------------------------------------- questions


class Questions(asyncio.DatagramProtocol):
    """Questions to one node, noted in the history when they are answered, or at the end."""

    def __init__(self, history: History, node: str, chance: random.Random, now: Now) -> None:
        self._history = history
        self._node = node
        self._chance = chance
        self._now = now
        self._open: dict[int, tuple[str, float]] = {}
        self._number = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # asyncio's own stub is wider
        self._transport = transport

    def ask(self, known: Sequence[str]) -> None:
        """For an instance of late, or a service."""
        services = [f"s{number}" for number in range(SERVICES)]
        name = f"{self._chance.choice([*known[-100:], *services])}.{ZONE}"
        self._number = (self._number + 1) % 65536
        query = dns.message.make_query(name, self._chance.choice(("A", "SRV")), use_edns=0, id=self._number)
        self._open[self._number] = (name, self._now())
        self._transport.sendto(query.to_wire())

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = dns.message.from_wire(data)
        asked = self._open.pop(answer.id, None)
        if asked is not None:
            extended = tuple(
                int(each.code) for each in answer.options if isinstance(each, dns.edns.EDEOption)
            )
            query = Query(asked[0], self._node, asked[1], self._now(), int(answer.rcode()), extended)
            self._history.queries.append(query)

    def error_received(self, exc: Exception) -> None:
        """The port is closed: the node is not there, and the question counts for nothing."""

    def close(self) -> None:
        self._transport.close()
        self._history.queries += [Query(name, self._node, sent) for name, sent in self._open.values()]
        self._open.clear()


async def ask_for_ever(
    history: History,
    addresses: Mapping[str, tuple[str, int]],
    chance: random.Random,
    now: Now,
    clients: Clients,
    every: float,
) -> None:
    """A question to each node every `every` seconds, until it is cancelled."""
    loop = asyncio.get_running_loop()
    asking = []
    for node, address in addresses.items():
        _, questions = await loop.create_datagram_endpoint(
            lambda node=node: Questions(history, node, chance, now),  # type: ignore[misc]
            remote_addr=address,
        )
        asking.append(questions)
    try:
        while True:
            for questions in asking:
                questions.ask(clients.known)
            await asyncio.sleep(every)
    finally:
        for questions in asking:
            questions.close()


def clock() -> Now:
    """Seconds since now."""
    begin = time.monotonic()
    return lambda: time.monotonic() - begin

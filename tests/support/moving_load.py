"""Clients of a node that is moved: instances that beat, and questions that are compared with what must be there.

Everything runs in a thread of its own, so that a test can wait for processes meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

TTL = 5  # seconds
BEAT_EVERY = TTL / 3
ZONE = "discovery.internal."
SERVICES, EACH = 100, 20  # instances of each service
AGENT = 100  # leases that one agent renews at once
SINGLE = 200  # instances that beat by themselves
AGAIN = 0.2  # seconds before a beat that failed is tried again
ASK_EVERY = 0.02  # seconds
DIG_TIMEOUT, DIG_TRIES = 5.0, 3  # as dig has them
HTTP_TIMEOUT = 5.0


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def name(number: int) -> tuple[str, str]:
    """Service and instance."""
    return f"web{number // EACH}.prod", f"i{number % EACH}"


class Load:
    """On the ports of a node. Started and ended with `with`; the figures are read afterwards."""

    def __init__(self, dns_port: int, http_port: int, rng: random.Random) -> None:
        self._dns_port, self._url, self._rng = dns_port, f"http://127.0.0.1:{http_port}", rng
        self._stop = threading.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._waiting: dict[int, asyncio.Future[dns.message.Message]] = {}
        self._serial = 0
        self._revision = 0
        self.failure: BaseException | None = None
        self.beats = self.beats_again = 0
        self.missing: list[str] = []  # leases that ran out
        self.longest_pause = 0.0  # seconds between two beats of one instance that were heard
        self.asked = self.asked_again = self.unanswered = 0
        self.wrong: list[str] = []
        self.slowest = 0.0  # seconds
        self.backwards: list[str] = []

    def __enter__(self) -> Load:
        self._thread.start()
        assert self._began.wait(60), "the load did not begin"
        assert self.failure is None, self.failure
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def __str__(self) -> str:
        return (
            f"{SERVICES * EACH} instances with leases of {TTL} s: {self.beats} heartbeats heard, {self.beats_again} "
            f"tried again, {len(self.missing)} expired, longest pause {self.longest_pause:.2f} s; {self.asked} "
            f"questions, {self.asked_again} tries again, {self.unanswered} unanswered, {len(self.wrong)} wrong, "
            f"slowest answer {self.slowest:.2f} s; {len(self.backwards)} revisions or serials backwards"
        )

    # ---------------------------------------------------------------- inside

    async def _run(self) -> None:
        limit = aiohttp.ClientTimeout(HTTP_TIMEOUT)
        async with aiohttp.ClientSession(self._url, timeout=limit) as self._session:
            try:
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Answers(self._waiting), remote_addr=("127.0.0.1", self._dns_port)
                )
                async with asyncio.TaskGroup() as group:
                    tasks = []
                    for first in range(0, SERVICES * EACH, AGENT):
                        numbers = range(first, first + AGENT)
                        leases = await asyncio.gather(*map(self._register, numbers))
                        if first < SINGLE:
                            tasks += [group.create_task(self._beat_alone(number)) for number in numbers]
                        else:
                            tasks.append(group.create_task(self._beat(leases)))
                    tasks.append(group.create_task(self._ask(transport, group)))
                    self._began.set()
                    await loop.run_in_executor(None, self._stop.wait)
                    for task in tasks:
                        task.cancel()
                transport.close()
            except BaseException as error:
                self.failure = error
                raise
            finally:
                self._began.set()

    async def _register(self, number: int) -> str:
        service, instance = name(number)
        fields = {"host": address(number), "port": 80, "lease_ttl": TTL}
        async with self._session.put(f"/v1/services/{service}/{instance}", json=fields) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["lease"])

    async def _beat(self, leases: Sequence[str]) -> None:
        await self._keep_beating("/v1/heartbeats", {"leases": list(leases)})

    async def _beat_alone(self, number: int) -> None:
        service, instance = name(number)
        await self._keep_beating(f"/v1/services/{service}/{instance}/heartbeat", None)

    async def _keep_beating(self, path: str, body: Any) -> None:
        await asyncio.sleep(self._rng.uniform(0, BEAT_EVERY))
        heard = time.monotonic()
        while True:
            try:
                async with self._session.post(path, json=body) as answer:
                    said = await answer.json()
                    if answer.status == 404:
                        self.missing.append(path)
                    elif answer.status != 200:
                        raise aiohttp.ClientError(str(said))
                    self._see_revision(answer.headers.get("X-Revision"))
                    self.missing += said.get("missing", ())
            except (aiohttp.ClientError, OSError, TimeoutError):
                self.beats_again += 1
                await asyncio.sleep(AGAIN)
                continue
            now = time.monotonic()
            self.longest_pause, heard = max(self.longest_pause, now - heard), now
            self.beats += len(body["leases"]) if body else 1
            await asyncio.sleep(BEAT_EVERY)

    def _see_revision(self, told: str | None) -> None:
        if told is not None:
            if int(told) < self._revision - 1_000_000:  # answers overtake each other, moves do not
                self.backwards.append(f"X-Revision {self._revision} {told}")
            self._revision = max(self._revision, int(told))

    async def _ask(self, transport: asyncio.DatagramTransport, group: asyncio.TaskGroup) -> None:
        while True:
            number = self._rng.randrange(SERVICES * EACH)
            service, instance = name(number)
            kind = self._rng.randrange(10)
            if kind == 0:
                group.create_task(self._ask_one(transport, ZONE, "SOA", []))
            elif kind < 4:
                first = number // EACH * EACH
                wanted = sorted(map(address, range(first, first + EACH)))
                group.create_task(self._ask_one(transport, f"{service}.{ZONE}", "A", wanted))
            else:
                wanted = [address(number)]
                group.create_task(self._ask_one(transport, f"{instance}.{service}.{ZONE}", "A", wanted))
            await asyncio.sleep(ASK_EVERY)

    async def _ask_one(
        self, transport: asyncio.DatagramTransport, owner: str, rtype: str, wanted: list[str]
    ) -> None:
        """As dig does: the same question up to three times. Its answer is compared with `wanted` (SOA: its serial)."""
        self.asked += 1
        query = dns.message.make_query(owner, rtype, use_edns=0, payload=1232)
        while query.id in self._waiting:
            query.id = self._rng.randrange(1 << 16)
        begin, serial = time.monotonic(), self._serial
        answered = self._waiting[query.id] = asyncio.get_running_loop().create_future()
        try:
            for attempt in range(DIG_TRIES):
                self.asked_again += attempt > 0
                transport.sendto(query.to_wire())
                done, _ = await asyncio.wait([answered], timeout=DIG_TIMEOUT)
                if done:
                    break
            else:
                self.unanswered += 1
                return
        finally:
            del self._waiting[query.id]
        self.slowest = max(self.slowest, time.monotonic() - begin)
        answer = answered.result()
        got = sorted(item.to_text() for rrset in answer.answer for item in rrset)
        if rtype == "SOA" and got:
            new = int(got[0].split()[2])
            if (new - serial) % (1 << 32) >= 1 << 31:
                self.backwards.append(f"serial {serial} {new}")
            self._serial = new
        elif answer.rcode() != dns.rcode.NOERROR or got != wanted:
            self.wrong.append(f"{owner} {rtype}: {answer}")


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, waiting: dict[int, asyncio.Future[dns.message.Message]]) -> None:
        self._waiting = waiting

    def datagram_received(self, data: bytes, addr: object) -> None:
        answer = dns.message.from_wire(data)
        waiting = self._waiting.get(answer.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def error_received(self, error: Exception) -> None:
        pass  # refused: the question is asked again after its time

"""Who watches the store during a chaos run: its history from every member, and who leads it.

Owns what is known of the store without asking a node. It goes to the members directly, past every cut, with etcd's own
client and HTTP, and through none of our code. Each member's history is read apart; of an event the earliest counts.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import aiohttp

from tests.cluster.history import History, Seen, Span
from tests.cluster.load import Now

PREFIX = "/skydns/"
LOOK = 0.2  # seconds between two looks at who leads
ANSWERS = 0.5  # seconds that a member may take to say so
STEP = 0.05
STALL = 0.25  # seconds that the loop may be late


class StoreWatch:
    """`members`: name -> client URL. `revision`: up to which the history is known."""

    def __init__(self, history: History, members: Mapping[str, str], now: Now) -> None:
        self._history = history
        self._members = members
        self._now = now
        self._known: set[tuple[int, str]] = set()
        self.revision = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for url in self._members.values():
                group.create_task(self._follow(url))

    async def _follow(self, url: str) -> None:
        after = 0
        while True:
            command = ("etcdctl", "--endpoints", url, "watch", "--prefix", PREFIX, "--rev", str(after + 1))
            child = await asyncio.create_subprocess_exec(
                *command,
                *("--write-out", "json"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=1 << 24,
            )
            assert child.stdout is not None
            try:
                async for line in child.stdout:
                    for event in json.loads(line).get("Events") or ():
                        after = max(after, event["kv"]["mod_revision"])
                        self._take(event["kv"], deleted=event.get("type", 0) == 1)
                await asyncio.sleep(STEP)  # the member was not there: etcdctl gave up
            finally:
                if child.returncode is None:
                    child.kill()
                await child.wait()

    def _take(self, kv: Mapping[str, object], *, deleted: bool) -> None:
        name = instance_of(str(kv["key"]))
        revision = int(str(kv["mod_revision"]))
        if (revision, name) not in self._known:
            self._known.add((revision, name))
            self._history.seen.append(Seen(name, revision, deleted, self._now()))
        self.revision = max(self.revision, revision)


def instance_of(key: str) -> str:
    """A key in base64 as clients name the instance: /skydns/internal/discovery/s1/i2 is i2.s1."""
    *_, service, instance = base64.b64decode(key).decode().split("/")
    return f"{instance}.{service}"


class Word(NamedTuple):
    """What a member says: who it is, who leads, and in which term."""

    member: str
    leader: str
    term: str


class Leadership:
    """`name`: who led last, by the name of the member."""

    def __init__(self, history: History, members: Mapping[str, str], now: Now) -> None:
        self._history = history
        self._members = members
        self._now = now
        self._present: tuple[str, str] | None = None  # (leader, term)
        self._last = 0.0
        self.changes = 0
        self.name = next(iter(members))

    async def run(self) -> None:
        """Until it is cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWERS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                begin = self._now()
                words = await asyncio.gather(*(self._ask(session, url) for url in self._members.values()))
                self._note(dict(zip(self._members, words, strict=True)), begin)
                await asyncio.sleep(LOOK)

    async def leads_itself(self, names: Sequence[str]) -> bool:
        """Whether one of these members says now that it leads."""
        timeout = aiohttp.ClientTimeout(total=ANSWERS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            words = await asyncio.gather(*(self._ask(session, self._members[name]) for name in names))
        return any(word is not None and word.leader == word.member for word in words)

    def _note(self, words: Mapping[str, Word | None], begin: float) -> None:
        leads, spans = led_by(words), self._history.led
        if leads is None or leads[1:] != self._present:
            if self._present is not None:
                spans[-1] = Span(spans[-1].since, max(self._last, spans[-1].since))
            self._present = None
        if leads is not None:
            if self._present is None:
                spans.append(Span(self._now()))
                self.changes += 1
            self.name, self._present, self._last = leads[0], leads[1:], begin

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> Word | None:
        try:
            async with session.post(f"{url}/v3/maintenance/status", data=b"{}") as answer:
                said = await answer.json()
                return Word(said["header"]["member_id"], said.get("leader", "0"), said["raftTerm"])
        except (aiohttp.ClientError, TimeoutError, KeyError):
            return None


def led_by(words: Mapping[str, Word | None]) -> tuple[str, str, str] | None:
    """(name, id, term) of the member that says itself that it leads, and of which a majority says so."""
    for name, word in words.items():
        if word is not None and word.leader == word.member:
            agree = sum(1 for each in words.values() if each is not None and each[1:] == word[1:])
            if 2 * agree > len(words):
                return name, word.leader, word.term
    return None


async def note_stalls(history: History, now: Now) -> None:
    """Notes when this process, and with it likely the machine, stood still. Until it is cancelled."""
    while True:
        before = now()
        await asyncio.sleep(STEP)
        if now() - before > STEP + STALL:
            history.stood.append(Span(before + STEP, now()))

"""The chaos run: `python -m tests.cluster.chaos [--seconds N] [--seed N] [--managed] [--keep DIRECTORY]`.

Three nodes over three members of etcd, in a network of their own, under load, while they are killed, stopped and cut
off. What must hold of it is `history`'s, which faults come when `schedule`'s. Prints the schedule, what came to pass
and the figures; ends with 1, and says what happened around each violation, when one was found. It needs root, or
goes on by itself in a user namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from tests.cluster.history import History, Span, Violation, excused, judged_dead, violations, was_up
from tests.cluster.load import TTLS, Clients, ask_for_ever, clock
from tests.cluster.managed_site import ManagedSite
from tests.cluster.observers import PREFIX, Leadership, StoreWatch, instance_of, note_stalls
from tests.cluster.schedule import Fault, schedule
from tests.cluster.site import DNS_PORT, MEMBERS, NODES, Site
from tests.support.api import until
from tests.support.network import network

INSTANCES = 45
QUESTION_EVERY = 0.12  # seconds, to each node
START = 60.0  # seconds for all to be ready on a busy machine
SETTLE = max(TTLS) + 8.0  # seconds under one leader, so that all who died are gone
SETTLE_LIMIT = 120.0
EQUAL = 30.0  # seconds for all views to be equal
AROUND = 15.0  # seconds of the log that a violation is told with


class Run:
    """One run on a site that is ready. `log` is what came to pass, in order."""

    def __init__(self, site: Site, seed: int, seconds: float) -> None:
        self.site = site
        self.faults = schedule(seed, seconds, MEMBERS, NODES)
        self.now = clock()
        self.history = History(up={name: [Span(0.0)] for name in NODES}, killed={name: [] for name in NODES})
        self.log: list[tuple[float, str]] = []
        members = {name: member.client for name, member in site.members.items()}
        nodes = {name: node.url for name, node in site.nodes.items()}
        self._chance = random.Random(seed)
        self.clients = Clients(self.history, nodes, self._chance, self.now, INSTANCES)
        self.watch = StoreWatch(self.history, members, self.now)
        self.leadership = Leadership(self.history, members, self.now)
        site.leader = lambda: self.leadership.name
        self._tasks: list[asyncio.Task[None]] = []

    def say(self, text: str) -> None:
        self.log.append((self.now(), text))
        print(f"{self.now():9.3f}  {text}", flush=True)

    async def go(self) -> None:
        """From the first registration to a complete history."""
        addresses = {name: (node.address, DNS_PORT) for name, node in self.site.nodes.items()}
        self._run(note_stalls(self.history, self.now))
        self._run(self.watch.run())
        self._run(self.leadership.run())
        self._run(self.clients.run())
        questions = (self.history, addresses, self._chance, self.now, self.clients, QUESTION_EVERY)
        asking = self._run(ask_for_ever(*questions))
        try:
            await asyncio.gather(*(self._befall(fault) for fault in self.faults))
            await self._settle()
            await self._compare()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await self._read_to_the_end()
        finally:
            for task in self._tasks:
                task.cancel()
            ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        failures = [each for each in ended if isinstance(each, Exception)] + self.clients.failures
        if failures:
            raise failures[0]

    def _run(self, part: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(part))
        return self._tasks[-1]

    # ---------------------------------------------------------------- faults

    async def _befall(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at - self.now())
        kills, stops = fault.kind.endswith("killed"), fault.kind.endswith("stopped")
        victims = self.site.targets(fault) if kills or stops else [self.site.target(fault)]
        whom = "all members" if fault.kind == "all apart" else ", ".join(victims)
        whom += f" and {fault.other}" if fault.kind.startswith("cut from one") else ""
        role = " (leads)" if self.leadership.name in victims else ""
        self.say(f"{whom}{role}: {fault.kind}, for {fault.lasts:.2f} s")
        gone = fault.side == "node" and (kills or stops)
        led = stops and not gone and await self.leadership.leads_itself(victims)
        if gone:
            self._down(fault.target, killed=kills)
        self.site.begin(fault)
        await asyncio.sleep(fault.lasts)
        if led:
            self.history.resumed.append(self.now())
        self.site.end(fault)
        if gone:  # one that was only stopped may have been in the middle of its start
            await until(lambda: self.site.nodes[fault.target].is_ready, START)
            self.history.up[fault.target].append(Span(self.now()))
        self.say(f"{whom}: {'ready again' if gone else 'well again'}")

    def _down(self, node: str, *, killed: bool) -> None:
        spans = self.history.up[node]
        spans[-1] = Span(spans[-1].since, self.now())
        if killed:
            self.history.killed[node].append(self.now())

    # ---------------------------------------------------------------- the end

    async def _settle(self) -> None:
        """Until one leader has been followed for so long that all the dead must be gone."""
        self.say("all faults are over")
        begin = self.now()
        while self.now() - begin < SETTLE_LIMIT:
            last = self.history.led[-1] if self.history.led else Span(begin)
            if last.until == float("inf") and self.now() - max(last.since, begin) > SETTLE:
                break
            await asyncio.sleep(0.1)
        self.clients.is_ending = True

    async def _compare(self) -> None:
        """Until all nodes list what the store holds, and can be written through; or until EQUAL has gone by."""
        begin = self.now()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                self.history.end = self.now()
                self.history.store = held = await self._held()
                self.history.views = {name: await self._listed(session, name) for name in NODES}
                equal = all(listed == held for listed in self.history.views.values())
                if equal and await self._held() == held and await self._are_writable(session):
                    self.say(f"all views are equal after {self.now() - begin:.2f} s: {len(held)} instances")
                    return
                assert self.now() - begin < 2 * EQUAL, "the nodes are not writable again"
                if self.now() - begin > EQUAL:
                    self.say("the views do not become equal")
                    return
                await asyncio.sleep(0.2)

    async def _held(self) -> frozenset[str]:
        text = await asyncio.to_thread(
            self.site.ctl, "get", "--prefix", PREFIX, "--keys-only", "--write-out", "json"
        )
        return frozenset(instance_of(kv["key"]) for kv in json.loads(text).get("kvs", ()))

    async def _listed(self, session: aiohttp.ClientSession, node: str) -> frozenset[str]:
        url = f"{self.site.nodes[node].url}/v1/services"
        async with session.get(url) as answer:
            services = [each["service"] for each in (await answer.json())["services"]]
        listed = set()
        for service in services:
            async with session.get(f"{url}/{service}") as answer:
                listed |= {f"{each['instance']}.{service}" for each in (await answer.json())["instances"]}
        return frozenset(listed)

    async def _are_writable(self, session: aiohttp.ClientSession) -> bool:
        for node in self.site.nodes.values():
            async with session.get(f"{node.url}/readyz?writes") as answer:
                if answer.status != 200:
                    return False
        return True

    async def _read_to_the_end(self) -> None:
        """Until the store's history is known up to now."""
        text = await asyncio.to_thread(self.site.ctl, "put", f"{PREFIX}end/end", "", "--write-out", "json")
        revision = json.loads(text)["header"]["revision"]
        await until(lambda: self.watch.revision >= revision, EQUAL)

    # ---------------------------------------------------------------- what is told of it

    def around(self, violation: Violation) -> Iterator[str]:
        """What came to pass around it, and what its instance or node went through, as lines in order of time."""
        since, until = violation.at - AROUND, violation.at + AROUND / 3
        lines = [(at, text) for at, text in self.log if since <= at <= until]
        for each in self.history.requests:
            if each.instance == violation.who and since <= each.sent <= until:
                answer = f"{each.status} at {each.answered:.3f}" if each.answered else "no answer"
                lines.append((each.sent, f"{each.verb} through {each.node}: {answer} ({each.revision})"))
        for event in self.history.seen:
            if event.instance == violation.who:
                what = "removed" if event.deleted else "put"
                lines.append((event.at, f"{what} in the store at revision {event.revision}"))
        lines += [(span.since, "a leader is followed") for span in self.history.led]
        lines += [(span.until, "no leader is followed") for span in self.history.led]
        for at, text in sorted(lines):
            if since <= at <= until:
                yield f"    {at:9.3f}  {text}"

    def figures(self) -> Iterator[str]:
        history = self.history
        by_verb = Counter((each.verb, each.status or "no answer") for each in history.requests)
        for verb in ("register", "beat", "deregister"):
            counts = {status: count for (each, status), count in by_verb.items() if each == verb}
            yield f"{verb}: " + ", ".join(
                f"{count:,} x {status}" for status, count in sorted(counts.items(), key=str)
            )
        removed = sum(event.deleted for event in history.seen)
        yield (
            f"events of the store: {len(history.seen):,}, of them removals {removed:,}, "
            f"too early by a deposed leader {excused(history)}"
        )
        instances = len({each.instance for each in history.requests})
        yield f"instances: {instances:,}, judged as dead {judged_dead(history):,}"
        yield f"leaders: {self.leadership.changes}, stalls of this machine over 0.25 s: {len(history.stood)}"
        answered = sorted(
            each.answered - each.sent
            for each in history.queries
            if each.answered is not None and was_up(history, each.node, each.sent, each.answered)
        )
        stale = sum(3 in each.extended for each in history.queries)
        yield f"questions: {len(history.queries):,}, answered by live nodes {len(answered):,}, stale {stale:,}"
        if answered:
            slowest = f"{answered[-1] * 1e3:.0f} ms"
            yield f"the live nodes' answers: p50 {_ms(answered, 0.5)}, p99 {_ms(answered, 0.99)}, slowest {slowest}"


def _ms(ordered: Sequence[float], share: float) -> str:
    return f"{ordered[int(len(ordered) * share)] * 1e3:.1f} ms"


@contextmanager
def started(directory: Path, *, managed: bool) -> Iterator[Site]:
    """A site whose members and nodes are all ready."""
    with network(MEMBERS if managed else (*MEMBERS, *NODES)) as net:
        site = ManagedSite(directory, net) if managed else Site(directory, net)
        try:
            site.start(START)
            yield site
        finally:
            site.close()


def run(directory: Path, seed: int, seconds: float, *, managed: bool) -> int:
    how = " CHAOS_MANAGED=1" if managed else ""
    print(f"chaos: seed {seed}, {seconds:.0f} s, logs in {directory}; the schedule:")
    with started(directory, managed=managed) as site:
        chaos = Run(site, seed, seconds)
        for fault in chaos.faults:
            print(f"  {fault}")
        asyncio.run(chaos.go())
    found = [*violations(chaos.history), *_too_little(chaos.history, seconds)]
    logs = "".join(file.read_text() for node in site.nodes.values() for file in [node.log])
    for figure in chaos.figures():
        print(figure)
    for violation in found:
        print(f"VIOLATION {violation}")
        print("\n".join(chaos.around(violation)))
    for line in [line for line in logs.splitlines() if "Traceback" in line or "please report this" in line]:
        print(f"FAULT in a node's log: {line}")
        found.append(Violation("fault", "a node", 0.0, line))
    print(f"{len(found)} violations; again: make chaos CHAOS_SEED={seed} CHAOS_SECONDS={seconds:.0f}{how}")
    return 1 if found else 0


def _too_little(history: History, seconds: float) -> Iterator[Violation]:
    """A run in which hardly anything happened shows nothing."""
    taken = Counter(each.verb for each in history.requests if each.status in (200, 201, 204))
    answered = sum(each.answered is not None for each in history.queries)
    for what, count, wanted in (
        ("acknowledged registrations", taken["register"], seconds),
        ("acknowledged heartbeats", taken["beat"], 3 * seconds),
        ("acknowledged deregistrations", taken["deregister"], seconds / 10),
        ("answered questions", answered, 5 * seconds),
        ("instances judged as dead", judged_dead(history), seconds / 4),
    ):
        if count < wanted:
            yield Violation("too little", what, history.end, f"{count}, where at least {wanted:.0f} were due")


def main() -> None:
    parser = argparse.ArgumentParser(description="kills, stops and cuts off nodes and members under load")
    parser.add_argument("--seconds", type=float, default=60, help="for which faults come")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--keep", type=Path, help="a new directory for all logs, which stays")
    parser.add_argument("--managed", action="store_true", help="members that the nodes run themselves")
    options = parser.parse_args()
    if os.geteuid() != 0:  # root in a user namespace is enough
        command = [sys.executable, "-m", "tests.cluster.chaos", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--map-root-user", *command])
    if options.keep is not None:
        options.keep.mkdir(parents=True)
        sys.exit(run(options.keep, options.seed, options.seconds, managed=options.managed))
    with tempfile.TemporaryDirectory() as name:
        sys.exit(run(Path(name), options.seed, options.seconds, managed=options.managed))


if __name__ == "__main__":
    main()

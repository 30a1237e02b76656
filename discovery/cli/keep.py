"""Staying registered: the loop behind `discovery register --keep`.

Owns one instance from its registration to its deregistration: it beats as often as the node asks for, registers again
when the node no longer knows the instance, and goes on trying while no node can take it. Nothing it waits for holds
up its end: being stopped cuts a call short. It never decides how long a lease lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from discovery.cli.remote import TIMEOUT, Answer, Node, NodeRefused
from discovery.errors import NodeUnreachable

RETRY = 1.0  # seconds between tries while the node is away; less than any lease should be
SHORTEST_CALL = 1.0  # seconds that a heartbeat is waited for, at least
LAST_CALL = 1.0  # seconds that the deregistration is waited for


async def keep(
    node: Node,
    path: Sequence[str],
    body: Mapping[str, object],
    stop: asyncio.Event,
    *,
    show: Callable[[Answer], None],
    say: Callable[[str], None],
) -> None:
    """Register `body` at `path`, `show` the answer, keep the instance until `stop`; then deregister it.

    Raises what the first registration raises; NodeRefused when the node refuses to register it again, for example
    because a shared lease is gone; NodeUnreachable or NodeRefused when it could not be deregistered.
    """
    kept = _Kept(node, path, body, say)
    living = asyncio.create_task(kept.live(show))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((living, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await living  # it ends by itself only with an error
    finally:
        for task in (living, stopping):
            task.cancel()
        await asyncio.gather(living, stopping, return_exceptions=True)
    await kept.deregister()


class _Kept:
    def __init__(
        self, node: Node, path: Sequence[str], body: Mapping[str, object], say: Callable[[str], None]
    ) -> None:
        self._node = node
        self._path = path
        self._body = body
        self._say = say
        self._name = f"{path[-1]} of {path[-2]}"
        self._answer: Answer = {}

    async def live(self, show: Callable[[Answer], None]) -> None:
        self._answer = await self._node.call("PUT", self._path, body=self._body)
        self._name = self._answer["name"]
        show(self._answer)
        clock = asyncio.get_running_loop().time
        away, began = False, clock()
        while True:
            every = pause_after(self._answer)
            # Counted from the last call's begin: one that hung has used up the pause, and the lease goes on running.
            await asyncio.sleep((min(every, RETRY) if away else every) - (clock() - began))
            began = clock()
            try:
                await self._beat(min(TIMEOUT, max(every, SHORTEST_CALL)))
            except (NodeUnreachable, NodeRefused) as error:
                if isinstance(error, NodeRefused) and error.answered < 500 and error.answered != 429:
                    raise
                if not away:
                    self._say(f"{self._name}: {error.detail}; trying again until it is back")
                away = True
            else:
                if away:
                    self._say(f"{self._name}: the node is back")
                away = False

    async def _beat(self, seconds: float) -> None:
        try:
            self._answer = await self._node.call("POST", (*self._path, "heartbeat"), seconds=seconds)
        except NodeRefused as refused:
            if refused.answered != 404:
                raise
            self._answer = await self._node.call("PUT", self._path, body=self._body, seconds=seconds)
            self._say(f"registered {self._name} again: the node no longer knew it")

    async def deregister(self) -> None:
        try:
            await self._node.call("DELETE", self._path, seconds=LAST_CALL)
        except (NodeUnreachable, NodeRefused) as error:
            if not isinstance(error, NodeRefused) or error.answered != 404:
                why = error.detail.partition(";")[0]
                raise NodeUnreachable(f"could not deregister {self._name} ({why}): {self._fate()}") from None
        self._say(f"deregistered {self._name}")

    def _fate(self) -> str:
        if lease := self._body.get("lease"):
            return f"it stays until lease {lease} ends"
        ttl = self._answer.get("lease_ttl")
        return f"its lease runs out by itself within {ttl} s" if ttl else "its lease runs out by itself"


def pause_after(answer: Answer) -> float:
    """Seconds to the next heartbeat; a node that names none (or 0) must not be flooded."""
    every = answer.get("heartbeat_every")
    return float(every) if isinstance(every, int | float) and every > 0 else RETRY

"""Staying registered: the loop behind `discovery register --keep`.

Owns the heartbeats of one instance from its registration to its deregistration: it beats as often as the node asks
for, registers again when the node no longer knows the instance, and goes on trying while no node can take it.
It never decides how long a lease lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from discovery.cli.remote import Answer, Node, NodeRefused
from discovery.errors import NodeUnreachable

RETRY = 1.0  # seconds between tries while the node is away; less than any lease should be


async def keep(
    node: Node,
    path: Sequence[str],
    body: Mapping[str, object],
    answer: Answer,
    stop: asyncio.Event,
    say: Callable[[str], None],
) -> None:
    """Keep the instance at `path`, registered with `body` and answered with `answer`, until `stop`; then deregister it.

    Raises NodeRefused when the node refuses to register it again, for example because a shared lease is gone.
    """
    name = answer["name"]
    away = False
    while not await _stopped(stop, min(pause_after(answer), RETRY) if away else pause_after(answer)):
        try:
            try:
                answer = await node.call("POST", (*path, "heartbeat"))
            except NodeRefused as refused:
                if refused.answered != 404:
                    raise
                answer = await node.call("PUT", path, body=body)
                say(f"registered {name} again: the node no longer knew it")
        except (NodeUnreachable, NodeRefused) as error:
            if isinstance(error, NodeRefused) and error.answered < 500 and error.answered != 429:
                raise
            if not away:
                say(f"{name}: {error.detail}; trying again until it is back")
            away = True
        else:
            if away:
                say(f"{name}: the node is back")
            away = False
    with suppress(NodeUnreachable):  # nothing more can be done: the lease runs out by itself
        try:
            await node.call("DELETE", path)
        except NodeRefused as refused:
            if refused.answered != 404:
                raise
    say(f"deregistered {name}")


def pause_after(answer: Answer) -> float:
    """Seconds to the next heartbeat; a node that names none (or 0) must not be flooded."""
    every = answer.get("heartbeat_every")
    return float(every) if isinstance(every, int | float) and every > 0 else RETRY


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()

"""Staying registered: what `discovery register --keep` does.

Owns the signals that end it and what it says at its beginning and end. The registration's life is the client's.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import msgspec

from discovery.cli.remote import Answer
from discovery.client import Client, Registration


async def keep(client: Client, registration: Registration, show: Callable[[Answer], None]) -> int:
    """`show` the first answer, keep the instance until SIGINT or SIGTERM, deregister it; the exit status.

    Raises Refused when a node refuses to register it, also again, for example because a shared lease is gone.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask_to_stop() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)  # a second ^C does not wait for the node

    # Before the registration: whatever ends this program from here on also takes the instance back.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask_to_stop)

    async def until_refused() -> None:
        show(msgspec.to_builtins(await registration.registered()))
        raise await registration.refused()

    async with client, registration:
        tasks = [asyncio.create_task(until_refused()), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return 0 if registration.error is None else 1  # it could not be deregistered: the log has said why

"""One command that runs while it is registered: what `discovery run` does.

Owns the command's process: it starts it, registers it, passes signals on, and takes it out of DNS before it is told
to end, so that nobody is sent to it any more. When it ends by itself it is deregistered at once. ^C and ^\\ of a
terminal reach it without us, and what it makes of them is its own: it stays registered for as long as it lives. It
ends with this process, even when this is killed: what nobody beats for must not go on unseen.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
from collections.abc import Sequence

from discovery.agent.signals import Sent, received, unblock
from discovery.client import Registration
from discovery.errors import DiscoveryError

PASSED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
ENDING = (signal.SIGTERM, signal.SIGINT)
LONGEST_WAIT = 30.0  # seconds that the command goes on, at most, until no resolver can hold it any more
NOT_FOUND, NOT_STARTED = 127, 126  # as shells have it
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class NotStarted(DiscoveryError):
    """The command could not be started; `exit_code` is what a shell would exit with."""

    code, status, exit_code = "not-started", 500, NOT_STARTED


class CommandMissing(NotStarted):
    exit_code = NOT_FOUND


async def run(registration: Registration, words: Sequence[str]) -> int:
    """The command's exit status; 128 and the signal's number where one ended it. Raises NotStarted."""
    with received(PASSED) as signals:
        status = await _run(signals, registration, words)
    return status if status >= 0 else 128 - status


async def _run(signals: asyncio.Queue[Sent], registration: Registration, words: Sequence[str]) -> int:
    process = await _started(words)
    ended = asyncio.create_task(process.wait())
    try:
        async with registration:
            passing = asyncio.create_task(_pass(signals, process, registration))
            await asyncio.wait([ended, passing], return_when=asyncio.FIRST_COMPLETED)
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
            if not ended.done():
                passing.result()  # it never ends but with an error
    finally:
        if process.returncode is None:
            process.kill()
        status = await ended
    return status


async def _started(words: Sequence[str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(*words, preexec_fn=_before)
    except FileNotFoundError:
        raise CommandMissing(f"there is no command {words[0]!r}: nothing was registered") from None
    except OSError as error:
        raise NotStarted(
            f"{words[0]!r} cannot be started ({error.strerror}): nothing was registered"
        ) from None


def _before() -> None:
    """In the child, before the command: SIGTERM when this process is gone (prctl(2))."""
    unblock()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _pass(
    signals: asyncio.Queue[Sent], process: asyncio.subprocess.Process, registration: Registration
) -> None:
    """Signals go to the command as they come. The first that is to end it waits until nobody is sent to it any more;
    a second one doesn't."""
    leaving: asyncio.Task[None] | None = None
    try:
        while True:
            number, by_terminal = await signals.get()
            if by_terminal:
                continue  # the command has it already
            if number in ENDING:
                if leaving is None:
                    leaving = asyncio.create_task(_leave(number, process, registration))
                    continue
                leaving.cancel()
            _send(process, number)
    finally:
        if leaving is not None:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)


async def _leave(
    number: signal.Signals, process: asyncio.subprocess.Process, registration: Registration
) -> None:
    await asyncio.sleep(min(LONGEST_WAIT, await registration.leave()))
    _send(process, number)


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)

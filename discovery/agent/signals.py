r"""Signals as they come, and who sent them: a process, or the terminal.

Owns that difference, which asyncio's handlers don't tell: what a terminal sends (^C, its end) goes to all of the
foreground's processes, so the one that we run has it already; what a process sends to us is for us alone. How: the
signals are blocked, and a thread waits for them (sigwaitinfo(2)). Who starts a process meanwhile unblocks them there.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

SI_KERNEL = 0x80  # siginfo's si_code (sigaction(2)): no process has sent it


class Sent(NamedTuple):
    number: signal.Signals
    by_terminal: bool


@contextmanager
def received(numbers: Sequence[signal.Signals]) -> Iterator[asyncio.Queue[Sent]]:
    """The signals of these numbers, in the order they come. Entered in the main thread, inside a running loop."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Sent] = asyncio.Queue()
    over = threading.Event()

    def wait() -> None:
        while True:
            found = signal.sigwaitinfo(numbers)
            if over.is_set():
                return
            sent = Sent(signal.Signals(found.si_signo), found.si_code == SI_KERNEL)
            loop.call_soon_threadsafe(queue.put_nowait, sent)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    thread = threading.Thread(target=wait, name="signals", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        over.set()
        assert thread.ident is not None
        signal.pthread_kill(thread.ident, numbers[0])
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """In a child, before its program: which else would never hear them."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

"""One worker: a process that answers DNS from a copy of the main process's view.

Owns the process: `python -m discovery.workers.process FD`, where FD is the socket to the main process. It opens
nothing itself, and ends when the main process does. How: each message is taken in between two questions, then
acknowledged; questions are answered from `Loaded` on. A fault on the way to the view ends the process, for the main
process has what a new one needs.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from time import perf_counter
from typing import cast

from discovery import logs
from discovery.dns.counters import DnsCounters
from discovery.dns_settings import dns_server, dns_settings, limits, view_of
from discovery.event_loop import new_event_loop, set_interpreter
from discovery.tls import context_of
from discovery.view import View
from discovery.workers import messages
from discovery.workers.messages import (
    Ack,
    Ask,
    Certificate,
    CookieKeys,
    Handed,
    Kept,
    Loaded,
    Records,
    Reloaded,
    Sampled,
    SetUp,
    Tick,
    Told,
)
from discovery.workers.published import follow

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Answering:
    """The view and the server, as the messages make them. `now` and all else in them is the main process's."""

    def __init__(self, set_up: SetUp) -> None:
        config = set_up.config
        logs.setup(config.log)
        self.view = view_of(config, View)
        self.counters = DnsCounters()
        settings = dns_settings(config, host_name=set_up.host_name, local_addresses=set_up.local_addresses)
        self.context: ssl.SSLContext | None = None
        self.server = dns_server(config, self.view, settings, self.counters)

    def take(self, message: Told) -> None:
        match message:
            case CookieKeys(secrets):
                self.server.cookies.use(secrets)
            case Certificate(cert, key):
                if cert:
                    self.context = context_of(cert, key)
                    self.server.renew(self.context)
            case Reloaded(config):
                logs.setup(config.log)
                self.server.limit(limits(config))
            case _:
                follow(self.view, message)
        self.view.newly_unreadable.clear()  # the main process tells of them
        self.view.unknown_leases.clear()  # and asks for these


class Worker(asyncio.Protocol):
    """`ended` is set when there is nothing more to do."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.answering: Answering | None = None
        self._transport: asyncio.Transport | None = None
        self._frames = messages.Frames()
        self._count = 0
        self._handed: Handed | None = None
        self._starting: asyncio.Task[None] | None = None
        self._serving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def eof_received(self) -> bool:
        self.ended.set()
        return True  # closed when the answers are out, by the end of the process

    def data_received(self, data: bytes) -> None:
        asked = False
        try:
            for content in self._frames.feed(data):
                message = messages.told(content)
                asked |= isinstance(message, Tick)
                self._take(message)
                self._count += 1
        except Exception:
            log.exception("a DNS worker could not take in what it was told, and ends")
            os._exit(1)
        self._acknowledge(counted=asked)

    def _take(self, message: Told) -> None:
        match message:
            case SetUp():
                self.answering = Answering(message)
                self._handed = message.handed
            case Ask(number, path, qtype):
                if self.answering is not None and self.answering.server.is_kept(path, qtype):
                    self._say(Kept(number))
            case _:
                assert self.answering is not None
                if isinstance(message, Records):
                    gc.disable()  # nothing but the view is made until it is loaded
                self.answering.take(message)
                if isinstance(message, Loaded):
                    gc.enable()
                    gc.freeze()  # what stays for long is not looked through again and again
                    if self._starting is None and self._handed is not None:
                        self._starting = asyncio.create_task(self._start(self.answering, self._handed))

    async def _start(self, answering: Answering, handed: Handed) -> None:
        udp, neighbours, tcp, tls = (
            [_socket(number) for number in numbers]
            for numbers in (handed.udp, handed.neighbours, handed.tcp, handed.tls)
        )
        try:
            await answering.server.start(udp, tcp, tls, answering.context, neighbours=neighbours)
        except Exception:
            log.exception("a DNS worker could not begin to answer, and ends")
            os._exit(1)
        self._serving = True
        self._acknowledge(counted=False)

    def _acknowledge(self, *, counted: bool) -> None:
        answering = self.answering
        ready = answering is not None and answering.view.ready
        if counted and answering is not None and (sampled := answering.counters.busiest.take(perf_counter())):
            self._say(Sampled(sampled))
        counters = answering.counters.values() if counted and answering is not None else None
        self._say(Ack(self._count, self._serving, ready, counters))

    def _say(self, message: messages.Said) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(messages.frame(message))


def _socket(number: int) -> socket.socket:
    return socket.socket(fileno=number)


async def run(number: int) -> None:
    loop = asyncio.get_running_loop()
    worker = Worker()
    await loop.create_unix_connection(lambda: worker, sock=_socket(number))
    await worker.ended.wait()
    if worker.answering is not None:
        await worker.answering.server.close()


def main(number: int, parent: int) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # the main process ends us when it has ended what comes before
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # log lines may go to a terminal that is not ours
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also while we are stopped, or stuck
    if os.getppid() != parent:
        return  # it ended before that took hold
    set_interpreter()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run(number))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

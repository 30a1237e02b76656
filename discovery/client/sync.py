"""The client for programs without an event loop: the same calls, which block.

Owns one event loop in a thread of its own, which all clients and registrations of the process share, and the way
there and back; what happens there is `discovery.client`'s. A call that is interrupted (^C) is cancelled there and
leaves nothing behind. After a fork the child begins with a loop of its own: open clients stay the parent's.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from discovery import client as asynchronous
from discovery.client.checks import Checking
from discovery.client.endings import to_the_end
from discovery.client.fields import Beat, Event, Fields, Instance
from discovery.client.order import Endpoint

ENDING = 5.0  # seconds that an interrupted call has to end cleanly, at most

T = TypeVar("T")


class _Loop:
    """The loop's thread, begun with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                name = "discovery.client"
                threading.Thread(target=self._loop.run_forever, name=name, daemon=True).start()
            ended = threading.Event()
            future = asyncio.run_coroutine_threadsafe(_noting(work, ended), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():  # ^C: what was begun is taken back first
                future.cancel()
                ended.wait(ENDING)
            raise

    def forked(self) -> None:
        self.__init__()  # type: ignore[misc]  # the thread and whoever held the lock stayed with the parent


async def _noting(work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await work
    finally:
        ended.set()


_loop = _Loop()
os.register_at_fork(after_in_child=_loop.forked)


class Client:
    """discovery.client.Client, for `with`: the same arguments, calls and errors."""

    def __init__(
        self,
        nodes: str | Sequence[str] | None = None,
        *,
        token: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        dns: str | Sequence[str] | None = None,
        zone: str | None = None,
    ) -> None:
        self._client = asynchronous.Client(nodes, token=token, ca=ca, cert=cert, key=key, dns=dns, zone=zone)

    def __enter__(self) -> Self:
        _loop.run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _loop.run(self._client.__aexit__(kind, error, trace))

    def register(self, service: str, instance: str, **fields: Unpack[Fields]) -> Instance:
        return _loop.run(self._client.register(service, instance, **fields))

    def deregister(self, service: str, instance: str) -> None:
        _loop.run(self._client.deregister(service, instance))

    def heartbeat(self, service: str, instance: str) -> Beat:
        return _loop.run(self._client.heartbeat(service, instance))

    def instance(self, service: str, instance: str) -> Instance:
        return _loop.run(self._client.instance(service, instance))

    def instances(self, service: str, *, subtree: bool = False) -> list[Instance]:
        return _loop.run(self._client.instances(service, subtree=subtree))

    def services(self, prefix: str = "") -> dict[str, int]:
        return _loop.run(self._client.services(prefix))

    def resolve(self, service: str, *, over: Literal["dns", "http"] | None = None) -> list[Endpoint]:
        return _loop.run(self._client.resolve(service, over=over))

    def watch(self, service: str, *, subtree: bool = False, since: int | None = None) -> Generator[Event]:
        """End it with `close()` (contextlib.closing), or by leaving the loop over it."""
        events = self._client.watch(service, subtree=subtree, since=since)

        async def following() -> Event:
            return await anext(events)

        try:
            while True:
                yield _loop.run(following())
        finally:
            if not sys.is_finalizing():  # the loop's thread has ended then, and nobody would answer
                _loop.run(to_the_end(events.aclose()))


class Registration:
    """discovery.client.Registration, for `with`: it beats in the background.

    `check`: called in a thread every few seconds; it is registered only while that returns True.
    """

    def __init__(
        self,
        service: str,
        instance: str | None = None,
        *,
        client: Client | None = None,
        check: Callable[[], bool] | None = None,
        **fields: Unpack[Fields],
    ) -> None:
        async def checked() -> bool:
            assert check is not None
            return await asyncio.to_thread(check)

        checking = Checking(checked) if check is not None else None
        inner = client._client if client is not None else None
        self._registration = asynchronous.Registration(
            service, instance, client=inner, checking=checking, **fields
        )

    def __enter__(self) -> Self:
        _loop.run(self._registration.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _loop.run(self._registration.__aexit__(kind, error, trace))

    def registered(self, seconds: float | None = None) -> Instance:
        """As discovery.client.Registration.registered."""
        return _loop.run(self._registration.registered(seconds))

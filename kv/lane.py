"""One thread that does the work of many callers in groups.

Owns the way from the event loop to a thread with an SQLite connection, and back. It knows nothing of what a
job does. How: the jobs of one turn of the loop are handed over together; the thread takes all that wait, up
to GROUP, as one group (one transaction), and answers the loop once for all of them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from discovery.errors import StoreError
from discovery.histogram import Histogram
from discovery.kv.contract import Unavailable

GROUP = 1_024
"""Jobs in one group at most: bounds how long the first waits for the last."""

C = TypeVar("C")
T = TypeVar("T")
Job = Callable[[C], object]
Handed = list[tuple[Job[C], "asyncio.Future[object]"]]


class Answers:
    """What a group came to: one result a job (a StoreError fails its job), and a call for the loop to make first."""

    __slots__ = ("publish", "results")

    def __init__(self, results: Sequence[object], publish: Callable[[], None] | None = None) -> None:
        self.results = results
        self.publish = publish


class Lane(Generic[C]):
    """`run` is called in the thread with each group of jobs; it raises nothing. `duration` notes what each took."""

    def __init__(
        self, name: str, run: Callable[[Sequence[Job[C]]], Answers], duration: Histogram | None = None
    ) -> None:
        self._run = run
        self._duration = duration
        self._loop = asyncio.get_running_loop()
        self._gathered: Handed[C] = []
        self._queue: SimpleQueue[Handed[C] | None] = SimpleQueue()
        self._ended = self._loop.create_future()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def do(self, job: Callable[[C], T]) -> T:
        """The job's result, after its group is done. A caller that is cancelled does not stop its job."""
        if self._closed:
            raise Unavailable("the store is closed: start it again")
        future = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append((job, future))
        return cast(T, await future)

    async def close(self) -> None:
        """Takes no new jobs, does all it has, and ends the thread."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _work(self) -> None:
        open_ended = True
        while open_ended:
            handed = self._queue.get()
            if handed is None:
                break
            while len(handed) < GROUP:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    open_ended = False
                    break
                handed.extend(more)
            for first in range(0, len(handed), GROUP):
                self._do_group(handed[first : first + GROUP])
        self._tell(self._end)

    def _do_group(self, group: Handed[C]) -> None:
        begun = time.perf_counter()
        answers = self._run([job for job, _ in group])
        if self._duration is not None:
            self._duration.note(time.perf_counter() - begun)
        self._tell(lambda: self._answer(group, answers))

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop was closed under a store that was not: no caller is left to be told

    def _answer(self, group: Handed[C], answers: Answers) -> None:
        try:
            if answers.publish is not None:
                answers.publish()
        finally:
            for (_, future), result in zip(group, answers.results, strict=True):
                if future.done():
                    continue  # its caller was cancelled
                if isinstance(result, StoreError):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

"""A small real HTTP server that speaks the calls of the API which the command line uses, from a thread of its own.

It keeps instances in a dict and notes every call, so a test can wait for one. It has no DNS and no leases that expire:
`forget` is what an expiry looks like from outside.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

DEADLINE = 5.0  # seconds that a test waits for what must come


def problem(status: int, detail: str, field: str | None = None) -> web.Response:
    document = {"type": "about:blank", "title": "No", "status": status, "detail": detail}
    if field:
        document["field"] = field
    return web.json_response(document, status=status, content_type="application/problem+json")


class HttpNode:
    """For `with`. `calls` are `(method, path)` as they came; `refusals` answer the next calls of a method, `answers`
    those of a method and path.

    Calls that come while `hangs` are noted, and never answered.
    """

    def __init__(self, heartbeat_every: float = 10) -> None:
        self.heartbeat_every = heartbeat_every
        self.instances: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: dict[tuple[str, str], object] = {}
        self.refusals: list[tuple[str, web.Response]] = []
        self.hangs = False
        self.port = 0
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens, on the same port as before when it was stopped."""
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(DEADLINE)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(DEADLINE)
            assert not self._thread.is_alive()

    def forget(self, service: str, instance: str) -> None:
        with self._changed:
            del self.instances[service, instance]

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), f"{what}; there were {self.calls}"

    def count(self, method: str, end: str = "") -> int:
        return sum(1 for name, path in self.calls if name == method and path.endswith(end))

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(ready))
        self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._stopping = asyncio.Event()
        app = web.Application(middlewares=[self._note])
        one = "/v1/services/{service}/{instance}"
        app.router.add_put(one, self._put)
        app.router.add_delete(one, self._delete)
        app.router.add_post(one + "/heartbeat", self._heartbeat)
        app.router.add_get("/v1/services/{service}", self._list)
        app.router.add_get("/v1/services", self._services)
        app.router.add_get("/html/v1/services", self._html)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.hangs:
            with self._changed:
                self.calls.append((request.method, request.raw_path))
                self._changed.notify_all()
            await self._stopping.wait()
        with self._changed:
            self.headers.append(dict(request.headers))
            for position, (method, refusal) in enumerate(self.refusals):
                if method == request.method:
                    del self.refusals[position]
                    response: web.StreamResponse = refusal
                    break
            else:
                held = self.answers.get((request.method, request.path))
                response = await handler(request) if held is None else web.json_response(held)
            self.calls.append((request.method, request.raw_path))
            self._changed.notify_all()
            return response

    def _key(self, request: web.Request) -> tuple[str, str]:
        return request.match_info["service"], request.match_info["instance"]

    async def _put(self, request: web.Request) -> web.Response:
        key, body = self._key(request), await request.json()
        service, instance = key
        given = {
            "host": "",
            "port": 0,
            "priority": 10,
            "weight": 100,
            "tags": [],
            "lease_ttl": 30,
            "lease": "6a",
            "drained_at": None,
        }
        new = key not in self.instances
        self.instances[key] = (
            given | body | {"service": service, "instance": instance, "name": f"{instance}.{service}.test."}
        )
        answer = self.instances[key] | {"revision": 7, "heartbeat_every": self.heartbeat_every}
        return web.json_response(answer, status=201 if new else 200)

    async def _delete(self, request: web.Request) -> web.Response:
        if self.instances.pop(self._key(request), None) is None:
            return problem(404, "there is no such instance")
        return web.Response(status=204)

    async def _heartbeat(self, request: web.Request) -> web.Response:
        if self._key(request) not in self.instances:
            return problem(404, "there is no such instance")
        return web.json_response({"lease": "6a", "lease_ttl": 30, "heartbeat_every": self.heartbeat_every})

    async def _list(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        found = [one for (name, _), one in sorted(self.instances.items()) if name == service]
        return web.json_response({"service": service, "revision": 7, "instances": found})

    async def _services(self, request: web.Request) -> web.Response:
        """Two a page, whatever is asked, so that a client has to page."""
        counts: dict[str, int] = {}
        for service, _ in sorted(self.instances):
            counts[service] = counts.get(service, 0) + 1
        after = request.query.get("after", "")
        left = [{"service": name, "instances": count} for name, count in counts.items() if name > after]
        following = left[1]["service"] if len(left) > 2 else None
        return web.json_response({"revision": 7, "services": left[:2], "next": following})

    async def _html(self, request: web.Request) -> web.Response:
        return web.Response(text="<h1>Bad gateway</h1>", status=502)

"""/v1/busiest: which questions DNS is asked most.

Owns this route. What it tells comes from samples, of this node alone.
"""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS

NAMES, MAX_NAMES = 20, 200


class BusyName(msgspec.Struct):
    """`sampled`: how many of the samples asked for it."""

    name: str
    type: str
    sampled: int


class Busiest(msgspec.Struct):
    """Of about one question in 64 over the last `seconds`, `sampled` in all; `names`: the most frequent first."""

    seconds: float
    sampled: int
    names: list[BusyName]


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/busiest", get)]


async def get(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    limit = bodies.number(bodies.query(request, "limit"), "limit", 1, MAX_NAMES) or NAMES
    if parts.workers is not None:
        await parts.workers.tally()
    seconds, sampled, found = parts.metrics.dns.busiest.top(limit, time.perf_counter())
    return reply(request, Busiest(round(seconds, 3), sampled, [BusyName(*each) for each in found]))

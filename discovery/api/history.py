"""/v1/history: the node's last hour in rates and latencies, which the web page draws.

Owns this route and its shape; the samples are `history`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from discovery.api import bodies
from discovery.api.answers import reply
from discovery.api.parts import PARTS, rfc3339
from discovery.history import EVERY


class HistoryAnswer(msgspec.Struct):
    """Of every space between two samples, the oldest first: `until` is its end, `rates` by series are a second.
    `every`: seconds between two samples, when all is well."""

    every: float
    until: Sequence[str]
    rates: Mapping[str, Sequence[float]]


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/history", get)]


async def get(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    history = parts.history
    return reply(request, HistoryAnswer(EVERY, [rfc3339(at) for at in history.times()], history.rates()))

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

QUANTILES = {"p50": 0.5, "p99": 0.99}


class HistoryAnswer(msgspec.Struct):
    """Of every space between two samples, the oldest first: `until` is its end, `rates` by series are a second,
    `latency` are quantiles in seconds, null where nothing was timed (of DNS one question in 64 is). `every`: seconds
    between two samples, when all is well."""

    every: float
    until: Sequence[str]
    rates: Mapping[str, Sequence[float]]
    latency: Mapping[str, Sequence[float | None]]


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/history", get)]


async def get(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    bodies.query(request)
    history = parts.history
    latency = {
        f"{histogram}_{name}": history.quantile(histogram, share)
        for histogram in history.bounds
        for name, share in QUANTILES.items()
    }
    return reply(
        request, HistoryAnswer(EVERY, [rfc3339(at) for at in history.ends()], history.rates(), latency)
    )

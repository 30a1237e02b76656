"""The HTTP application: all routes, what lies around them, and how long a connection may do nothing.

Owns the order of the middlewares and the limits of a connection. It binds no address: `node` does, with
`make_runner`. Before the view is loaded only the operators' routes answer.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import web

from discovery.api import (
    batch,
    bodies,
    busiest,
    cluster,
    draining,
    history,
    leases,
    lookup,
    members,
    openapi_routes,
    operator,
    page,
    sd,
    search,
    services,
    store,
    tokens,
    v2errors,
    v2keys,
    watch,
)
from discovery.api.access import V2, access
from discovery.api.admission import EXEMPT
from discovery.api.auditing import audit
from discovery.api.browsers import add_headers
from discovery.api.changes import CHANGES, Changes
from discovery.api.connection import MAX_HEADER, MAX_LINE, Connection, Runner
from discovery.api.hot import HotCalls
from discovery.api.parts import PARTS, ApiParts
from discovery.api.polls import POLLS, Polls
from discovery.api.problems import Handler, count, problems
from discovery.errors import TooManyRequests

IDLE_SECONDS = 60.0  # for a connection's next request, headers included, the first one's too
LINGER_SECONDS = 2.0  # for the rest of a body that was answered before its end, such as one too large
_PROBES = ("/healthz", "/readyz")  # which load balancers and other nodes ask, for all of us
_OPERATORS = ("/v1/cluster", "/v1/store", "/v1/config")  # most wanted when nothing else answers
SHUTDOWN_SECONDS = 1.0  # for requests at work when the node stops, which it does within 2 s


def make_app(parts: ApiParts) -> web.Application:
    """Everything of the API that this version has."""
    app = web.Application(
        middlewares=[count, audit, problems, _within_rate, access, _ready], client_max_size=bodies.MAX_BODY
    )
    app[PARTS] = parts
    app.on_response_prepare.append(add_headers)
    changes = app[CHANGES] = Changes(parts)
    changes.start()
    polls = app[POLLS] = Polls(parts)
    polls.start()
    app.on_shutdown.append(_end_streams)  # before the connections are waited for
    app.add_routes(
        [
            *services.routes(),
            *leases.routes(),
            *batch.routes(),
            *draining.routes(),
            *v2keys.routes(),
            *lookup.routes(),
            *busiest.routes(),
            *operator.routes(),
            *store.routes(),
            *cluster.routes(),
            *members.routes(),
            *tokens.routes(),
            *watch.routes(),
            *sd.routes(),
            *openapi_routes.routes(),
            *search.routes(),
            *history.routes(),
            *page.routes(),
        ]
    )
    return app


async def _end_streams(app: web.Application) -> None:
    app[CHANGES].close()
    app[POLLS].close()


def make_runner(app: web.Application, *, idle_seconds: float = IDLE_SECONDS) -> web.AppRunner:
    """Sets the limits of every connection: idle time, header size, the time to finish when the node stops."""
    return Runner(
        app,
        app[PARTS].admission,
        HotCalls(app),
        keepalive_timeout=idle_seconds,
        lingering_time=min(LINGER_SECONDS, idle_seconds),
        max_line_size=MAX_LINE,
        max_field_size=MAX_HEADER,
        auto_decompress=False,  # a compressed body is refused, and must not be unpacked before
        shutdown_timeout=SHUTDOWN_SECONDS,
        access_log=None,
    )


@web.middleware
async def _within_rate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Before a token is looked at: so that none can be guessed faster."""
    parts = request.app[PARTS]
    connection = cast(Connection, request.protocol)
    if (
        connection.client == EXEMPT
        or request.path in _PROBES
        or parts.admission.permits(connection.client, asyncio.get_running_loop().time())
    ):
        return await handler(request)
    error = TooManyRequests(
        f"this client calls more than {parts.admission.rate} times a second (http.rate): call less often"
    )
    resource = request.match_info.route.resource
    if resource is not None and resource.canonical.startswith(V2):
        return v2errors.failure(parts, v2errors.etcd_error(error, request))
    raise error


@web.middleware
async def _ready(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/v1/") and not request.path.startswith(_OPERATORS):
        request.app[PARTS].need_ready()
    return await handler(request)

"""Errors as RFC 9457 problem documents.

Owns the shape of every error answer of the API (`/v2/keys` has etcd's own), and the middleware that makes them:
DiscoveryError by its code and status, aiohttp's own errors, and what nobody expected, which is logged with its
traceback and answered without details.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.web_exceptions import HTTPException

from discovery.api.parts import PARTS
from discovery.errors import DiscoveryError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER = (
    "1"  # seconds; a 503 here means another node, or this one in a moment; no rate is below 1 a second
)
WAIT = frozenset({429, 503})  # the statuses that say so
CHALLENGE = 'Bearer realm="discovery"'  # RFC 6750 section 3

_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"})
_DETAILS = {
    404: "nothing is served at {path}: there are {served}",
    405: "{path} cannot be asked with {method}: use one of {allow}",
}


class Problem(msgspec.Struct, omit_defaults=True):
    """`type` is a relative URI that ends in the error's code; `detail` says what to change; `field` what is wrong."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


def problem_of(error: DiscoveryError) -> Problem:
    title = error.code.replace("-", " ").capitalize()
    return Problem(f"/problems/{error.code}", title, error.status, error.detail, error.field)


def answer(problem: Problem) -> web.Response:
    response = web.Response(
        body=msgspec.json.encode(problem), status=problem.status, content_type=CONTENT_TYPE
    )
    if problem.status in WAIT:
        response.headers["Retry-After"] = RETRY_AFTER
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error below becomes a problem document."""
    try:
        return await handler(request)
    except DiscoveryError as error:
        if error.status == 500:
            log.error("%s %s failed: %s", request.method, request.path, error.detail)
        return answer(problem_of(error))
    except HTTPException as error:
        return _of_aiohttp(request, error)
    except (ConnectionError, web.RequestPayloadError):
        raise  # the caller is gone, or sent a damaged body: aiohttp closes the connection
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return answer(internal())


@web.middleware
async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts every answer by method and status, and times it where it waited for no change; methods nobody knows are
    one."""
    begun = time.perf_counter()
    response = await handler(request)
    method = request.method if request.method in _METHODS else "other"
    metrics = request.app[PARTS].metrics
    metrics.count_http(method, response.status)
    if "wait=" not in request.raw_path and isinstance(response, web.Response):
        metrics.time_http(method, time.perf_counter() - begun)
    return response


def internal() -> Problem:
    return Problem(
        "/problems/internal", "Internal", 500, "the node met a fault of its own: its log has the details"
    )


def _served(app: web.Application) -> list[str]:
    """Where each resource begins, such as /v1/services and /healthz."""
    paths = (re.split(r"/?\{", resource.canonical)[0] for resource in app.router.resources())
    return sorted({"/".join(path.split("/")[:3]) for path in paths})


def _of_aiohttp(request: web.Request, error: HTTPException) -> web.Response:
    allow = error.headers.get("Allow", "")
    detail = _DETAILS.get(error.status, "the request was refused: {reason}")
    code = re.sub(r"[^a-z]+", "-", error.reason.lower())
    response = answer(
        Problem(
            f"/problems/{code}",
            error.reason,
            error.status,
            detail.format(
                path=request.path,
                method=request.method,
                allow=allow,
                reason=error.reason,
                served=", ".join(_served(request.app)),
            ),
        )
    )
    if allow:
        response.headers["Allow"] = allow
    return response

"""Errors and answers of etcd's old keys API.

Owns etcd 2's error codes, with its messages and statuses, how our own errors become them, and the headers that its
clients look for. It never decides when an error applies. `102` and `104` for a key with keys below it are never
answered: here both may exist.
"""

from __future__ import annotations

import hashlib
import logging

import msgspec
from aiohttp import web

from discovery.api.parts import ApiParts
from discovery.api.problems import CHALLENGE, RETRY_AFTER, WAIT
from discovery.errors import (
    Conflict,
    DiscoveryError,
    Forbidden,
    Misdirected,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthorized,
)

log = logging.getLogger(__name__)

KEY_NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, KEY_EXISTS, ROOT_READ_ONLY, NOT_EMPTY = (
    100,
    101,
    102,
    105,
    107,
    108,
)
UNAUTHORIZED, EMPTY_VALUE, BAD_TTL, BAD_INDEX, INVALID_FIELD, INVALID_FORM = 110, 201, 202, 203, 209, 210
REFRESH_WITH_VALUE, REFRESH_WITHOUT_TTL, INTERNAL, WATCH_ENDED, INDEX_CLEARED = 211, 212, 300, 400, 401
ERRORS = {
    KEY_NOT_FOUND: ("Key not found", 404),
    COMPARE_FAILED: ("Compare failed", 412),
    NOT_A_FILE: ("Not a file", 403),
    KEY_EXISTS: ("Key already exists", 412),
    ROOT_READ_ONLY: ("Root is read only", 403),
    NOT_EMPTY: ("Directory not empty", 403),
    UNAUTHORIZED: ("The request requires user authentication", 401),
    EMPTY_VALUE: ("PrevValue is Required in POST form", 400),
    BAD_TTL: ("The given TTL in POST form is not a number", 400),
    BAD_INDEX: ("The given index in POST form is not a number", 400),
    INVALID_FIELD: ("Invalid field", 400),
    INVALID_FORM: ("Invalid POST form", 400),
    REFRESH_WITH_VALUE: ("Value provided on refresh", 400),
    REFRESH_WITHOUT_TTL: ("A TTL must be provided on refresh", 400),
    INTERNAL: ("Raft Internal Error", 500),
    WATCH_ENDED: ("watcher is cleared due to etcd recovery", 400),
    INDEX_CLEARED: ("The event in requested index is outdated and cleared", 400),
}


class EtcdError(Exception):
    """`cause` says what was wrong; `status` where it is not the code's own; `index` 0: the present one."""

    def __init__(self, code: int, cause: str, *, status: int | None = None, index: int = 0) -> None:
        super().__init__(cause)
        self.code = code
        self.cause = cause
        self.status = status or ERRORS[code][1]
        self.index = index


class Failure(msgspec.Struct, rename="camel"):
    error_code: int
    message: str
    cause: str
    index: int


def etcd_error(error: DiscoveryError, request: web.Request) -> EtcdError:
    """The same in etcd's words."""
    if isinstance(error, Unauthorized | Forbidden):
        return EtcdError(UNAUTHORIZED, error.detail, status=error.status)
    if isinstance(error, NotFound):
        return EtcdError(KEY_NOT_FOUND, error.detail)
    if isinstance(error, Conflict):
        return EtcdError(COMPARE_FAILED, error.detail)
    if isinstance(error, TooLarge | Misdirected):
        return EtcdError(INVALID_FIELD, error.detail, status=error.status)
    if isinstance(error, TooManyRequests):
        return EtcdError(INTERNAL, error.detail, status=error.status)
    if error.status < 500:
        return EtcdError(INVALID_FIELD, error.detail, status=400)
    if error.status == 500:
        log.error("%s %s failed: %s", request.method, request.path, error.detail)
    return EtcdError(INTERNAL, error.detail, status=error.status)


def failure(parts: ApiParts, error: EtcdError) -> web.Response:
    index = error.index or parts.view.revision
    body = Failure(error.code, ERRORS[error.code][0], error.cause, index)
    response = answer(parts, body, index, status=error.status)
    if error.status in WAIT:
        response.headers["Retry-After"] = RETRY_AFTER
    if error.status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response


def answer(parts: ApiParts, body: object, index: int, *, status: int = 200) -> web.Response:
    return web.Response(
        body=encode(body), status=status, headers=headers(parts, index), content_type="application/json"
    )


def encode(body: object) -> bytes:
    return msgspec.json.encode(body) + b"\n"


def headers(parts: ApiParts, index: int) -> dict[str, str]:
    return {
        "X-Etcd-Index": str(index),
        "X-Raft-Index": str(index),
        "X-Etcd-Cluster-Id": cluster_id(parts.config.store.prefix),
        "X-Revision": str(index),
    }


def cluster_id(prefix: str) -> str:
    """16 hex digits, the same on all nodes of one prefix: clients give up when it changes."""
    return hashlib.sha256(prefix.encode()).hexdigest()[:16]

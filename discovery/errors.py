"""Every error a person can meet, as one tree.

Owns the root and the errors of the domain; `kv.contract` adds the store's below `StoreError`.
Each class carries three facts, so that no shell has to guess them:

    code       a stable word for programs (the last part of a problem document's `type`)
    status     the HTTP status it is answered with
    exit_code  the exit status of the command line: 1 failed, 2 wrong usage or set-up
"""

from __future__ import annotations

from typing import ClassVar

# DiscoveryError
# ├── ConfigError           a setting is wrong, or the surroundings do not fit (port taken, file unreadable)
# ├── InvalidField          a request's field or parameter is wrong
# ├── Unauthorized          no token, or none that is known and has not expired
# ├── Forbidden             the token does not allow it
# ├── NotFound              no such service, instance or lease
# ├── Conflict              the present state does not allow it
# ├── Misdirected           called by a name that is not this node's
# ├── PreconditionFailed    If-Match or If-None-Match did not hold
# ├── TooLarge              body over the limit
# ├── UnsupportedEncoding   a body that is compressed
# ├── TooManyRequests       a client over its rate
# ├── NotReady              the view has not been loaded yet, or the node is stopping
# ├── NodeUnreachable       the command line found no node to talk to
# └── StoreError            the store's own (discovery.kv.contract)


class DiscoveryError(Exception):
    """`detail` is one sentence that says what happened, to what, and what to do.

    `field` names the field, parameter or setting at fault, where one is.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class ConfigError(DiscoveryError):
    code, status, exit_code = "config", 400, 2


class InvalidField(DiscoveryError):
    code, status, exit_code = "invalid-field", 400, 2


class Unauthorized(DiscoveryError):
    code, status, exit_code = "unauthorized", 401, 1


class Forbidden(DiscoveryError):
    code, status, exit_code = "forbidden", 403, 1


class NotFound(DiscoveryError):
    code, status, exit_code = "not-found", 404, 1


class Conflict(DiscoveryError):
    code, status, exit_code = "conflict", 409, 1


class Misdirected(DiscoveryError):
    code, status, exit_code = "misdirected", 421, 1


class PreconditionFailed(DiscoveryError):
    code, status, exit_code = "precondition-failed", 412, 1


class TooLarge(DiscoveryError):
    code, status, exit_code = "too-large", 413, 1


class UnsupportedEncoding(DiscoveryError):
    code, status, exit_code = "unsupported-encoding", 415, 1


class TooManyRequests(DiscoveryError):
    code, status, exit_code = "too-many-requests", 429, 1


class NotReady(DiscoveryError):
    code, status, exit_code = "not-ready", 503, 1


class NodeUnreachable(DiscoveryError):
    code, status, exit_code = "node-unreachable", 502, 1


class StoreError(DiscoveryError):
    code, status, exit_code = "store", 500, 1


def needs_etcd(engine: str, error: ImportError) -> ConfigError:
    """The complaint about an engine whose packages are not installed."""
    return ConfigError(
        f"store.engine: {engine} needs the package {error.name}: "
        "install discovery-dns[etcd], or use the engine embedded",
        field="store.engine",
    )

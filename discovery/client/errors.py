"""What a client's call can fail with, as one tree below ClientError.

Owns the classes, and the step from an answer that is no to one of them. What is Unavailable may be tried again as it
is; what is Refused will be refused again until the call, the token or the registry has changed.
"""

from __future__ import annotations

from typing import ClassVar

from discovery.errors import DiscoveryError

# ClientError
# ├── Unavailable    no node took the call: none answers, or each says 429 or 5xx
# └── Refused        a node answered, and the answer is no
#     ├── BadCall            400, 413, 415, ...: the call is wrong
#     ├── NotAllowed         401, 403: the token or certificate does not allow it
#     ├── NotRegistered      404: no such instance or lease
#     ├── Contradicted       409, 412: the present state does not allow it
#     └── Compacted          410: the revision is older than the node remembers


class ClientError(DiscoveryError):
    """The root. `detail` is one sentence."""

    code, status, exit_code = "client", 500, 1


class Unavailable(ClientError):
    """No node took the call. `retry_after`: seconds to wait before the next try, where a node has named them;
    `answered`: the HTTP status, where one has answered."""

    code, status, exit_code = "unavailable", 503, 1

    def __init__(self, detail: str, *, retry_after: float | None = None, answered: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.answered = answered


class Refused(ClientError):
    """A node's no. `answered` is the HTTP status, `field` the field at fault where one is."""

    code, status, exit_code = "refused", 502, 1
    statuses: ClassVar[frozenset[int]] = frozenset()

    def __init__(self, detail: str, *, answered: int, field: str | None = None) -> None:
        super().__init__(detail, field=field)
        self.answered = answered


class BadCall(Refused):
    code, status, exit_code = "bad-call", 400, 2
    statuses = frozenset({400, 405, 406, 408, 411, 413, 414, 415, 422, 431})


class NotAllowed(Refused):
    code, status, exit_code = "not-allowed", 403, 1
    statuses = frozenset({401, 403})


class NotRegistered(Refused):
    code, status, exit_code = "not-registered", 404, 1
    statuses = frozenset({404})


class Contradicted(Refused):
    code, status, exit_code = "contradicted", 409, 1
    statuses = frozenset({409, 412})


class Compacted(Refused):
    code, status, exit_code = "compacted", 410, 1
    statuses = frozenset({410})


def refused(detail: str, answered: int, field: str | None = None) -> Refused:
    """The class that stands for the HTTP status."""
    for kind in (BadCall, NotAllowed, NotRegistered, Contradicted, Compacted):
        if answered in kind.statuses:
            return kind(detail, answered=answered, field=field)
    return Refused(detail, answered=answered, field=field)

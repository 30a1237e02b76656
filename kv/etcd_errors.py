"""What etcd's refusals mean in the contract's words.

Owns the one table from gRPC's status and etcd's exact message to the contract's errors, and the judgement whether a
write may have happened all the same and whether another member is worth asking. Pure: the status is given as words.
etcd says most things by message only (rpctypes/error.go), so the table goes by what a message holds.
"""

from __future__ import annotations

from typing import NamedTuple

from discovery.errors import StoreError
from discovery.kv.contract import (
    AuthError,
    Compacted,
    Corrupt,
    FutureRevision,
    InvalidRequest,
    LeaseExists,
    LeaseNotFound,
    NoSpace,
    Unavailable,
)


class Verdict(NamedTuple):
    """`elsewhere`: another member may answer. `login`: a new token may help."""

    error: StoreError
    elsewhere: bool = False
    login: bool = False


class TooLarge(Unavailable):
    """The answer is over gRPC's limit: a smaller page may be had."""


# Nothing of the call has reached the log of the cluster when etcd, or gRPC before it, says this.
_NOT_APPLIED = (
    "failed to connect to all addresses",
    "dns resolution failed",
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: too many requests",
    "etcdserver: rpc not supported for learner",
)
_UNHEALTHY = "etcdserver: unhealthy cluster"
_UNTRUSTED = "certificate_verify_failed"
_TLS = ("handshake failed", "tsi_")  # as grpc words what went wrong with TLS
_LOGIN = (
    "etcdserver: invalid auth token",
    "etcdserver: user name is empty",
    "etcdserver: revision of auth store is old",
    "auth: revision in header is old",
)
_REFUSED = (
    "permission denied",
    "etcdserver: authentication failed",
    "etcdserver: user name not found",
    "etcdserver: authentication is not enabled",
)
NO_AUTH = "etcdserver: authentication is not enabled"


def judge(code: str, message: str, endpoint: str) -> Verdict:
    """`code` is gRPC's name of the status, such as UNAVAILABLE; `message` what came with it."""
    said = message.lower()
    if any(each in said for each in _LOGIN):
        error = f"etcd at {endpoint} asks for a login ({message}): set store.etcd.username and password"
        return Verdict(AuthError(error), login=True)
    if any(each in said for each in _REFUSED) or code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        advice = (
            "check store.etcd.username and password, and that it may read and write the prefix and /discovery/ "
            "(a snapshot wants the role root)"
        )
        return Verdict(AuthError(f"etcd at {endpoint} refused: {message}; {advice}"))
    if "requested lease not found" in said:
        return Verdict(
            LeaseNotFound("the lease does not exist or has expired: grant a new one", field="lease")
        )
    if "lease already exists" in said:
        return Verdict(LeaseExists("a lease with that id exists: choose another id"))
    if "database space exceeded" in said:
        return Verdict(
            NoSpace(f"etcd at {endpoint} has used its quota: `discovery cluster defrag` gives room")
        )
    if "etcdserver: corrupt" in said or code == "DATA_LOSS":
        return Verdict(Corrupt(f"etcd at {endpoint} found its data damaged: {message}"))
    if "has been compacted" in said:
        return Verdict(Compacted(0))
    if "future revision" in said:
        return Verdict(
            FutureRevision("the revision is greater than the store's: it belongs to another store")
        )
    if "larger than max" in said:
        return Verdict(TooLarge(f"etcd at {endpoint}: {message}"))
    if "re-configuration failed" in said:  # which comes as UNKNOWN
        return Verdict(InvalidRequest(f"etcd refused the call: {message}"))
    if code in ("INVALID_ARGUMENT", "OUT_OF_RANGE", "FAILED_PRECONDITION", "NOT_FOUND", "UNIMPLEMENTED"):
        return Verdict(InvalidRequest(f"etcd refused the call: {message}"))
    if _UNTRUSTED in said:
        advice = (
            "its certificate is not trusted: check store.etcd.ca, and that it was issued for this address"
        )
        return Verdict(Unavailable(f"etcd at {endpoint}: {advice} ({message})"), elsewhere=True)
    if any(each in said for each in _TLS):
        message = f"no TLS connection, check store.etcd.cert and key ({message})"
    if _UNHEALTHY in said:  # of a change of members: it is the cluster's answer, not this member's
        return Verdict(Unavailable(f"etcd at {endpoint}: {message}"))
    maybe = not any(each in said for each in _NOT_APPLIED)
    words = "did not answer in time" if code == "DEADLINE_EXCEEDED" else message or code.lower()
    return Verdict(Unavailable(f"etcd at {endpoint}: {words}", maybe_applied=maybe), elsewhere=True)

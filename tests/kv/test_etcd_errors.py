"""What etcd's refusals mean: each message as etcd 3.4 words it."""

from __future__ import annotations

import pytest

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
from discovery.kv.etcd_errors import TooLarge, judge

URL = "http://10.0.0.1:2379"


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("NOT_FOUND", "etcdserver: requested lease not found", LeaseNotFound),
        ("FAILED_PRECONDITION", "etcdserver: lease already exists", LeaseExists),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", NoSpace),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", Compacted),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", FutureRevision),
        ("DATA_LOSS", "etcdserver: corrupt cluster", Corrupt),
        ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", InvalidRequest),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", InvalidRequest),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", InvalidRequest),
        ("OUT_OF_RANGE", "etcdserver: too large lease TTL", InvalidRequest),
        ("PERMISSION_DENIED", "etcdserver: permission denied", AuthError),
        ("UNKNOWN", "auth: permission denied", AuthError),
        ("UNAVAILABLE", "no connection: 10.0.0.1: Unwrap failed (TSI_DATA_CORRUPTED)", Unavailable),
        (
            "INVALID_ARGUMENT",
            "etcdserver: authentication failed, invalid user ID or password",
            AuthError,
        ),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (4200000 vs. 4194304)", TooLarge),
        ("UNAVAILABLE", "etcdserver: leader changed", Unavailable),
        ("UNKNOWN", "what no version says yet", Unavailable),
    ],
)
def test_each_refusal_is_one_of_the_contract_s_errors(
    code: str, message: str, kind: type[StoreError]
) -> None:
    verdict = judge(code, message, URL)
    assert type(verdict.error) is kind
    assert not verdict.login
    assert verdict.elsewhere is (kind is Unavailable)


@pytest.mark.parametrize(
    "message",
    [
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:2379: Connection refused",
        "DNS resolution failed for etcd.example:2379",
        "etcdserver: no leader",
        "etcdserver: not leader",
        "etcdserver: too many requests",
        "etcdserver: rpc not supported for learner",
    ],
)
def test_what_never_reached_the_log_was_not_applied_and_goes_elsewhere(message: str) -> None:
    verdict = judge("UNAVAILABLE", message, URL)
    assert isinstance(verdict.error, Unavailable)
    assert (verdict.error.maybe_applied, verdict.elsewhere) == (False, True)


def test_a_change_of_members_that_the_cluster_refuses_is_asked_of_no_other_member() -> None:
    verdict = judge("UNAVAILABLE", "etcdserver: unhealthy cluster", URL)
    assert isinstance(verdict.error, Unavailable)
    assert (verdict.error.maybe_applied, verdict.elsewhere) == (False, False)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        ("UNAVAILABLE", "etcdserver: request timed out"),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure"),
        ("UNAVAILABLE", "etcdserver: server stopped"),
        ("UNAVAILABLE", "Socket closed"),
        ("UNAVAILABLE", "Connection reset by peer"),
    ],
)
def test_silence_and_a_broken_connection_may_have_been_applied(code: str, message: str) -> None:
    verdict = judge(code, message, URL)
    assert isinstance(verdict.error, Unavailable)
    assert (verdict.error.maybe_applied, verdict.elsewhere) == (True, True)
    assert URL in verdict.error.detail


@pytest.mark.parametrize(
    "message",
    ["etcdserver: invalid auth token", "etcdserver: user name is empty", "auth: revision in header is old"],
)
def test_a_token_that_ended_wants_a_login_not_another_member(message: str) -> None:
    verdict = judge("UNAUTHENTICATED", message, URL)
    assert isinstance(verdict.error, AuthError)
    assert (verdict.login, verdict.elsewhere) == (True, False)


def test_each_refusal_says_where_and_what_to_do_in_one_line() -> None:
    for code, message, advice in (
        ("PERMISSION_DENIED", "etcdserver: permission denied", "/discovery/"),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", "store.etcd.username"),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", "cluster defrag"),
    ):
        detail = judge(code, message, URL).error.detail
        assert URL in detail
        assert advice in detail
        assert "\n" not in detail

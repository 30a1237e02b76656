"""What etcd 2's keys API answers with when it refuses."""

from __future__ import annotations

from tests.support.api import Answer


def failure(answer: Answer, status: int, code: int, message: str, cause: str | None = None) -> str:
    """Checks the whole shape of etcd's error; its cause."""
    body = answer.body
    assert set(body) == {"errorCode", "message", "cause", "index"}
    assert (answer.status, body["errorCode"], body["message"]) == (status, code, message), body
    assert answer.headers["X-Etcd-Index"] == str(body["index"])
    assert answer.headers["Content-Type"] == "application/json"
    if cause is not None:
        assert body["cause"] == cause
    return str(body["cause"])

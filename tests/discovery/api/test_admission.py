"""The limits of clients: who is exempt, what is counted, what is told, and what a reload changes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from discovery.api.admission import EXEMPT, TELL_EVERY, Admission
from discovery.metrics import Metrics
from discovery.settings import HttpConfig
from tests.support.api import CONFIG, problem, running_api

PEER = ("192.0.2.1", 4711)


@pytest.mark.parametrize(
    "peer", [("127.0.0.1", 1), ("::1", 1, 0, 0), ("::ffff:127.0.0.1", 1, 0, 0), "", None]
)
def test_loopback_and_unix_sockets_are_exempt_from_a_clients_limits(peer: object) -> None:
    admission = Admission(HttpConfig(rate=1, max_connections=3, max_connections_per_client=1), Metrics())
    client = admission.client(peer)
    assert client == EXEMPT
    assert all(admission.permits(client, 0.0) for _ in range(5))
    assert [admission.admit(client, peer, 0.0) for _ in range(4)] == [True, True, True, False]


def test_a_connection_that_ends_makes_room() -> None:
    admission = Admission(HttpConfig(max_connections_per_client=1), Metrics())
    client, other = admission.client(PEER), admission.client(("192.0.2.2", 1))
    for _ in range(3):
        assert admission.admit(client, PEER, 0.0)
        assert not admission.admit(client, PEER, 0.0)
        assert admission.admit(other, PEER, 0.0)
        admission.leave(client)
        admission.leave(other)
        assert len(admission) == 0


def test_refused_connections_are_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    admission = Admission(HttpConfig(max_connections_per_client=1), metrics)
    client = admission.client(PEER)
    admission.admit(client, PEER, 0.0)
    for now in (1.0, 2.0, TELL_EVERY, 1.0 + TELL_EVERY, 2.0 + TELL_EVERY):
        assert not admission.admit(client, PEER, now)
    assert [record.getMessage() for record in caplog.records] == [
        "an HTTP connection from 192.0.2.1 was closed at once: its client has 1 (http.max_connections_per_client); "
        f"{number} since this was last told"
        for number in (1, 3)
    ]
    assert metrics.http_connections_refused == 5


def test_a_reload_changes_the_limits_and_leaves_the_buckets_where_the_rate_stays() -> None:
    admission = Admission(HttpConfig(rate=1), Metrics())
    client = admission.client(PEER)
    assert [admission.permits(client, 0.0) for _ in range(2)] == [True, False]
    admission.limit(HttpConfig(rate=1, max_connections=1))
    assert not admission.permits(client, 0.0)
    assert [admission.admit(client, PEER, 0.0) for _ in range(2)] == [True, False]
    admission.limit(HttpConfig(rate=2))
    assert [admission.permits(client, 0.0) for _ in range(3)] == [True, True, False]
    assert admission.admit(client, PEER, 0.0)


async def test_a_client_over_its_rate_gets_429_but_for_the_probes(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, http=HttpConfig(rate=1))
    async with running_api(tmp_path, config, is_exempt=lambda address: False) as api:
        # Its bucket is empty until a time that no test lives to see.
        client = api.parts.admission.client(("127.0.0.1", 1))
        assert api.parts.admission.permits(client, 1e9)
        answer = await api.call("GET", "/v1/services")
        assert problem(answer, 429, "too-many-requests").startswith(
            "this client calls more than 1 times a second"
        )
        assert answer.headers["Retry-After"] == "1"
        assert (await api.call("GET", "/nowhere")).status == 429
        answer = await api.call("GET", "/v2/keys/a")
        assert (answer.status, answer.headers["Retry-After"], answer.body["errorCode"]) == (429, "1", 300)
        for probe in ("/healthz", "/readyz"):
            assert (await api.call("GET", probe)).status == 200
        assert api.metrics.http_rate_limited == 3
        assert api.metrics.http_requests["GET", 429] == 3
        api.parts.admission.limit(HttpConfig())
        assert "discovery_http_rate_limited_total 3.0" in (await api.call("GET", "/metrics")).text


async def test_loopback_has_no_rate(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, http=HttpConfig(rate=1))
    async with running_api(tmp_path, config) as api:
        for _ in range(3):
            assert (await api.call("GET", "/v1/services")).status == 200

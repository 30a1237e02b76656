"""/healthz, /readyz and /metrics (http-api.md, "For operators")."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from discovery.kv.embedded import EmbeddedStore
from tests.support.api import NOW, problem, running_api, until


async def test_healthz_tells_the_time_whatever_else_is_wrong(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        api.parts.stopping = True
        answer = await api.call("GET", "/healthz")
        assert (answer.status, answer.body) == (200, {"status": "ok", "time_ms": 1_700_000_000_250})
        assert (await api.call("HEAD", "/healthz")).status == 200


async def test_readyz_from_start_to_stop(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        answer = await api.call("GET", "/readyz")
        problem(answer, 503, "not-ready")
        assert answer.headers["Retry-After"] == "1"
        await api.feed.start()
        for url in ("/readyz", "/readyz?writes", "/readyz?writes=true"):
            answer = await api.call("GET", url)
            assert (answer.status, answer.body) == (200, {"status": "ready", "revision": 1, "stale": False})
        problem(await api.call("GET", "/readyz?write"), 400, "invalid-field", "write")
        api.parts.stopping = True
        assert "stopping" in problem(await api.call("GET", "/readyz"), 503, "not-ready")


async def test_readyz_without_the_store_is_ready_for_dns_but_not_for_writes(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.store.close()
        await until(lambda: api.feed.lost)
        api.clock.advance(31)
        await until(lambda: api.view.stale)
        answer = await api.call("GET", "/readyz")
        assert (answer.status, answer.body["stale"]) == (200, True)
        detail = problem(await api.call("GET", "/readyz?writes"), 503, "store-unavailable")
        assert "31.0 s" in detail


async def test_what_ails_the_store_s_member_is_told_where_it_shows(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        api.parts.trouble = lambda: "the member does not serve: it waits for http://10.0.0.2:2380"
        api.parts.certificates = lambda: {"store.member.cert": NOW + 60}
        assert (await api.call("GET", "/readyz")).status == 200
        assert api.parts.trouble() in (await api.call("GET", "/v1/cluster")).body["store"]["errors"]
        left = 'discovery_certificate_expires_seconds{setting="store.member.cert"} 60.0'
        assert left in (await api.call("GET", "/metrics")).text
        await api.store.close()
        await until(lambda: api.feed.lost)
        assert "10.0.0.2" in problem(await api.call("GET", "/readyz?writes"), 503, "store-unavailable")
        api.view.ready = False
        assert "10.0.0.2" in problem(await api.call("GET", "/readyz"), 503, "not-ready")


class Small(EmbeddedStore):
    """The real store, on what might be a full disk."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(path, clock=clock, max_bytes=1 << 18)


async def test_a_full_store_refuses_writes_and_readyz_says_why(tmp_path: Path) -> None:
    body = {"host": "10.0.0.1", "text": "x" * 60_000}
    async with running_api(tmp_path, store_type=Small) as api:
        stored = 0
        while (answer := await api.call("PUT", f"/v1/services/web.prod/i{stored}", body)).status == 201:
            stored += 1
            assert stored < 10
        problem(answer, 503, "no-space")
        assert answer.headers["Retry-After"] == "1"
        raw = await api.form("/v2/keys/skydns/test/big", value="x" * 100_000)
        assert (raw.status, raw.body["errorCode"], raw.headers["Retry-After"]) == (503, 300, "1")
        problem(await api.call("GET", "/readyz?writes"), 503, "store-unavailable")
        assert (await api.call("GET", "/readyz")).status == 200
        listed = await api.call("GET", "/v1/services/web.prod")
        assert len(listed.body["instances"]) == stored
        assert "X-Stale-Seconds" not in listed.headers


async def test_metrics_count_what_was_done(tmp_path: Path) -> None:
    one = "/v1/services/web.prod/i1"
    async with running_api(tmp_path) as api:
        for _ in range(2):
            await api.call("PUT", one, {"host": "10.0.0.1"})
        await api.call("POST", f"{one}/heartbeat")
        await api.call("POST", "/v1/services/web.prod/i2/heartbeat")
        await api.call("DELETE", one)
        await api.call("PUT", one, {"host": "10.0.0.1"})
        await api.call("GET", "/v1/services/web.prod?index=9999&wait=0")
        await api.call("PUT", "/v1/services/web.prod/short", {"host": "10.0.0.1", "lease_ttl": 5})
        await api.expire(6)
        await api.call("PUT", "/v1/services/web.prod/away", {"host": "10.0.0.1"})
        await api.call("POST", "/v1/services/web.prod/away/drain")
        await api.store.put(b"/skydns/test/bad", b"?")
        await api.caught_up()
        answer = await api.call("GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        expected = {
            ("discovery_registrations_total",): 4,
            ("discovery_registrations_unchanged_total",): 1,
            ("discovery_deregistrations_total",): 1,
            ("discovery_heartbeats_total",): 1,
            ("discovery_heartbeats_refused_total",): 1,
            ("discovery_http_requests_total", "PUT", "201"): 4,
            ("discovery_http_requests_total", "GET", "200"): 1,
            ("discovery_http_request_duration_seconds_count", "PUT"): 5,
            ("discovery_http_request_duration_seconds_count", "POST"): 3,
            ("discovery_instances_removed_total", "deregistered"): 1,
            ("discovery_instances_removed_total", "drained"): 1,
            ("discovery_instances_drained",): 1,
            ("discovery_http_connections",): 1,
            ("discovery_services",): 2,
            ("discovery_store_leases_expired_total",): 1,
            ("discovery_view_age_seconds",): 0,
            ("discovery_http_requests_total", "PUT", "200"): 1,
            ("discovery_http_requests_total", "POST", "404"): 1,
            ("discovery_instances",): 2,
            ("discovery_unreadable_records",): 1,
            ("discovery_unreadable_total",): 1,
            ("discovery_store_leases",): 2,
            ("discovery_view_ready",): 1,
            ("discovery_view_revision",): api.view.revision,
            ("discovery_feed_loads_total",): 1,
        }
        assert expected.items() - samples.items() == set()
        assert (
            samples["discovery_instances_removed_total", "expired"] >= 1
        )  # and what the test did to the store
        assert samples["discovery_store_operation_duration_seconds_count", "commit"] > 0
        assert ("discovery_http_request_duration_seconds_count", "GET") not in samples  # it was a long poll


async def test_metrics_are_there_without_the_store(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.store.close()
        answer = await api.call("GET", "/metrics")
        assert answer.status == 200
        assert "discovery_view_revision 1.0" in answer.text
        assert "discovery_store_revision" not in answer.text

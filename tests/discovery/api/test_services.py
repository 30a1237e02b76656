"""/v1/services, as a client sees it (http-api.md, "Instances")."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from discovery.settings import Config, ZoneConfig
from tests.support.api import Answer, problem, running_api, until

ONE = "/v1/services/web.prod/i1"
KEY = b"/skydns/internal/discovery/prod/web/i1"
HOST = {"host": "10.0.0.1", "port": 8080}


# ---------------------------------------------------------------- PUT and GET


async def test_a_registration_answers_with_every_field(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call("PUT", ONE, {**HOST, "lease_ttl": 15})
        assert answer.status == 201
        lease = answer.body["lease"]
        assert len(lease) == 16
        assert int(lease, 16) > 0
        assert answer.body == {
            "service": "web.prod",
            "instance": "i1",
            "name": "i1.web.prod.discovery.internal.",
            "host": "10.0.0.1",
            "port": 8080,
            "priority": 10,
            "weight": 100,
            "text": "",
            "mail": False,
            "ttl": 5,
            "targetstrip": 0,
            "group": "",
            "ports": {},
            "tags": [],
            "meta": {},
            "lease": lease,
            "lease_ttl": 15,
            "expires_at": "2023-11-14T22:13:35.250Z",
            "heartbeat_every": 5,
            "drained_at": None,
            "revision": 2,
        }
        assert answer.headers["X-Revision"] == "2"
        assert answer.headers["ETag"] == '"2"'
        assert "X-View-Revision" not in answer.headers
        assert "X-Stale-Seconds" not in answer.headers
        api.clock.advance(4)
        again = await api.call("GET", ONE)
        assert again.status == 200
        assert again.body == {**answer.body, "expires_at": "2023-11-14T22:13:31.250Z"}
        assert again.headers["ETag"] == '"2"'
        head = await api.call("HEAD", ONE)
        assert (head.status, head.text, head.headers["ETag"]) == (200, "", '"2"')


async def test_every_field_is_kept(tmp_path: Path) -> None:
    body = {
        "host": "db.example.com",
        "port": 1,
        "priority": 2,
        "weight": 3,
        "text": "ä\\ text",
        "mail": True,
        "ttl": 60,
        "targetstrip": 1,
        "group": "G1",
        "ports": {"HTTP": 8080, "dns/udp": 53, "web/tcp": 80},
        "tags": ["Blue", "green", "blue"],
        "meta": {"Version": "1.2"},
        "lease_ttl": 9,
    }
    async with running_api(tmp_path) as api:
        answer = await api.call("PUT", "/v1/services/db.other.test./Primary", body)
        assert answer.status == 201
        folded = {"ports": {"http": 8080, "dns/udp": 53, "web": 80}, "tags": ["blue", "green"]}
        assert answer.body.items() >= {**body, **folded}.items()
        assert answer.body["name"] == "primary.db.other.test."
        assert answer.body["service"] == "db.other.test."
        assert (await api.call("GET", "/v1/services/db.other.test./primary")).body == answer.body


async def test_defaults_are_those_of_the_closest_zone(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        body = (await api.call("PUT", "/v1/services/db.other.test./a", HOST)).body
        assert (body["ttl"], body["priority"], body["weight"]) == (7, 1, 2)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("/v1/services/web.prod.discovery.internal./i1", KEY),
        ("/v1/services/WEB.prod/I1", KEY),
        ("/v1/services/@/i1", b"/skydns/internal/discovery/i1"),
        ("/v1/services/discovery.internal./i1", b"/skydns/internal/discovery/i1"),
    ],
)
async def test_a_service_has_one_name_however_it_is_written(tmp_path: Path, url: str, key: bytes) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.call("PUT", url, HOST)).status == 201
        assert await api.kv(key) is not None


async def test_no_host_is_the_callers_address_but_never_loopback(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        detail = problem(await api.call("PUT", ONE, {"port": 1}), 400, "invalid-field", "host")
        assert "127.0.0.1" in detail
        problem(await api.call("PUT", ONE), 400, "invalid-field", "host")
        assert (await api.call("PUT", ONE, {"host": "", "text": "only TXT"})).body["host"] == ""


async def test_a_put_that_changes_nothing_writes_nothing_and_renews_the_lease(tmp_path: Path) -> None:
    body = {**HOST, "tags": ["a"], "meta": {"k": "v"}, "ports": {"http": 1}, "lease_ttl": 10}
    async with running_api(tmp_path) as api:
        first = await api.call("PUT", ONE, body)
        api.clock.advance(8)
        second = await api.call("PUT", ONE, body)
        assert (second.status, second.body) == (200, first.body)
        assert second.headers["X-Revision"] == second.headers["ETag"].strip('"') == "2"
        await api.expire(9)  # 17 s after the first, 9 s after the second
        assert (await api.call("GET", ONE)).status == 200
        await api.expire(2)
        assert (await api.call("GET", ONE)).status == 404


async def test_a_put_that_changes_something_keeps_and_renews_the_own_lease(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        first = await api.call("PUT", ONE, {**HOST, "lease_ttl": 10})
        api.clock.advance(8)
        second = await api.call("PUT", ONE, {**HOST, "port": 9, "lease_ttl": 10})
        assert second.status == 200
        assert second.body["lease"] == first.body["lease"]
        assert second.body["revision"] == 3
        await api.expire(9)
        assert (await api.call("GET", ONE)).body["port"] == 9


async def test_another_lease_ttl_is_a_new_lease_and_the_old_one_is_revoked(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        first = await api.call("PUT", ONE, {**HOST, "lease_ttl": 10})
        second = await api.call("PUT", ONE, {**HOST, "lease_ttl": 20})
        assert second.body["lease"] != first.body["lease"]
        assert second.body["lease_ttl"] == 20
        assert await api.leases() == 1
        default = await api.call("PUT", ONE, HOST)
        assert default.body["lease_ttl"] == 30
        assert await api.leases() == 1
        await api.expire(29)
        assert (await api.call("GET", ONE)).status == 200


async def test_lease_ttl_0_is_permanent(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, HOST)
        answer = await api.call("PUT", ONE, {**HOST, "lease_ttl": 0})
        permanent = {"lease": None, "lease_ttl": 0, "expires_at": None, "heartbeat_every": None}
        assert answer.body.items() >= permanent.items()
        assert await api.leases() == 0
        await api.expire(1e6)
        assert (await api.call("GET", ONE)).body == answer.body
        beat = await api.call("POST", f"{ONE}/heartbeat")
        assert (beat.status, beat.body) == (200, permanent)
        assert (await api.call("PUT", ONE, {**HOST, "lease_ttl": 0})).body["revision"] == 3


async def test_a_shared_lease_is_never_revoked_by_a_put(tmp_path: Path) -> None:
    two = "/v1/services/web.prod/i2"
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 40})).body["id"]
        for url in (ONE, two):
            answer = await api.call("PUT", url, {**HOST, "lease": lease})
            assert answer.status == 201
            assert (answer.body["lease"], answer.body["lease_ttl"]) == (lease, 40)
        again = await api.call("PUT", ONE, {**HOST, "lease": lease})
        assert (again.status, again.body["revision"]) == (200, 2)
        off = await api.call("PUT", ONE, HOST)
        assert off.body["lease"] != lease
        assert (await api.call("GET", two)).body["lease"] == lease
        await api.call("PUT", two, HOST)  # the lease holds nothing now, and is the agent's still
        assert (await api.call("GET", f"/v1/leases/{lease}")).body["instances"] == []


async def test_an_own_lease_that_others_were_put_on_is_left_alone(tmp_path: Path) -> None:
    two = "/v1/services/web.prod/i2"
    async with running_api(tmp_path) as api:
        lease = (await api.call("PUT", ONE, HOST)).body["lease"]
        await api.call("PUT", two, {**HOST, "lease": lease})
        assert (await api.call("PUT", ONE, {**HOST, "lease_ttl": 11})).body["lease"] != lease
        assert (await api.call("GET", two)).status == 200
        assert (await api.call("DELETE", ONE)).status == 204
        assert (await api.call("GET", two)).status == 200


async def test_a_lease_that_is_not_there(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        problem(await api.call("PUT", ONE, {**HOST, "lease": "1234"}), 404, "lease-not-found", "lease")
        assert await api.kv(KEY) is None
        problem(await api.call("PUT", ONE, {**HOST, "lease": "xyz"}), 400, "invalid-field", "lease")
        both = {**HOST, "lease": "1234", "lease_ttl": 5}
        problem(await api.call("PUT", ONE, both), 400, "invalid-field", "lease_ttl")


# ---------------------------------------------------------------- preconditions


async def test_if_match_and_if_none_match(tmp_path: Path) -> None:
    async def put(port: int, **headers: str) -> Answer:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        return await api.call("PUT", ONE, {**HOST, "port": port}, headers=names)

    async with running_api(tmp_path) as api:
        problem(await put(1, If_Match='"1"'), 412, "precondition-failed")
        problem(await put(1, If_Match="*"), 412, "precondition-failed")
        assert (await put(1, If_None_Match="*")).status == 201
        problem(await put(2, If_None_Match="*"), 412, "precondition-failed")
        problem(await put(2, If_None_Match='"7", W/"2"'), 412, "precondition-failed")
        problem(await put(2, If_Match='"7"'), 412, "precondition-failed")
        problem(await put(2, If_Match='W/"2"'), 412, "precondition-failed")
        problem(await put(2, If_Match='"02"'), 412, "precondition-failed")
        problem(await put(2, If_Match="1"), 400, "invalid-field", "If-Match")
        problem(await put(2, If_Match='"' + "1" * 5000 + '"'), 412, "precondition-failed")
        assert (await put(2, If_Match='"7","2"')).body["revision"] == 3
        assert (await put(3, If_Match="*")).headers["ETag"] == '"4"'
        fresh = await api.call("GET", ONE, headers={"If-None-Match": '"4"'})
        assert (fresh.status, fresh.text, fresh.headers["ETag"]) == (304, "", '"4"')
        assert (await api.call("GET", ONE, headers={"If-None-Match": '"2"'})).status == 200
        assert (await api.call("GET", ONE, headers={"If-Match": '"4"'})).status == 200
        problem(await api.call("GET", ONE, headers={"If-Match": '"2"'}), 412, "precondition-failed")
        problem(await api.call("DELETE", ONE, headers={"If-Match": '"2"'}), 412, "precondition-failed")
        problem(await api.call("DELETE", ONE, headers={"If-None-Match": "*"}), 412, "precondition-failed")
        assert (await api.call("DELETE", ONE, headers={"If-Match": '"4"'})).status == 204


async def test_what_is_not_as_it_should_be_says_what_there_is(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", "/v1/services/web.prod/other", HOST)
        for method in ("GET", "DELETE", "POST"):
            url = f"{ONE}/heartbeat" if method == "POST" else ONE
            answer = await api.call(method, url)
            problem(answer, 404, "not-found")
            assert answer.headers["X-Revision"] == "2"
        for method in ("GET", "PUT", "DELETE"):
            body = HOST if method == "PUT" else None
            answer = await api.call(method, ONE, body, headers={"If-Match": '"7"'})
            problem(answer, 412, "precondition-failed")
            assert answer.headers["X-Revision"] == "2"
            assert "ETag" not in answer.headers
        await api.call("PUT", ONE, HOST)
        for method in ("GET", "PUT", "DELETE"):
            body = HOST if method == "PUT" else None
            answer = await api.call(method, ONE, body, headers={"If-Match": '"7"'})
            problem(answer, 412, "precondition-failed")
            assert (answer.headers["X-Revision"], answer.headers["ETag"]) == ("3", '"3"')


async def test_a_failed_precondition_names_what_the_store_has_and_not_the_view(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, HOST)
        await api.feed.close()  # the view stays behind from here on
        await api.store.put(KEY, b"{}")
        answer = await api.call("DELETE", ONE, headers={"If-Match": '"2"'})
        problem(answer, 412, "precondition-failed")
        assert (answer.headers["ETag"], answer.headers["X-Revision"]) == ('"3"', "3")
        assert answer.headers["X-View-Revision"] == "2"


async def test_of_many_that_create_at_once_one_wins(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        calls = [
            api.call("PUT", ONE, {**HOST, "port": port}, headers={"If-None-Match": "*"}) for port in range(12)
        ]
        statuses = sorted(answer.status for answer in await asyncio.gather(*calls))
        assert statuses == [201] + [412] * 11


# ---------------------------------------------------------------- DELETE and heartbeat


async def test_deregistering(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, HOST)
        answer = await api.call("DELETE", ONE)
        assert (answer.status, answer.text, answer.headers["X-Revision"]) == (204, "", "3")
        assert api.view.record((b"internal", b"discovery", b"prod", b"web", b"i1")) is None
        assert await api.leases() == 0
        assert "register" not in problem(await api.call("DELETE", ONE), 404, "not-found").replace("dereg", "")
        problem(await api.call("GET", ONE), 404, "not-found")


async def test_what_others_wrote_in_capitals_can_be_read_beaten_and_deleted(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        key = b"/skydns/internal/discovery/prod/Web/I1"
        await api.store.put(key, b'{"Host":"10.0.0.9"}')
        await api.caught_up()
        assert (await api.call("GET", ONE)).body["host"] == "10.0.0.9"
        assert (await api.call("POST", f"{ONE}/heartbeat")).status == 200
        assert (await api.call("DELETE", ONE)).status == 204
        assert await api.kv(key) is None


async def test_an_unreadable_record_is_left_out_and_says_why(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.store.put(KEY, b"no json")
        await api.caught_up()
        for method, url in (("GET", ONE), ("POST", f"{ONE}/heartbeat")):
            assert "not JSON" in problem(await api.call(method, url), 404, "not-found")
        assert api.metrics.heartbeats_refused == 1
        assert (await api.call("GET", "/v1/services/web.prod")).body["instances"] == []
        assert (await api.call("PUT", ONE, HOST)).status == 200
        assert (await api.call("GET", ONE)).status == 200


async def test_a_heartbeat_renews(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("PUT", ONE, {**HOST, "lease_ttl": 10})).body["lease"]
        await api.expire(9)
        beat = await api.call("POST", f"{ONE}/heartbeat")
        assert beat.status == 200
        assert beat.body == {
            "lease": lease,
            "lease_ttl": 10,
            "expires_at": "2023-11-14T22:13:30.250Z",
            "heartbeat_every": 3,
        }
        revision = (await api.store.status()).revision
        await api.expire(9)
        assert (await api.call("GET", ONE)).status == 200
        assert revision == 2 + 2  # the put, and what caught_up wrote: no heartbeat ever writes
        await api.expire(2)
        problem(await api.call("POST", f"{ONE}/heartbeat"), 404, "not-found")


async def test_a_heartbeat_needs_no_body_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, HOST)
        beat = f"{ONE}/heartbeat"
        for content in (None, b"", b"{}"):
            assert (await api.call("POST", beat, content=content)).status == 200
        problem(await api.call("POST", beat, {"lease_ttl": 20}), 400, "invalid-field", "lease_ttl")
        problem(await api.call("POST", beat, content=b"x"), 400, "invalid-field")


async def test_a_heartbeat_of_what_the_view_has_not_seen_asks_the_store(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, {**HOST, "lease_ttl": 10})
        await api.feed.close()  # the view stays behind from here on
        await api.store.delete(KEY)
        lease = (await api.store.lease_grant(50)).id
        await api.store.put(KEY, b"{}", lease=lease)
        await api.store.lease_revoke(int((await api.call("GET", ONE)).body["lease"], 16))
        assert (await api.call("POST", f"{ONE}/heartbeat")).body["lease_ttl"] == 50


# ---------------------------------------------------------------- read your writes, lists


async def test_when_put_has_answered_the_view_has_it(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:

        async def one(number: int) -> None:
            url = f"/v1/services/web.prod/i{number}"
            answer = await api.call("PUT", url, {**HOST, "port": number})
            assert (await api.call("GET", url)).body["port"] == number
            assert api.view.revision >= int(answer.headers["X-Revision"])

        await asyncio.gather(*(one(number) for number in range(30)))


async def test_a_view_that_is_behind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discovery.registry.WAIT_FOR_VIEW", 0.05)
    async with running_api(tmp_path) as api:
        await api.call("PUT", ONE, HOST)
        await api.feed.close()
        answer = await api.call("PUT", ONE, {**HOST, "port": 1})
        assert answer.status == 200
        assert (answer.headers["X-Revision"], answer.headers["X-View-Revision"]) == ("3", "2")
        assert answer.body["port"] == 1


async def test_listing_instances(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for url in ("web.prod/i2", "web.prod/i1", "eu.web.prod/i9", "web.test/i1"):
            await api.call("PUT", f"/v1/services/{url}", HOST)
        answer = await api.call("GET", "/v1/services/web.prod")
        assert answer.status == 200
        assert answer.headers["X-Revision"] == "5"
        assert answer.body["service"] == "web.prod"
        assert answer.body["revision"] == 5
        assert [each["instance"] for each in answer.body["instances"]] == ["i1", "i2"]
        single = (await api.call("GET", ONE)).body
        with_leases = (await api.call("GET", "/v1/services/web.prod?leases=true")).body["instances"]
        assert with_leases[0] == single
        del single["expires_at"]
        assert answer.body["instances"][0] == single
        subtree = (await api.call("GET", "/v1/services/web.prod?subtree=true")).body["instances"]
        assert [(each["service"], each["instance"]) for each in subtree] == [
            ("eu.web.prod", "i9"),
            ("web.prod", "i1"),
            ("web.prod", "i2"),
        ]
        unknown = await api.call("GET", "/v1/services/nobody")
        assert (unknown.status, unknown.body) == (
            200,
            {"service": "nobody", "revision": 5, "instances": []},
        )


async def test_listing_services_in_pages(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for url in ("web.prod/a", "web.prod/b", "api.prod/a", "x.other.test./a", "@/a"):
            await api.call("PUT", f"/v1/services/{url}", HOST)
        everything = [
            {"service": "@", "instances": 1},
            {"service": "api.prod", "instances": 1},
            {"service": "web.prod", "instances": 2},
            {"service": "x.other.test.", "instances": 1},
        ]
        answer = await api.call("GET", "/v1/services")
        assert answer.body == {"revision": 6, "services": everything, "next": None}
        assert answer.headers["X-Revision"] == "6"
        after = ""
        for count in everything:
            page = (await api.call("GET", f"/v1/services?limit=1&after={after}")).body
            assert page["services"] == [count]
            after = page["next"] or "END"
        assert after == "END"
        assert (await api.call("GET", "/v1/services?prefix=web")).body["services"] == [everything[2]]
        for bad in ("0", "x", "-1", "99999999999", "10001", "%C2%B2"):
            problem(await api.call("GET", f"/v1/services?limit={bad}"), 400, "invalid-field", "limit")
        empty = await api.call("GET", "/v1/services?prefix=nothing")
        assert empty.body == {"revision": 6, "services": [], "next": None}


async def test_a_zone_within_a_zone_is_listed_once(tmp_path: Path) -> None:
    zones = (ZoneConfig(name="internal."), ZoneConfig(name="inner.internal."))
    async with running_api(tmp_path, Config(zones=zones)) as api:
        await api.call("PUT", "/v1/services/web.inner.internal./a", HOST)
        services = (await api.call("GET", "/v1/services")).body["services"]
        assert services == [{"service": "web.inner", "instances": 1}]


# ---------------------------------------------------------------- without the store


async def test_before_the_first_load_nothing_seems_to_be_missing(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        for method, url in (("GET", ONE), ("GET", "/v1/services"), ("PUT", ONE), ("POST", "/v1/leases")):
            answer = await api.call(method, url)
            problem(answer, 503, "not-ready")
            assert answer.headers["Retry-After"] == "1"


async def test_without_the_store_reads_go_on_and_say_how_stale_they_are(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        first = (await api.call("PUT", ONE, HOST)).body
        await api.store.close()
        await until(lambda: api.feed.lost)
        api.clock.advance(12)
        answer = await api.call("GET", ONE)
        assert answer.body == {**first, "expires_at": None}
        assert answer.headers["X-Stale-Seconds"] == "12"
        listed = await api.call("GET", "/v1/services/web.prod?leases=true")
        assert listed.body["instances"] == [answer.body]
        for method, url in (("PUT", ONE), ("DELETE", ONE), ("POST", f"{ONE}/heartbeat")):
            refused = await api.call(method, url, HOST if method == "PUT" else None)
            problem(refused, 503, "store-unavailable")
            assert refused.headers["Retry-After"] == "1"

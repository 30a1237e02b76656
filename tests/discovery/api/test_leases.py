"""/v1/leases and /v1/heartbeats (http-api.md, "Leases")."""

from __future__ import annotations

from pathlib import Path

from tests.support.api import problem, running_api

HOST = {"host": "10.0.0.1"}


async def test_the_life_of_a_lease(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        granted = await api.call("POST", "/v1/leases", {"ttl": 15})
        lease = granted.body["id"]
        assert granted.status == 201
        assert granted.body == {"id": lease, "ttl": 15, "expires_at": "2023-11-14T22:13:35.250Z"}
        assert len(lease) == 16
        for url in ("web.prod/i2", "web.prod/i1", "db.other.test./i1"):
            assert (await api.call("PUT", f"/v1/services/{url}", {**HOST, "lease": lease})).status == 201
        await api.store.put(b"/elsewhere/key", b"", lease=int(lease, 16))
        api.clock.advance(5)
        state = await api.call("GET", f"/v1/leases/{lease}")
        assert state.status == 200
        assert state.headers["X-Revision"] == str(api.view.revision)
        assert state.body == {
            "id": lease,
            "ttl": 15,
            "remaining": 10,
            "expires_at": "2023-11-14T22:13:30.250Z",
            "instances": [
                {
                    "service": "web.prod",
                    "instance": "i1",
                    "name": "i1.web.prod.discovery.internal.",
                    "drained_at": None,
                },
                {
                    "service": "web.prod",
                    "instance": "i2",
                    "name": "i2.web.prod.discovery.internal.",
                    "drained_at": None,
                },
                {
                    "service": "db.other.test.",
                    "instance": "i1",
                    "name": "i1.db.other.test.",
                    "drained_at": None,
                },
            ],
        }
        beat = await api.call("POST", f"/v1/leases/{lease}/heartbeat")
        assert beat.status == 200
        assert beat.body == {
            "id": lease,
            "ttl": 15,
            "expires_at": "2023-11-14T22:13:35.250Z",
            "heartbeat_every": 5,
        }
        await api.expire(14)
        assert (await api.call("GET", "/v1/services/web.prod/i1")).status == 200
        gone = await api.call("DELETE", f"/v1/leases/{lease}")
        assert (gone.status, gone.text) == (204, "")
        assert api.view.root.count == 0  # at once: the answer has waited for the view
        for method in ("GET", "DELETE"):
            gone = await api.call(method, f"/v1/leases/{lease}")
            detail = problem(gone, 404, "lease-not-found", "lease")
            assert detail == f"there is no lease {lease}: it has ended or never was"
        beat = await api.call("POST", f"/v1/leases/{lease}/heartbeat")
        assert lease in problem(beat, 404, "lease-not-found", "lease")


async def test_a_heartbeat_needs_no_body_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 15})).body["id"]
        beat = f"/v1/leases/{lease}/heartbeat"
        for content in (None, b"", b"{}"):
            assert (await api.call("POST", beat, content=content)).status == 200
        problem(await api.call("POST", beat, {"ttl": 20}), 400, "invalid-field", "ttl")
        problem(await api.call("POST", beat, content=b"x"), 400, "invalid-field")


async def test_an_expired_lease_takes_its_instances_with_it(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 2})).body["id"]
        await api.call("PUT", "/v1/services/web.prod/i1", {**HOST, "lease": lease})
        await api.expire(3)
        assert (await api.call("GET", "/v1/services/web.prod/i1")).status == 404
        problem(await api.call("POST", f"/v1/leases/{lease}/heartbeat"), 404, "lease-not-found", "lease")


async def test_a_lease_of_the_store_that_this_node_never_saw(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.store.lease_grant(9, 0xABC)
        assert (await api.call("POST", "/v1/leases/ABC/heartbeat")).body["id"] == "0000000000000abc"


async def test_what_is_no_lease(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for text in ("0", "-1", "xyz", "8000000000000000", "1" * 17, "%C2%B2", "+1", "1_0"):
            problem(await api.call("GET", f"/v1/leases/{text}"), 400, "invalid-field", "lease")
        for ttl in (0, -1, 86401):
            problem(await api.call("POST", "/v1/leases", {"ttl": ttl}), 400, "invalid-field", "ttl")
        problem(await api.call("POST", "/v1/leases"), 400, "invalid-field", "ttl")
        problem(await api.call("POST", "/v1/leases", {"ttl": 1, "id": "1"}), 400, "invalid-field", "id")
        assert await api.leases() == 0


async def test_many_heartbeats_at_once(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        leases = [(await api.call("POST", "/v1/leases", {"ttl": 10})).body["id"] for _ in range(3)]
        api.clock.advance(8)
        answer = await api.call("POST", "/v1/heartbeats", {"leases": [*leases, "ABC", leases[0]]})
        assert (answer.status, answer.body) == (200, {"renewed": 3, "missing": ["ABC"]})
        await api.expire(8)
        assert await api.leases() == 3
        problem(await api.call("POST", "/v1/heartbeats", {"leases": []}), 400, "invalid-field", "leases")
        problem(await api.call("POST", "/v1/heartbeats", {"leases": ["x"]}), 400, "invalid-field", "leases")
        many = [f"{number:x}" for number in range(1, 10_001)]
        assert (await api.call("POST", "/v1/heartbeats", {"leases": many})).body["missing"] == many
        too_many = await api.call("POST", "/v1/heartbeats", {"leases": [*many, "1"]})
        problem(too_many, 400, "invalid-field", "leases")


async def test_a_heartbeat_that_the_store_could_not_take_is_never_acknowledged(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 10})).body["id"]
        await api.store.close()
        for path, body in ((f"/v1/leases/{lease}/heartbeat", None), ("/v1/heartbeats", {"leases": [lease]})):
            answer = await api.call("POST", path, body)
            problem(answer, 503, "store-unavailable")
            assert answer.headers["Retry-After"] == "1"

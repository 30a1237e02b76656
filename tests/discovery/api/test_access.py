"""Who may do what: every route for every caller, made from the table of roles; names, leases and expiry."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from discovery.api.app import make_app
from discovery.api.roles import ROLES
from discovery.kv.contract import Put, RangeResult, Unavailable
from discovery.kv.embedded import EmbeddedStore
from discovery.settings import HttpConfig
from discovery.tokens import PREFIX, Role, Stored, hashed
from tests.support.api import CONFIG, NOW, Answer, Api, problem, running_api, until

TOKENS = (
    "operate the-operator",
    "read the-reader",
    "register web.prod,db.* the-service",
    "register . all-names",
)
SECURED = msgspec.structs.replace(CONFIG, http=HttpConfig(tokens=TOKENS))
OWN = "/v1/services/web.prod/i1"
OTHERS = "/v1/services/mail.prod/i1"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def call(
    api: Api, token: str, method: str, path: str, body: object = None, content: bytes | None = None
) -> Answer:
    return await api.call(method, path, body, content=content, headers=bearer(token))


@asynccontextmanager
async def secured(path: Path) -> AsyncIterator[Api]:
    async with running_api(path, SECURED) as api:
        yield api


async def lease_of(api: Api, token: str = "the-operator") -> str:
    answer = await call(api, token, "POST", "/v1/leases", {"ttl": 60})
    assert answer.status == 201, answer
    return str(answer.body["id"])


# What each caller is, and the roles it has. "expired" has been an operator.
CALLERS: Mapping[str, tuple[str | None, Role]] = {
    "no token": (None, Role.NOBODY),
    "wrong token": ("the-operatoR", Role.NOBODY),
    "empty token": ("", Role.NOBODY),
    "expired": ("the-expired", Role.NOBODY),
    "read": ("the-reader", Role.READ),
    "register": ("the-service", Role.REGISTER),
    "operate": ("the-operator", Role.OPERATE),
}
V2_OWN, V2_OTHERS = "/skydns/internal/discovery/prod/web/k", "/skydns/internal/discovery/prod/mail/k"


async def others_instance_and_lease(api: Api) -> str:
    """An instance of another's on a lease; the lease."""
    lease = await lease_of(api)
    body = {"host": "10.0.0.9", "lease": lease}
    assert (await call(api, "the-operator", "PUT", OTHERS, body)).status in (200, 201)
    return lease


@pytest.mark.parametrize("route", ROLES, ids=" ".join)
async def test_every_route_for_every_caller(tmp_path: Path, route: tuple[str, str]) -> None:
    method, template = route
    needed = ROLES[route]
    async with secured(tmp_path) as api:
        stored = Stored(name="old", role="operate", hash=hashed("the-expired"), created_at=1, expires_at=NOW)
        await api.store.put(PREFIX + b"old", msgspec.json.encode(stored))
        await until(lambda: api.parts.tokens.find("the-expired") is not None)

        def url(*, own: bool, lease: str) -> str:
            names = {"service": "web.prod" if own else "mail.prod", "instance": "i1", "lease": lease}
            names |= {"key": V2_OWN if own else V2_OTHERS, "member": "1", "token": "x", "file": "main.js"}
            path = template.format(**names)
            return (
                f"{path}?since=999999" if path == "/v1/watch" else path
            )  # refused, where it could be streamed

        for name, (token, role) in CALLERS.items():
            path = url(own=True, lease=await lease_of(api))
            for verb in ("GET", "HEAD") if method == "GET" else (method,):
                answer = await api.call(verb, path, headers=None if token is None else bearer(token))
                if role >= needed or needed is Role.NOBODY:
                    assert answer.status not in (401, 403, 500), (name, answer)
                    continue
                wanted = 401 if role is Role.NOBODY else 403
                assert answer.status == wanted, (name, answer)
                assert ("WWW-Authenticate" in answer.headers) == (wanted == 401)
                if verb != "HEAD":
                    check_refusal(template, answer, wanted)
        if needed is Role.REGISTER and "{" in template:
            path = url(own=False, lease=await others_instance_and_lease(api))
            answer = await call(api, "the-service", method, path, content=b"")
            assert answer.status == 403
            check_refusal(template, answer, 403, "lease" if "lease" in template else None)
            allowed = await call(api, "all-names", method, path, content=b"")
            assert allowed.status not in (401, 403, 500)


def check_refusal(template: str, answer: Answer, status: int, field: str | None = None) -> None:
    if template.startswith("/v2/"):
        assert answer.body["errorCode"] == 110
        assert answer.body["message"] == "The request requires user authentication"
        assert answer.headers["X-Etcd-Index"]
    else:
        problem(answer, status, "unauthorized" if status == 401 else "forbidden", field)


async def test_a_route_that_is_not_declared_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_api(tmp_path) as api:  # no token at all: everyone may do everything
        left = {key: role for key, role in ROLES.items() if key != ("GET", "/healthz")}
        monkeypatch.setattr("discovery.api.access.ROLES", left)
        problem(await api.call("GET", "/healthz"), 403, "forbidden")
        assert make_app(api.parts)


async def test_without_any_token_everyone_may_do_everything(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.call("PUT", OWN, {"host": "10.0.0.1"})).status == 201
        made = await api.call("POST", "/v1/tokens", {"name": "admin", "role": "operate"})
        assert made.status == 201
        problem(await api.call("GET", OWN), 401, "unauthorized")
        assert (await call(api, made.body["token"], "GET", OWN)).status == 200


async def test_a_service_writes_its_own_names_only(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        body = {"host": "10.0.0.1"}
        own = ("web.prod/i1", "eu.web.prod/i1", "prod/web", "db.stage/i1", "WEB.prod/I1")
        others = ("mail.prod/i1", "prod/i1", "@/web", "@/prod", "web.prod.other.test./i1")
        for name in own:
            assert (await call(api, "the-service", "PUT", f"/v1/services/{name}", body)).status in (200, 201)
        for name in others:
            answer = await call(api, "the-service", "PUT", f"/v1/services/{name}", body)
            assert "is not among the names that http.tokens[2] may write" in problem(answer, 403, "forbidden")
        assert (await call(api, "the-service", "GET", "/v1/services/mail.prod")).status == 200


async def test_keys_are_names_whatever_their_letter_case(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        lead = "/v2/keys/skydns/internal/discovery/prod"
        value = b"value=%7B%7D"
        headers = bearer("the-service") | {"Content-Type": "application/x-www-form-urlencoded"}
        for key, status in (
            ("web/i1", 201),
            ("WEB/i2", 201),
            ("mail/i1", 403),
            ("web/../mail/i1", 403),
            ("web/%2e%2e/mail/i1", 403),
            ("web%2F..%2Fmail%2Fi1", 403),
        ):
            answer = await api.call("PUT", f"{lead}/{key}", content=value, headers=headers)
            assert answer.status == status, (key, answer.text)
        answer = await call(api, "the-service", "DELETE", f"{lead}?recursive=true")
        assert answer.status == 403
        assert (await call(api, "the-service", "DELETE", f"{lead}/web?recursive=true")).status == 200


async def test_heartbeats_of_leases_that_are_gone_are_missing_whoever_asks(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        ended = await lease_of(api, "the-service")
        await call(api, "the-service", "PUT", OWN, {"host": "10.0.0.1", "lease": ended})
        assert (await call(api, "the-service", "DELETE", f"/v1/leases/{ended}")).status == 204
        mine = await lease_of(api, "the-service")
        gone = [ended, "77", "7fffffffffffffff"]
        beat = await call(api, "the-service", "POST", "/v1/heartbeats", {"leases": [mine, *gone]})
        assert (beat.status, beat.body) == (200, {"renewed": 1, "missing": gone})
        only = await call(api, "the-service", "POST", "/v1/heartbeats", {"leases": gone})
        assert (only.status, only.body) == (200, {"renewed": 0, "missing": gone})
        one = await call(api, "the-service", "POST", f"/v1/leases/{ended}/heartbeat")
        assert one.status == 404


async def test_a_lease_is_the_callers_while_it_holds_only_his_names(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        mine, others = await lease_of(api, "the-service"), await others_instance_and_lease(api)
        body = {"host": "10.0.0.1", "lease": mine}
        assert (await call(api, "the-service", "PUT", OWN, body)).status == 201
        assert (await call(api, "the-service", "POST", "/v1/heartbeats", {"leases": [mine]})).status == 200
        refused = await call(api, "the-service", "POST", "/v1/heartbeats", {"leases": [mine, others]})
        problem(refused, 403, "forbidden", "lease")
        refused = await call(api, "the-service", "PUT", OWN, body | {"lease": others})
        problem(refused, 403, "forbidden", "lease")
        # Once another's instance is on it too, to end it is no longer his, to renew it still is.
        assert (
            await call(api, "the-operator", "PUT", OTHERS, {"host": "10.0.0.9", "lease": mine})
        ).status == 200
        assert (await call(api, "the-service", "POST", f"/v1/leases/{mine}/heartbeat")).status == 200
        problem(await call(api, "the-service", "DELETE", f"/v1/leases/{mine}"), 403, "forbidden", "lease")
        assert (await call(api, "the-service", "GET", OTHERS)).status == 200


async def test_who_has_beaten_an_empty_lease_does_not_own_what_comes_to_hang_on_it(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        others = await lease_of(api)
        assert (await call(api, "the-service", "POST", f"/v1/leases/{others}/heartbeat")).status == 200
        body = {"host": "10.0.0.9", "lease": others}
        assert (await call(api, "the-operator", "PUT", OTHERS, body)).status in (200, 201)
        for path, content in (
            (f"/v1/leases/{others}/heartbeat", None),
            ("/v1/heartbeats", {"leases": [others]}),
        ):
            problem(await call(api, "the-service", "POST", path, content), 403, "forbidden", "lease")
        problem(await call(api, "the-service", "PUT", OWN, body), 403, "forbidden", "lease")


async def test_clients_of_etcd_2_send_the_token_as_a_password(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        basic = {"Authorization": "Basic " + base64.b64encode(b"anyone:the-reader").decode()}
        assert (await api.call("GET", "/v2/keys/skydns", headers=basic)).status == 200
        assert (await api.call("GET", "/v1/services", headers=basic)).status == 401
        for wrong in ("Basic !", "Basic " + base64.b64encode(b"\xff").decode(), "Basic"):
            assert (await api.call("GET", "/v2/keys/skydns", headers={"Authorization": wrong})).status == 401


async def test_what_is_no_route_is_no_secret(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        problem(await api.call("GET", "/nowhere"), 404, "not-found")
        problem(await api.call("PATCH", OWN), 405, "method-not-allowed")


class Away(EmbeddedStore):
    """Can be out of reach for those who read."""

    is_away = False

    async def range(
        self, key: bytes, end: bytes = b"", *, limit: int = 0, keys_only: bool = False, stale_ok: bool = False
    ) -> RangeResult:
        if self.is_away:
            raise Unavailable("out of reach")
        return await super().range(key, end, limit=limit, keys_only=keys_only, stale_ok=stale_ok)


async def test_before_the_tokens_are_known_strangers_only_read(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=Away) as api:
        assert isinstance(api.store, Away)
        api.parts.tokens.loaded.clear()  # as when the store was out of reach from the start
        api.store.is_away = True
        assert (await api.call("GET", "/v1/services")).status == 200
        problem(await api.call("PUT", OWN, {"host": "10.0.0.1"}), 503, "not-ready")
        api.store.is_away = False  # the first call that must know asks
        assert (await api.call("PUT", OWN, {"host": "10.0.0.1"})).status == 201
        assert api.parts.tokens.loaded.is_set()
    async with secured(tmp_path / "2") as api:
        assert (await call(api, "the-operator", "PUT", OWN, {"host": "10.0.0.1"})).status == 201
        api.parts.tokens.loaded.clear()
        problem(await call(api, "unknown", "GET", OWN), 503, "not-ready")
        problem(await api.call("GET", OWN), 401, "unauthorized")


async def test_a_revoked_token_is_refused_when_the_store_has_told(tmp_path: Path) -> None:
    async with secured(tmp_path) as api:
        made = await call(api, "the-operator", "POST", "/v1/tokens", {"name": "r", "role": "read"})
        assert (await call(api, made.body["token"], "GET", "/v1/services")).status == 200
        key = PREFIX + made.body["id"].encode()
        await api.store.txn([], [Put(PREFIX + b"other", b"")])  # another node's write
        await api.store.delete(key)
        await until(lambda: api.parts.tokens.find(made.body["token"]) is None)
        problem(await call(api, made.body["token"], "GET", "/v1/services"), 401, "unauthorized")

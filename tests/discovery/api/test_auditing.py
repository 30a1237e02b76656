"""The audit log of calls: every write, every refusal, nothing else, and no secret."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from discovery.audit import AuditLog
from tests.discovery.api.test_access import OTHERS, OWN, bearer, call, secured
from tests.support.api import until


async def test_writes_and_refusals_are_told(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    async with secured(tmp_path) as api:
        api.parts.audit = AuditLog(str(file))
        body = {"host": "10.0.0.1", "text": "a-secret-of-the-body"}
        assert (await call(api, "the-service", "PUT", OWN, body)).status == 201
        await call(api, "the-service", "GET", OWN)
        await call(api, "the-service", "POST", f"{OWN}/heartbeat")
        await call(api, "the-service", "PUT", OTHERS, body)
        await call(api, "never-known", "GET", f"{OWN}?token=a-secret-of-the-query")
        await api.call("DELETE", OWN)
        await call(api, "the-operator", "DELETE", "/v1/services/web.prod/none")
        made = await call(api, "the-operator", "POST", "/v1/tokens", {"name": "n", "role": "read"})
        await api.call("POST", f"{OWN}/heartbeat", headers=bearer("the-reader"))
        wrong = await call(api, "the-operator", "DELETE", f"/v1/tokens/{made.body['token']}")
        assert made.body["token"] not in wrong.text
        itself = await call(api, "the-operator", "POST", "/v1/tokens", {"name": "gone", "role": "operate"})
        ended = await call(api, itself.body["token"], "DELETE", f"/v1/tokens/{itself.body['id']}")
        assert (wrong.status, ended.status) == (400, 204)
        api.parts.audit.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    one = "/v1/services/{service}/{instance}"
    told = [
        tuple(line[key] for key in ("token", "method", "route", "path", "status", "result")) for line in lines
    ]
    assert told == [
        ("http.tokens[2]", "PUT", one, OWN, 201, "done"),
        ("http.tokens[2]", "PUT", one, OTHERS, 403, "refused"),
        ("", "GET", one, OWN, 401, "refused"),
        ("", "DELETE", one, OWN, 401, "refused"),
        ("http.tokens[0]", "DELETE", one, "/v1/services/web.prod/none", 404, "failed"),
        ("http.tokens[0]", "POST", "/v1/tokens", "/v1/tokens", 201, "done"),
        ("http.tokens[1]", "POST", f"{one}/heartbeat", f"{OWN}/heartbeat", 403, "refused"),
        ("http.tokens[0]", "DELETE", "/v1/tokens/{token}", "/v1/tokens/dsc_…", 400, "failed"),
        ("http.tokens[0]", "POST", "/v1/tokens", "/v1/tokens", 201, "done"),
        (itself.body["id"], "DELETE", "/v1/tokens/{token}", f"/v1/tokens/{itself.body['id']}", 204, "done"),
    ]
    assert {line["from"] for line in lines} == {"127.0.0.1"}
    assert {line["time"] for line in lines} == {"2023-11-14T22:13:20.250Z"}
    for secret in ("a-secret", "the-service", "never-known", made.body["token"]):
        assert secret not in file.read_text()


async def test_a_drain_is_told_when_it_is_done_and_not_when_its_wait_ends(tmp_path: Path) -> None:
    """Who hangs up meanwhile has drained it all the same."""
    file = tmp_path / "audit"
    async with secured(tmp_path) as api:
        api.parts.audit = AuditLog(str(file))
        lease = (await call(api, "the-operator", "POST", "/v1/leases", {"ttl": 60})).body["id"]
        other = OWN.replace("i1", "i2")
        for one in (OWN, other):
            await call(api, "the-operator", "PUT", one, {"host": "10.0.0.1", "lease": lease, "ttl": 3600})
        for path in (f"{OWN}/drain", f"/v1/leases/{lease}/drain"):
            before = file.read_text().count("\n")
            waiting = asyncio.create_task(call(api, "the-operator", "POST", f"{path}?wait=3600"))
            await until(lambda before=before: file.read_text().count("\n") > before)  # type: ignore[misc]
            assert not waiting.done()
            waiting.cancel()
        assert (await call(api, "the-operator", "POST", f"{OWN}/drain")).status == 200
        api.parts.audit.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(line["path"], line["status"]) for line in lines if line["path"].endswith("/drain")]
    assert told == [(f"{OWN}/drain", 200), (f"/v1/leases/{lease}/drain", 200), (f"{OWN}/drain", 200)]

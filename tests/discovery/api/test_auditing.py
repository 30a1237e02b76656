"""The audit log of calls: every write, every refusal, nothing else, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

from discovery.audit import AuditLog
from tests.discovery.api.test_access import OTHERS, OWN, bearer, call, secured


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

"""/v1/lookup and /v1/zone (http-api.md, "For operators")."""

from __future__ import annotations

from pathlib import Path

import dns.zone

from discovery.settings import Config, ForwardConfig
from tests.support.api import problem, running_api

INSTANCE = {"host": "10.0.0.1", "port": 80, "lease_ttl": 3}


async def test_lookup_says_what_dns_answers_and_why(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.call("PUT", "/v1/services/web/i1", INSTANCE)
        await api.store.put(b"/skydns/internal/discovery/web/i2", b"{bad")
        last = await api.store.put(b"/skydns/internal/discovery/web//x", b"{}")
        assert await api.feed.wait(last, 5)
        answer = await api.call("GET", "/v1/lookup?name=web.discovery.internal&type=srv")
        assert answer.status == 200
        assert answer.headers["X-Revision"] == str(last)
        reason = answer.body["unreadable"][1]["reason"]
        assert answer.body == {
            "name": "web.discovery.internal.",
            "type": "SRV",
            "zone": "discovery.internal.",
            "revision": last,
            "rcode": "NOERROR",
            "authoritative": True,
            "answer": ["web.discovery.internal. 3 IN SRV 10 100 80 i1.web.discovery.internal."],
            "authority": [],
            "additional": ["i1.web.discovery.internal. 3 IN A 10.0.0.1"],
            "services": [
                {
                    "key": "/skydns/internal/discovery/web/i1",
                    "matched_by": "web.discovery.internal.",
                    "used": True,
                    "reason": None,
                    "ttl": 3,
                    "ttl_from": "lease",
                },
                {
                    "key": "/skydns/internal/discovery/web/i2",
                    "matched_by": "web.discovery.internal.",
                    "used": False,
                    "reason": f"unreadable: {reason}",
                    "ttl": 5,
                    "ttl_from": "zone",
                },
            ],
            "unreadable": [
                {
                    "key": "/skydns/internal/discovery/web//x",
                    "reason": "the key is no domain name: a part is empty or over 63 bytes, or all are over 255",
                },
                {
                    "key": "/skydns/internal/discovery/web/i2",
                    "reason": reason,
                },
            ],
            "remarks": [],
            "cached": False,
        }
        assert reason.startswith("not JSON")


async def test_lookup_of_what_is_not_there_or_not_ours(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        missing = (await api.call("GET", "/v1/lookup?name=no.discovery.internal.")).body
        assert (missing["type"], missing["rcode"], missing["services"]) == ("A", "NXDOMAIN", [])
        assert missing["authority"][0].split(" ")[3] == "SOA"
        outside = (await api.call("GET", "/v1/lookup?name=example.com.&type=TYPE65")).body
        assert (outside["zone"], outside["rcode"], outside["type"]) == (None, "REFUSED", "TYPE65")
        problem(await api.call("GET", "/v1/lookup"), 400, "invalid-field", "name")
        problem(await api.call("GET", "/v1/lookup?name=a..b"), 400, "invalid-field", "name")
        for rtype in ("Q", "TYPE65536", "TYPE", "41"):
            url = f"/v1/lookup?name=x.test&type={rtype}"
            problem(await api.call("GET", url), 400, "invalid-field", "type")


async def test_what_is_asked_of_others_has_no_answer_here(tmp_path: Path) -> None:
    config = Config(forward=ForwardConfig(upstreams=("192.0.2.1",)))
    async with running_api(tmp_path, config) as api:
        outside = (await api.call("GET", "/v1/lookup?name=example.com.")).body
        assert (outside["rcode"], outside["cached"], outside["answer"]) == (None, False, [])
        assert "asked of other servers" in outside["remarks"][0]


async def test_a_zone_is_a_master_file(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        puts = [
            {
                "service": "web.prod",
                "instance": f"i{number}",
                "host": f"10.0.1.{number % 250}",
                "lease_ttl": 0,
            }
            for number in range(300)
        ]
        await api.call("POST", "/v1/batch", {"operations": [{"put": put} for put in puts]})
        await api.call("PUT", "/v1/services/db.other.test./i1", {"host": "10.0.0.9"})
        answer = await api.call("GET", "/v1/zone")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/dns"
        zone = dns.zone.from_text(answer.text, origin="discovery.internal.", relativize=False)
        assert len(zone.get_rdataset("web.prod.discovery.internal.", "SRV") or ()) == 250
        assert zone.get_rdataset("i299.web.prod.discovery.internal.", "A") is not None
        other = await api.call("GET", "/v1/zone?zone=other.test")
        assert "i1.db.other.test. 7 IN A 10.0.0.9" in other.text
        assert "other.test." in problem(
            await api.call("GET", "/v1/zone?zone=x.test."), 404, "not-found", "zone"
        )

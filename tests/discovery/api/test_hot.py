"""The calls that come by the thousand: they are answered as the application answers them, in order, once each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from discovery.api.connection import Connection
from discovery.api.hot import HotCalls
from discovery.audit import AuditLog
from discovery.kv.contract import Compare, Op, TxnResult
from discovery.kv.embedded import EmbeddedStore
from discovery.settings import Config, HttpConfig
from tests.support.api import CONFIG, Api, running_api, until

ONE = "/v1/services/web.prod/i1"
LEASE = "LEASE"  # stands for the id of the lease that was granted first
HOST = '{"host": "10.0.0.1", "port": 8080, "lease_ttl": 15}'
ON_LEASE = '{"host": "10.0.0.1", "lease": "LEASE"}'
TOKENS = ("read the-reader", "register web.prod the-service", "operate the-operator")

Request = tuple[str, str, str, Mapping[str, str]]
Answer = tuple[str, Mapping[str, str], str]


def asked(method: str, path: str, body: str = "", **headers: str) -> Request:
    return method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}


def written(request: Request, lease: str = "") -> bytes:
    method, path, body, headers = request
    named = {"Host": "127.0.0.1:8053", **headers}
    if body:
        named["Content-Length"] = str(len(body.replace(LEASE, lease)))
    head = "".join(f"{name}: {text}\r\n" for name, text in named.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n{body}".replace(LEASE, lease).encode()


async def read(reader: asyncio.StreamReader) -> Answer:
    head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    body = await reader.readexactly(int(headers.get("Content-Length", 0)))
    return head, headers, body.decode()


class Seen(msgspec.Struct):
    """What one way came to; ids of leases are numbered in their order."""

    answers: list[Answer]
    counted: Mapping[tuple[str, int], int]
    audited: str
    by_application: int


async def exchange(path: Path, requests: Sequence[Request], config: Config, *, loaded: bool = True) -> Seen:
    """All of them on one connection, each after the answer to the last."""
    async with running_api(path, config, loaded=loaded, is_exempt=lambda address: False) as api:
        api.parts.audit = AuditLog(str(path / "audit"))
        lease = await api.store.lease_grant(60) if loaded else None
        text = f"{lease.id:016x}" if lease is not None else ""
        handled = _count_handled(api)
        reader, writer = await asyncio.open_connection(api.host, api.port)
        answers = []
        for request in requests:
            writer.write(written(request, text))
            answers.append(await read(reader))
        writer.close()
        api.parts.audit.close()
        audited = (path / "audit").read_text()
        return _numbered(Seen(answers, api.metrics.http_requests, audited, len(handled)), text)


def _count_handled(api: Api) -> list[str]:
    """What goes the application's whole way, from now on."""
    handled: list[str] = []
    resolve = api.app.router.resolve

    async def counting(request: web.Request) -> web.UrlMappingMatchInfo:
        handled.append(request.path)
        return await resolve(request)

    api.app.router.resolve = counting  # type: ignore[method-assign]
    return handled


def _numbered(seen: Seen, first: str) -> Seen:
    ids: dict[str, str] = {first: LEASE}

    def number(found: re.Match[str]) -> str:
        return ids.setdefault(found[0], f"L{len(ids)}")

    audited = re.sub(r"\b[0-9a-f]{16}\b", number, seen.audited)
    plain = re.sub(r"\b[0-9a-f]{16}\b", number, msgspec.json.encode(seen.answers).decode())
    plain = re.sub(r'"Date":"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [0-9:]{8} GMT"', '"Date":"then"', plain)
    return msgspec.structs.replace(
        seen, audited=audited, answers=msgspec.json.decode(plain, type=list[Answer])
    )


async def both_ways(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    requests: Sequence[Request],
    config: Config = CONFIG,
    *,
    loaded: bool = True,
) -> Seen:
    """They come to the same; what that is."""
    hot = await exchange(tmp_path / "hot", requests, config, loaded=loaded)
    with monkeypatch.context() as patched:
        patched.setattr(HotCalls, "find", lambda *_: None)
        usual = await exchange(tmp_path / "usual", requests, config, loaded=loaded)
    assert usual.by_application == len(requests)
    assert hot.answers == usual.answers
    assert hot.counted == usual.counted
    assert hot.audited == usual.audited
    return hot


async def test_hot_calls_are_answered_as_the_application_answers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = f"{ONE}/heartbeat"
    requests = [
        asked("PUT", ONE, HOST),
        asked("PUT", ONE, HOST),
        asked("PUT", ONE, HOST.replace("8080", "8081")),
        asked("PUT", ONE, '{"host": "10.0.0.1", "tags": ["Blue"], "meta": {"a": "b"}, "ports": {"x": 1}}'),
        asked("PUT", ONE, '{"host": "", "text": "\\u00e4", "lease_ttl": 0}'),
        asked("PUT", ONE, ON_LEASE),
        asked("PUT", ONE, HOST, If_None_Match="*"),
        asked("PUT", ONE, HOST, If_Match='"1"'),
        asked("PUT", ONE, HOST, If_Match="*"),
        asked("PUT", ONE, HOST, If_Match="1"),
        asked("PUT", ONE, HOST, Origin="https://evil.example"),
        asked("PUT", ONE, HOST, Host="evil.example"),
        asked("PUT", ONE, HOST, Authorization="Bearer nothing"),
        asked("PUT", ONE, '{"port": 8080}'),
        asked("PUT", ONE, '{"prot": 8080}'),
        asked("PUT", ONE, '{"host": "10.0.0.1", "lease": "1"}'),
        asked("PUT", ONE, "{"),
        asked("PUT", ONE),
        asked("PUT", "/v1/services/web..prod/i1", HOST),
        asked("PUT", "/v1/services/any/i1", HOST),
        asked("PUT", "/v1/services/Web.Prod/I1", HOST),
        asked("PUT", "/v1/services/web.other.test./i1", HOST),
        asked("PUT", "/v1/services/@/i1", HOST),
        asked("POST", beat),
        asked("POST", beat, "{}"),
        asked("POST", beat, '{"x": 1}'),
        asked("POST", "/v1/services/web.prod/missing/heartbeat"),
        asked("POST", f"/v1/leases/{LEASE}/heartbeat"),
        asked("POST", "/v1/leases/1/heartbeat"),
        asked("POST", "/v1/leases/x/heartbeat"),
        asked("POST", "/v1/heartbeats", f'{{"leases": ["{LEASE}", "1"]}}'),
        asked("POST", "/v1/heartbeats", '{"leases": []}'),
        asked("POST", "/v1/heartbeats", '{"leases": 1}'),
        asked(
            "POST",
            "/v1/batch",
            '{"operations": [{"put": {"service": "a", "instance": "b", "host": "10.0.0.1", "lease": "LEASE"}}, '
            '{"put": {"service": "a", "instance": "b", "prot": 1}}, {"delete": {"service": "a", "instance": "x"}}]}',
        ),
        asked("POST", "/v1/batch", '{"operations": []}'),
        asked("POST", "/v1/batch", '{"operations": [1]}'),
    ]
    seen = await both_ways(tmp_path, monkeypatch, requests)
    assert seen.by_application == 0
    assert {answer[0].split()[1] for answer in seen.answers} == {
        "200",
        "201",
        "400",
        "403",
        "404",
        "412",
        "421",
    }


async def test_what_is_not_plainly_a_hot_call_is_the_applications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        asked("PUT", f"{ONE}?x=1", HOST),
        asked("PUT", f"{ONE}?", HOST),
        asked("PUT", "/v1/services/web%2Eprod/i1", HOST),
        asked("PUT", "/v1/services/web.prod/./i1", HOST),
        asked("PUT", "/v1/services/web.prod/i1/", HOST),
        asked("PUT", ONE, HOST, Content_Encoding="gzip"),
        asked("PUT", ONE, HOST, Content_Encoding="identity"),
        asked("GET", ONE),
        asked("DELETE", ONE),
        asked("POST", ONE, HOST),
        asked("PUT", "//v1/services/web.prod/i1", HOST),
    ]
    seen = await both_ways(tmp_path, monkeypatch, requests)
    assert seen.by_application == len(requests)


async def test_tokens_are_asked_for_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = msgspec.structs.replace(CONFIG, http=HttpConfig(tokens=TOKENS))
    callers = [
        "",
        "Bearer the-reader",
        "Bearer the-service",
        "Bearer the-operator",
        "Bearer wrong",
        "Basic eDp5",
    ]
    calls = [
        ("PUT", ONE, HOST),
        ("PUT", "/v1/services/mail.prod/i1", HOST),
        ("PUT", ONE, ON_LEASE),
        ("POST", f"{ONE}/heartbeat", ""),
        ("POST", "/v1/services/mail.prod/i1/heartbeat", ""),
        ("POST", f"/v1/leases/{LEASE}/heartbeat", ""),
        ("POST", "/v1/heartbeats", f'{{"leases": ["{LEASE}"]}}'),
        (
            "POST",
            "/v1/batch",
            '{"operations": [{"put": {"service": "mail", "instance": "i1", "host": "10.0.0.1"}}]}',
        ),
    ]
    requests = [
        asked(*call, **({"Authorization": who} if who else {})) for who in reversed(callers) for call in calls
    ]
    seen = await both_ways(tmp_path, monkeypatch, requests, config)
    assert seen.by_application == 0
    assert {answer[0].split()[1] for answer in seen.answers} >= {"200", "201", "401", "403"}
    assert '"who":"http.tokens[1]"' in seen.audited


async def test_the_rate_counts_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = msgspec.structs.replace(CONFIG, http=HttpConfig(rate=1))
    seen = await both_ways(tmp_path, monkeypatch, [asked("PUT", ONE, HOST)] * 2, config)
    assert [answer[0].split()[1] for answer in seen.answers] == ["201", "429"]


async def test_before_the_first_load_both_ways_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = await both_ways(tmp_path, monkeypatch, [asked("PUT", ONE, HOST)], loaded=False)
    assert seen.answers[0][0].split()[1] == "503"


async def test_answers_come_in_the_order_of_the_calls(tmp_path: Path) -> None:
    """Hot calls and others, all sent at once."""
    puts = [asked("PUT", f"/v1/services/web/i{number}", HOST) for number in range(100)]
    requests = [
        each for put in puts for each in (put, asked("GET", put[1]), asked("POST", f"{put[1]}/heartbeat"))
    ]
    async with running_api(tmp_path) as api:
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(b"".join(map(written, requests)))
        for number in range(100):
            made, got, beaten = [await read(reader) for _ in range(3)]
            assert made[0] == "HTTP/1.1 201 Created"
            assert f'"instance":"i{number}"' in made[2]
            assert got[2] == made[2]
            assert beaten[0] == "HTTP/1.1 200 OK"
            assert beaten[2].startswith('{"lease":')
        writer.close()


async def test_a_call_in_pieces_and_one_behind_it_in_the_same_piece(tmp_path: Path) -> None:
    sent = written(asked("PUT", ONE, HOST)) + written(asked("POST", f"{ONE}/heartbeat"))
    async with running_api(tmp_path) as api:
        for cut in range(1, len(sent), 7):
            reader, writer = await asyncio.open_connection(api.host, api.port)
            for piece in (sent[:cut], sent[cut:]):
                writer.write(piece)
                await asyncio.sleep(0)
            assert (await read(reader))[0].split()[1] in ("200", "201")
            assert (await read(reader))[0].split()[1] == "200"
            writer.close()


async def test_a_connection_that_is_to_be_closed_is_closed(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(written(asked("PUT", ONE, HOST)) + written(asked("PUT", ONE, HOST, Connection="close")))
        assert "Connection" not in (await read(reader))[1]
        assert (await read(reader))[1]["Connection"] == "close"
        assert await reader.read() == b""
        writer.close()


class SlowStore(EmbeddedStore):
    """Writes wait for `go`. `asked`: so many."""

    asked = 0

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        self.asked += 1
        self.go = asyncio.Event()
        await self.go.wait()
        return await super().txn(when, then, otherwise, grant_ttl=grant_ttl)


async def test_bytes_behind_a_hot_call_that_are_no_http_are_a_problem(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=SlowStore) as api:
        assert isinstance(api.store, SlowStore)
        store = api.store
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(written(asked("PUT", ONE, HOST)))
        await until(lambda: store.asked == 1)
        writer.write(b"FOO.. / HTTP/1.1\r\n\r\n")
        asyncio.get_running_loop().call_later(0.01, store.go.set)
        assert (await read(reader))[0] == "HTTP/1.1 201 Created"
        status, headers, _ = await read(reader)
        assert (status.split()[1], headers["Content-Type"]) == ("400", "application/problem+json")
        assert await reader.read() == b""
        writer.close()


async def test_a_call_at_work_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes; after it the time of idleness begins, and then it ends the connection."""
    fired: list[Connection] = []
    process = Connection._process_keepalive

    def processed(connection: Connection) -> None:
        process(connection)
        fired.append(connection)

    monkeypatch.setattr(Connection, "_process_keepalive", processed)
    async with running_api(tmp_path, store_type=SlowStore, idle_seconds=0.05) as api:
        assert isinstance(api.store, SlowStore)
        store = api.store
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(written(asked("PUT", ONE, HOST)))
        await until(lambda: store.asked == 1)
        await until(lambda: bool(fired))
        store.go.set()
        assert (await read(reader))[0] == "HTTP/1.1 201 Created"
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()


async def test_who_leaves_before_the_answer_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=SlowStore) as api:
        assert isinstance(api.store, SlowStore)
        store = api.store
        _, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(written(asked("PUT", ONE, HOST)) * 2)
        await until(lambda: store.asked == 1)
        writer.transport.abort()
        await until(lambda: len(api.parts.admission) == 0)
        store.go.set()
        await until(lambda: not _at_work())
        assert store.asked == 1


async def test_the_end_of_the_node_waits_for_a_call_at_work(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=SlowStore) as api:
        assert isinstance(api.store, SlowStore)
        store = api.store
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(written(asked("PUT", ONE, HOST)))
        await until(lambda: store.asked == 1)
        asyncio.get_running_loop().call_later(0.05, store.go.set)
    assert (await read(reader))[0] == "HTTP/1.1 201 Created"
    assert await reader.read() == b""
    writer.close()
    assert not _at_work()


@pytest.mark.slow
async def test_a_call_that_never_ends_is_cut_off_at_the_end_of_the_node(tmp_path: Path) -> None:
    async with running_api(tmp_path, store_type=SlowStore) as api:
        assert isinstance(api.store, SlowStore)
        store = api.store
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(written(asked("PUT", ONE, HOST)))
        await until(lambda: store.asked == 1)
    assert await reader.read() == b""
    writer.close()
    await until(lambda: not _at_work())


async def test_a_fault_outside_of_the_handlers_is_a_problem_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_api(tmp_path) as api:
        del api.metrics.http_requests  # what the outermost middleware counts in
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(written(asked("PUT", ONE, HOST)) * 2)
        status, headers, body = await read(reader)
        assert (status.split()[1], headers["Connection"]) == ("500", "close")
        assert '"/problems/internal"' in body
        assert await reader.read() == b""
        writer.close()
    assert "AttributeError" in caplog.text


def _at_work() -> list[str]:
    """The tasks of connections."""
    names = (Connection.start.__qualname__, Connection._answer_hot.__qualname__)
    return [text for task in asyncio.all_tasks() if any(name in (text := str(task)) for name in names)]

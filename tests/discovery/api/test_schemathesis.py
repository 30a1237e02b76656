"""Schemathesis: requests made from the API's description, right and wrong, and each answer held against it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from discovery.api.described import CALLS
from discovery.api.openapi import document, public_path
from tests.discovery.api.test_access import bearer, secured

SEED = 20261126
EXAMPLES = 25
SECONDS = 30.0
OPERATOR = bearer("the-operator")
ONE = "/v1/services/{service}/{instance}"
# Nothing that is made up here can be granted: the store is no cluster, the token is not there, the watch would not end.
NEVER_DONE = {
    ("GET", "/v1/watch"),
    ("DELETE", "/v1/tokens/{token}"),
    *(route for route in CALLS if route[1].startswith(("/v1/cluster/",))),
}
# There is nothing that could be wrong about a request without parameters and body.
WRONG = [
    route
    for route, call in CALLS.items()
    if "{" in route[1] or call.query or call.headers or call.body is not None
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a node with tokens, in a thread of its own; the requests are sent from this one."""
    path = tmp_path_factory.mktemp("node")
    ready, urls = threading.Event(), list[str]()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with secured(path) as api:
            end = asyncio.Event()
            stop.append((asyncio.get_running_loop(), end))
            urls.append(f"http://{api.host}:{api.port}")
            ready.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(SECONDS)
    yield urls[0]
    loop, end = stop[0]
    loop.call_soon_threadsafe(end.set)
    thread.join(SECONDS)


def cases(route: tuple[str, str], node: str, mode: GenerationMode) -> st.SearchStrategy[Case[Any]]:
    described = document("1.2.3")
    for methods in described["paths"].values():
        for operation in methods.values():
            del operation["responses"]["default"]  # so that every status has to be declared
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=node)
    return schema[public_path(route[1])][route[0]].as_strategy(generation_mode=mode)


def send(case: Case[Any], path: str, *left_out: Any) -> int:  # Any: a check, as their decorator types it
    """Sends it and checks the answer; its status.

    What JSON schema can't say (names, addresses, what is registered) may be refused whatever it looks like.
    What would wait for what never comes, or stream without an end, does not.
    """
    print(f"seed {SEED}: {case.as_curl_command()}")
    if "wait" in (case.query or {}):
        case.query["wait"] = 0 if path.startswith("/v1") else "false"
    if path == "/v1/watch":
        case.query = {**(case.query or {}), "since": 1 << 60}
        case.headers.pop("Last-Event-ID", None)
    return case.call_and_validate(
        headers=OPERATOR, excluded_checks=[positive_data_acceptance, *left_out], timeout=SECONDS
    ).status_code


BOUNDED = settings(
    max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
@pytest.mark.parametrize("route", CALLS, ids=" ".join)
def test_right_requests_are_answered_as_described(node: str, route: tuple[str, str]) -> None:
    seen = set[int]()

    @seed(SEED)
    @BOUNDED
    @given(case=cases(route, node, GenerationMode.POSITIVE), there=st.booleans())
    def check(case: Case[Any], there: bool) -> None:
        if there:
            speak_of_what_is_there(node, route, case)
        seen.add(send(case, route[1], negative_data_rejection))

    check()
    assert seen & set(CALLS[route].answers) or route in NEVER_DONE, f"never done, only {seen}"


@pytest.mark.slow
@pytest.mark.parametrize("route", WRONG, ids=" ".join)
def test_wrong_requests_are_refused_as_described(node: str, route: tuple[str, str]) -> None:
    @seed(SEED)
    @BOUNDED
    @given(case=cases(route, node, GenerationMode.NEGATIVE))
    def check(case: Case[Any]) -> None:
        left_out = [negative_data_rejection] if route[1] == "/v1/batch" else []  # each operation is, alone
        send(case, route[1], *left_out)

    check()


def speak_of_what_is_there(node: str, route: tuple[str, str], case: Case[Any]) -> None:
    """Registers an instance on a lease and has the case ask for it, with a body that can be taken."""

    def made(method: str, path: str, body: Any) -> Any:  # Any: JSON
        answer = requests.request(method, node + path, json=body, headers=OPERATOR, timeout=SECONDS)
        assert answer.ok, answer.text
        return answer.json()

    lease = made("POST", "/v1/leases", {"ttl": 60})["id"]
    made("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.1", "lease": lease})
    names = {"service": "web.prod", "instance": "i1", "lease": lease, "key": "skydns/test/key"}
    for name in case.path_parameters or {}:
        case.path_parameters[name] = names.get(name, case.path_parameters[name])
    for condition in ("If-Match", "If-None-Match"):
        case.headers.pop(condition, None)
    bodies: Mapping[tuple[str, str], Any] = {
        ("PUT", ONE): {"host": "10.0.0.1", "lease_ttl": 60},
        ("POST", "/v1/leases"): {"ttl": 60},
        ("POST", "/v1/heartbeats"): {"leases": [lease, "1"]},
        ("POST", "/v1/batch"): {
            "operations": [
                {"put": {"service": "web", "instance": "b", "host": "10.0.0.2", "lease": lease}},
                {"delete": {"service": "web", "instance": "none"}},
            ]
        },
        ("POST", "/v1/tokens"): {"name": "somebody", "role": "read"},
        ("POST", "/v1/store/compact"): {},
        ("PUT", "/v2/keys{key}"): {"value": "{}"},
        ("POST", "/v2/keys{key}"): {"value": "{}"},
    }
    case.body = bodies.get(route, case.body)
    if route[1].startswith("/v2/keys"):
        requests.put(
            f"{node}/v2/keys/skydns/test/key", data={"value": "{}"}, headers=OPERATOR, timeout=SECONDS
        )
        case.query = {}
    if route[1] in ("/v1/lookup", "/v1/zone"):
        case.query = {}

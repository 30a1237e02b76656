"""The API's description is valid OpenAPI, and speaks of the routes that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from discovery.api.app import make_app
from discovery.api.calls import Stream
from discovery.api.described import CALLS, IN_PATH, TAGS
from discovery.api.openapi import document, public_path
from discovery.api.roles import ROLES
from discovery.tokens import Role
from tests.discovery.api.test_roles import routes_of
from tests.support.api import running_api

DOCUMENT = document("1.2.3")
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def references(part: Any) -> Iterator[str]:  # Any: JSON
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        yield from references(list(part.values()))
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


async def test_every_route_is_described_and_nothing_else(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert set(CALLS) == routes_of(make_app(api.parts))
    assert set(CALLS) == set(ROLES)
    assert set(OPERATIONS) == {(method, public_path(path)) for method, path in CALLS}


def test_the_document_is_valid() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", "1.2.3")


@pytest.mark.slow
def test_a_document_that_is_not_valid_is_seen() -> None:
    """The validator looks where our mistakes would be."""
    broken = document("1")
    broken["paths"]["/healthz"]["get"]["responses"] = {}
    del broken["paths"]["/v1/services/{service}"]["get"]["parameters"]
    assert len(list(OpenAPIV31SpecValidator(broken).iter_errors())) >= 2


def test_what_is_referred_to_is_there_and_nothing_stands_there_unused() -> None:
    found = set(references(DOCUMENT))
    there = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "headers")
        for name in DOCUMENT["components"][kind]
    }
    assert found == there


def test_ids_tags_and_parameters() -> None:
    ids = [call.id for call in CALLS.values()]
    assert len(set(ids)) == len(ids)
    assert {call.tag for call in CALLS.values()} == set(TAGS)
    named = {name for _, path in CALLS for name in re.findall(r"\{(\w+)\}", path)}
    assert named == set(IN_PATH)


@pytest.mark.parametrize(("route", "call"), CALLS.items(), ids=[call.id for call in CALLS.values()])
def test_every_operation_says_its_role_its_security_and_its_errors(route: tuple[str, str], call: Any) -> None:
    method, path = route
    operation, role = OPERATIONS[method, public_path(path)], ROLES[route]
    assert operation["x-role"] == role.name.lower()
    assert bool(operation["security"]) == (role is not Role.NOBODY)
    answers = operation["responses"]
    assert ("401" in answers) == (role is not Role.NOBODY)
    assert {"400", "default"} <= set(answers)
    for status, answer in answers.items():
        if status[0] in "45" and not path.startswith("/v2"):
            assert list(answer["content"]) == ["application/problem+json"], status
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
        if status[0] in "23" and call.revision:
            assert "X-Revision" in answer["headers"]
        if status.isdigit() and int(status) in call.answers:
            what = call.answers[int(status)]
            assert ("content" in answer) == (what is not None)
            assert not isinstance(what, Stream) or list(answer["content"]) == list(what.media)


def test_batches_and_watches_are_described_though_they_are_read_piece_by_piece() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    items = schemas["BatchBody"]["properties"]["operations"]["items"]
    assert items == {"$ref": "#/components/schemas/BatchOperation"}
    assert schemas["BatchOperation"]["properties"]["put"] == {"$ref": "#/components/schemas/PutOperation"}
    watch = OPERATIONS["GET", "/v1/watch"]["responses"]["200"]["content"]
    assert set(watch) == {"application/x-ndjson", "text/event-stream"}
    told = watch["application/x-ndjson"]["schema"]["contentSchema"]["discriminator"]["mapping"]
    assert set(told) == {"put", "delete", "synced", "lagged"}

"""The API's description: an OpenAPI 3.1 document, made from the declared routes, the roles and the bodies' structs.

Owns the document's form, and what many routes have in common: parameters of the path, headers, errors, security. Pure:
declarations in, plain JSON out. It never says anything of one route, and never looks at a request. The schemas are
msgspec's own (JSON schema 2020-12), so they are what the handlers decode and encode.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from discovery.api.batch import BatchOperation, DeleteOperation, PutOperation
from discovery.api.calls import FORM, JSON, Call, Parameter, Stream
from discovery.api.described import CALLS, IN_PATH, TAGS, V2
from discovery.api.problems import CONTENT_TYPE, Problem
from discovery.api.roles import ROLES
from discovery.api.v2errors import Failure
from discovery.tokens import Role

Json = dict[str, Any]  # Any: JSON

TITLE = "Discovery"
DESCRIPTION = (
    "Service discovery over DNS: register over HTTP, keep a lease alive, be found with SRV and A. Durations are whole "
    "seconds, times RFC 3339 UTC; fields and parameters that are not known are refused. HEAD is answered wherever GET "
    "is. While there is no token at all, every caller may do everything; then each needs one of the role in `x-role`, "
    "or of one above it (read, register, operate)."
)
REFERENCE = "#/components/{}/{}"

ERRORS: Mapping[int, str] = {
    400: "A field, a parameter or the body is wrong: `field` says which",
    401: "No token, or none that is known and has not expired",
    403: "The token does not allow it, or a web page of another origin asked",
    404: "There is no such thing, or its lease has expired",
    408: "The body did not arrive in time",
    409: "The present state does not allow it",
    410: "The revision is compacted, or of another store: begin without it",
    412: "If-Match or If-None-Match did not hold",
    413: "The body is too large",
    415: "The body is compressed",
    421: "Called by a name that may be anybody's, while no token is asked for",
    429: "More calls a second than http.rate gives a client: again after Retry-After",
    503: "The node can't serve this now: try another, or again after Retry-After",
}
OTHER = "Any other error, in the same form"

HEADERS: Mapping[str, tuple[str, Json]] = {
    "X-Revision": ("The revision of the store that the answer reflects", {"type": "integer"}),
    "X-View-Revision": (
        "Below X-Revision: how far this node's DNS has come, after 2 s of waiting",
        {"type": "integer"},
    ),
    "X-Stale-Seconds": ("So long the store has been out of reach", {"type": "integer"}),
    "ETag": ("The instance's revision, in double quotes", {"type": "string"}),
    "Retry-After": ("Seconds", {"type": "integer"}),
    "WWW-Authenticate": ("RFC 6750", {"type": "string"}),
}
ALWAYS = frozenset({"X-Revision", "Retry-After", "WWW-Authenticate"})  # where they are declared at all
CONDITIONS = (
    Parameter(
        "If-Match", "do it only while the instance has this ETag, or `*`", {"type": "string"}, "header"
    ),
    Parameter("If-None-Match", "`*`: do it only while there is none", {"type": "string"}, "header"),
)
SECURITY: Mapping[str, Json] = {
    "token": {"type": "http", "scheme": "bearer", "description": "`discovery token make` makes one."},
    "certificate": {"type": "mutualTLS", "description": "A client certificate whose name stands for a role."},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "For clients of etcd 2: a token as the password of any user.",
    },
}


def document(
    version: str,
    calls: Mapping[tuple[str, str], Call] = CALLS,
    roles: Mapping[tuple[str, str], Role] = ROLES,
) -> Json:
    """The whole document. Raises KeyError where a route has no role, or its path has a part nobody declared."""
    schemas = _Schemas([*_structs(calls.values())])
    paths: Json = {}
    for (method, path), call in calls.items():
        operation = _operation(path, call, roles[method, path], schemas)
        paths.setdefault(public_path(path), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version, "description": DESCRIPTION},
        "servers": [{"url": "/", "description": "This node"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": {
                name: {"description": text, "required": name in ALWAYS, "schema": schema}
                for name, (text, schema) in HEADERS.items()
            },
            "securitySchemes": dict(SECURITY),
        },
    }


def public_path(path: str) -> str:
    """The path as others write it: the key of /v2/keys begins with the slash before it."""
    return path.replace("/keys{key}", "/keys/{key}")


def _structs(calls: Iterable[Call]) -> Iterator[Any]:  # Any: types
    yield from (Problem, Failure, BatchOperation, PutOperation, DeleteOperation)
    for call in calls:
        if call.body is not None:
            yield call.body
        for answer in call.answers.values():
            if isinstance(answer, Stream):
                answer = answer.piece
            if answer is not None:
                yield answer


class _Schemas:
    """The components of the structs, and how each is referred to."""

    def __init__(self, types: Sequence[Any]) -> None:  # Any: types
        unique = list(dict.fromkeys(types))
        template = REFERENCE.format("schemas", "{name}")
        found, self.components = msgspec.json.schema_components(unique, ref_template=template)
        self._found: dict[object, Json] = dict(zip(unique, found, strict=True))

    def of(self, of_type: object) -> Json:
        return self._found[of_type]


# ---------------------------------------------------------------- one route


def _operation(path: str, call: Call, role: Role, schemas: _Schemas) -> Json:
    parameters = [IN_PATH[name] for name in re.findall(r"\{(\w+)\}", path)]
    parameters += [*call.query, *call.headers, *(CONDITIONS if call.conditional else ())]
    operation: Json = {"operationId": call.id, "summary": call.summary, "tags": [call.tag]}
    if call.description:
        operation["description"] = call.description
    if parameters:
        operation["parameters"] = [_parameter(each) for each in parameters]
    if call.body is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(call.body)),
            "content": {FORM if call.tag == V2 else JSON: {"schema": schemas.of(call.body)}},
        }
    answers = {str(status): _answer(status, what, call, schemas) for status, what in call.answers.items()}
    errors = {str(status): _error(status, call, schemas) for status in sorted(_errors(path, call, role))}
    operation["responses"] = answers | errors | {"default": _problem(OTHER, schemas)}
    operation["security"] = _security(call, role)
    operation["x-role"] = role.name.lower()
    return operation


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.where == "path",
        "schema": dict(parameter.schema),
    }


def _answer(status: int, what: object, call: Call, schemas: _Schemas) -> Json:
    answer: Json = {
        "description": {201: "It is new", 204: "It is done", 304: "As it was"}.get(status, "So it is")
    }
    if isinstance(what, Stream):
        answer["description"] = what.description
        schema: Json = {} if what.binary or what.media[0] == JSON else {"type": "string"}
        if what.piece is not None:
            schema["contentMediaType"] = JSON
            schema["contentSchema"] = schemas.of(what.piece)
        answer["content"] = {media: {"schema": schema} for media in what.media}
    elif what is not None:
        answer["content"] = {JSON: {"schema": schemas.of(what)}}
    names = ["X-Revision"] if call.revision else []
    if call.revision and call.tag != V2:
        names += ["X-View-Revision", "X-Stale-Seconds"]
    if call.etag:
        names.append("ETag")
    return answer | _headers(names)


def _headers(names: Sequence[str]) -> Json:
    if not names:
        return {}
    return {"headers": {name: {"$ref": REFERENCE.format("headers", name)} for name in names}}


def _errors(path: str, call: Call, role: Role) -> set[int]:
    found = {400, 421, *call.errors}
    if role is not Role.NOBODY:
        found |= {401, 403}
    if path not in ("/healthz", "/readyz"):
        found.add(429)
    if path not in ("/healthz", "/metrics", "/openapi.json", "/docs"):
        found.add(503)
    if call.body is not None:
        found |= {408, 413, 415} if call.tag != V2 else {408, 413}
    return found


def _error(status: int, call: Call, schemas: _Schemas) -> Json:
    names = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
    if call.tag == V2 and status not in (408,):
        content = {JSON: {"schema": schemas.of(Failure)}}
        return {"description": ERRORS[status], "content": content} | _headers([*names, "X-Revision"])
    if status == 412 and call.conditional:
        names = [*names, "X-Revision", "ETag"]
    return _problem(ERRORS[status], schemas) | _headers(names)


def _problem(description: str, schemas: _Schemas) -> Json:
    return {"description": description, "content": {CONTENT_TYPE: {"schema": schemas.of(Problem)}}}


def _security(call: Call, role: Role) -> list[Json]:
    """Any one of them; an empty list: none is needed."""
    if role is Role.NOBODY:
        return []
    schemes = ["token", "certificate", *(["password"] if call.tag == V2 else [])]
    return [{name: []} for name in schemes]

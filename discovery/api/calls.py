"""What can be declared about a route for the API's description, and what the shapes are that no struct else has.

Owns `Call`, one route's declaration, and the structs that stand for what is read or written by hand: the lines of a
watch, the form of etcd's old keys API. Says nothing about any one route: that is `described`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from discovery.api.bodies import Instance
from discovery.api.events import Gone

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Parameter(NamedTuple):
    """`schema` in JSON schema; where it names the parameter, in the URL's path, it is always required."""

    name: str
    description: str
    schema: Mapping[str, object]
    where: Literal["query", "path", "header"] = "query"


class Stream(NamedTuple):
    """A body that is not one JSON value. `piece`: what each part of it is, as JSON, where it is."""

    media: Sequence[str]
    description: str
    piece: object = None
    binary: bool = False


class Call(NamedTuple):
    """A route.

    `id` is the name of the operation in clients that are generated, `answers` what it answers by status when all is
    well (None: no body), `errors` its own beside those that many routes have, `etag` whether an answer is one
    instance's, `conditional` whether If-Match and If-None-Match are looked at.
    """

    id: str
    tag: str
    summary: str
    answers: Mapping[int, object]
    body: type[msgspec.Struct] | None = None
    query: Sequence[Parameter] = ()
    headers: Sequence[Parameter] = ()
    errors: Sequence[int] = ()
    revision: bool = True
    etag: bool = False
    conditional: bool = False
    description: str = ""


# ---------------------------------------------------------------- the lines of /v1/watch


class PutEvent(Instance, tag="put", tag_field="type", kw_only=True):
    """An instance that is there, new or changed. `more`: further events of the same revision follow."""

    more: bool = False


class DeleteEvent(Gone, tag="delete", tag_field="type", kw_only=True):
    """One that is gone. `reason`: `deregistered`, `expired` or `drained`, left out where nobody knows."""

    more: bool = False


class SyncedEvent(msgspec.Struct, tag="synced", tag_field="type"):
    """All that was there has been told."""

    revision: int


class LaggedEvent(msgspec.Struct, tag="lagged", tag_field="type"):
    """The last word to a reader who was too slow: go on with `since`."""


WatchEvent = PutEvent | DeleteEvent | SyncedEvent | LaggedEvent


# ---------------------------------------------------------------- the form of /v2/keys


class KeyForm(msgspec.Struct, rename="camel", kw_only=True):
    """A form's fields come before the query's of the same name."""

    value: str | UnsetType = UNSET
    ttl: int | UnsetType = UNSET
    prev_exist: bool | UnsetType = UNSET
    prev_value: str | UnsetType = UNSET
    prev_index: int | UnsetType = UNSET
    refresh: bool | UnsetType = UNSET
    dir: bool | UnsetType = UNSET
    no_value_on_success: bool | UnsetType = UNSET

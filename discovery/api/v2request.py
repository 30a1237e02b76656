"""What a request of etcd's old keys API asks for.

Owns the reading of key, query and form, by etcd 2's rules: a form's fields come before the query's, every parameter
may stand in any request, and one that does not apply to its method is ignored. Parameters that etcd does not know are
refused, so a typo never passes silently. It never looks at the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from aiohttp import web

from discovery.api import bodies
from discovery.api.parts import ApiParts
from discovery.api.v2errors import (
    BAD_INDEX,
    BAD_TTL,
    EMPTY_VALUE,
    INVALID_FIELD,
    INVALID_FORM,
    REFRESH_WITH_VALUE,
    REFRESH_WITHOUT_TTL,
    ROOT_READ_ONLY,
    EtcdError,
)

MAX_VALUE = 1 << 20  # bytes
MAX_BODY = 4 << 20  # a value of MAX_VALUE in percent-encoding, and the other fields
BIG_FORM = 64 << 10  # bytes; decoding a full one takes a second, which the event loop can't be without
MAX_TTL = 2147483647
MAX_INDEX = (1 << 64) - 1

_FLAGS = ("recursive", "sorted", "wait", "stream", "dir", "quorum", "refresh", "noValueOnSuccess")
_KNOWN = (*_FLAGS, "value", "ttl", "prevValue", "prevIndex", "prevExist", "waitIndex")
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)


class Asked(msgspec.Struct, frozen=True):
    """`ttl` 0: none, in seconds. `prev_value`, `prev_index`: empty and 0 are not asked for. `sorted` and `quorum`
    are always so here."""

    value: bytes
    ttl: int
    prev_value: bytes
    prev_index: int
    prev_exist: bool | None
    wait_index: int
    recursive: bool
    wait: bool
    stream: bool
    dir: bool
    refresh: bool
    no_value_on_success: bool

    @property
    def compares(self) -> bool:
        return bool(self.prev_value or self.prev_index)


def read_key(request: web.Request, parts: ApiParts) -> bytes:
    """The key in the URL: percent-decoded, cleaned as etcd does it. Raises EtcdError outside the prefix."""
    raw = request.rel_url.raw_path.removeprefix("/v2/keys")
    segments: list[bytes] = []
    for segment in unquote_to_bytes(raw).split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    key = b"/" + b"/".join(segments)
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise EtcdError(INVALID_FIELD, f"{raw}: the key is not UTF-8") from None
    prefix = parts.config.store.prefix
    if text != prefix and not text.startswith(f"{prefix}/"):
        raise EtcdError(ROOT_READ_ONLY, f"{text}: only keys below {prefix} are here")
    return key


async def read_asked(request: web.Request) -> Asked:
    """Raises EtcdError, TooLarge, InvalidField."""
    given: dict[str, str] = {}
    for name, text in (*await _form(request), *request.query.items()):
        if name not in _KNOWN:
            raise EtcdError(
                INVALID_FIELD, f"{name}: there is no such parameter; there are: {', '.join(_KNOWN)}"
            )
        given.setdefault(name, text)
    flags = {name: _flag(given, name) for name in _FLAGS}
    if flags["wait"] and request.method != "GET":
        raise EtcdError(INVALID_FIELD, '"wait" can only be used with GET requests')
    if given.get("prevValue") == "":
        raise EtcdError(EMPTY_VALUE, '"prevValue" cannot be empty')
    if flags["refresh"] and given.get("value"):
        raise EtcdError(REFRESH_WITH_VALUE, "A value was provided on a refresh")
    if flags["refresh"] and not given.get("ttl"):
        raise EtcdError(REFRESH_WITHOUT_TTL, "No TTL value set")
    value = given.get("value", "").encode()
    if len(value) > MAX_VALUE:
        raise EtcdError(INVALID_FIELD, f"the value is larger than {MAX_VALUE} bytes", status=413)
    return Asked(
        value=value,
        ttl=_ttl(given),
        prev_value=given.get("prevValue", "").encode(),
        prev_index=_index(given, "prevIndex"),
        prev_exist=_flag(given, "prevExist") if "prevExist" in given else None,
        wait_index=_index(given, "waitIndex"),
        recursive=flags["recursive"],
        wait=flags["wait"],
        stream=flags["stream"],
        dir=flags["dir"],
        refresh=flags["refresh"],
        no_value_on_success=flags["noValueOnSuccess"],
    )


async def _form(request: web.Request) -> list[tuple[str, str]]:
    if request.method not in ("PUT", "POST"):
        return []
    form = await bodies.read_body(request, MAX_BODY)
    if form and request.content_type not in ("application/x-www-form-urlencoded", "application/octet-stream"):
        raise EtcdError(INVALID_FORM, f"the body is {request.content_type}: send a form, as curl -d does")
    return await asyncio.to_thread(_parse, form) if len(form) > BIG_FORM else _parse(form)


def _parse(form: bytes) -> list[tuple[str, str]]:
    """The fields of a form as curl -d sends it. Raises EtcdError."""
    try:
        return parse_qsl(form.decode(), keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError as error:
        raise EtcdError(INVALID_FORM, f"the form can't be read: {error}") from None


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "false")
    if text not in _BOOLEANS:
        raise EtcdError(INVALID_FIELD, f'invalid value for "{name}"')
    return _BOOLEANS[text]


def _whole(text: str, most: int) -> int | None:
    """None when the text is no whole number from 0 to `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= most):
        return None
    return int(text)


def _index(given: Mapping[str, str], name: str) -> int:
    index = _whole(given.get(name, "0"), MAX_INDEX)
    if index is None:
        raise EtcdError(BAD_INDEX, f'invalid value for "{name}"')
    return index


def _ttl(given: Mapping[str, str]) -> int:
    """Seconds; 0 when none is given. etcd removes a key of `ttl=0` at once: a ttl that asks for that is refused."""
    text = given.get("ttl", "")
    if not text:
        return 0
    ttl = _whole(text, MAX_TTL)
    if not ttl:
        raise EtcdError(BAD_TTL, f'invalid value for "ttl": {text!r} is not from 1 to {MAX_TTL} seconds')
    return ttl

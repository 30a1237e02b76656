"""A service's fields: what is stored for one instance, and its JSON both ways.

Owns the type `Service`, reading of stored values (ours and foreign: SkyDNS, CoreDNS, ExternalDNS, Registrator),
and writing. Reading is lenient in letter case and unknown fields, strict in types, and says why a value is
unreadable, so that one bad record never spoils its neighbours (names.md, "Exact rulings"). It never looks at keys.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NoReturn

import msgspec

from discovery.names import MAX_LABEL, Path, host_path

MAX_INT = 2147483647
MAX_RDATA = 65535  # bytes of a record's data (RFC 1035 section 3.2.1)
EMPTY: Mapping[str, str] = MappingProxyType({})
NO_PORTS: Mapping[str, int] = MappingProxyType({})


class Unreadable(ValueError):
    """A stored value that is no service; the text says why, for a log line and for `lookup`."""


class Service(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Fields as SkyDNS names them, and ours: `ports`, `tags`, `meta`, `lease_ttl`. 0 and "" mean the zone's default.

    `ports` maps a port's name, or `name/udp`, to its number. `lease_ttl` (seconds) repeats the granted TTL of the
    lease that the record hangs on, so that no reader has to ask the store for it. `own_lease`: that lease was made
    for this record alone, so whoever takes the record off it may revoke it; never set for a lease that is shared.
    """

    host: str = ""
    port: int = 0
    priority: int = 0
    weight: int = 0
    text: str = ""
    mail: bool = False
    ttl: int = 0
    targetstrip: int = 0
    group: str = ""
    ports: Mapping[str, int] = NO_PORTS
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = EMPTY
    lease_ttl: int = 0
    own_lease: bool = False


_INTEGERS = {
    "port": (0, 65535),
    "priority": (0, 65535),
    "weight": (0, MAX_INT),
    "ttl": (0, MAX_INT),
    "targetstrip": (-MAX_INT, MAX_INT),
    "lease_ttl": (0, MAX_INT),
}
_TEXTS = ("host", "text", "group")
_BOOLS = ("mail", "own_lease")


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}\Z")  # as `ipaddress` reads it, at a tenth of the time


def address_of(host: str) -> bytes | None:
    """The 4 or 16 bytes of an address; None when `host` is none. `::ffff:a.b.c.d` is the IPv4 address."""
    if _IPV4.match(host):
        return bytes(map(int, host.split(".")))
    if "%" in host or not (":" in host or host[-1:].isdigit()):
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


@lru_cache(maxsize=1024)  # asked when it is checked and when it is held
def resolve_host(host: str) -> tuple[bytes | None, Path | None]:
    """(address, name) of which one is set, or neither for an empty host. Raises Unreadable for anything else."""
    if not host:
        return None, None
    address = address_of(host)
    if address is not None:
        return address, None
    try:
        return None, host_path(host)
    except ValueError as error:
        raise Unreadable(str(error)) from None


# ---------------------------------------------------------------- reading what is stored


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not JSON")


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs in order, so that of fields that fold together the last can count."""


_ENCODER = msgspec.json.Encoder(enc_hook=dict)  # of a read-only mapping
_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_constant)


def _number(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int:
        raise Unreadable(f"{name} is not an integer")
    if not low <= value <= high:
        raise Unreadable(f"{name} {value} is not in {low}..{high}")
    return value


def _text(name: str, value: object) -> str:
    if type(value) is not str:
        raise Unreadable(f"{name} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable(f"{name} holds half of a surrogate pair") from None
    return value


def _folded(text: str) -> str:
    """Only A-Z fold, as in names."""
    return text.encode().lower().decode()


def _txt_length(text: str) -> int:
    size = len(text.encode())
    return size + -(-size // 255)


def _ports(value: object) -> Mapping[str, int]:
    if not isinstance(value, _Pairs):
        raise Unreadable("ports is not an object")
    ports = {}
    for name, number in value:
        label, slash, protocol = _folded(_text("ports", name)).partition("/")
        if not label or (slash and protocol not in ("tcp", "udp")):
            raise Unreadable(f"ports: {name!r} is not a name, name/tcp or name/udp")
        ports[f"{label}/udp" if protocol == "udp" else label] = _number(f"ports.{name}", number, 0, 65535)
    return MappingProxyType(ports)


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or isinstance(value, _Pairs):
        raise Unreadable("tags is not a list")
    tags = tuple(_folded(_text("tags", tag)) for tag in value)
    for tag in tags:
        if not 0 < len(tag.encode()) <= MAX_LABEL:
            raise Unreadable(f"tags: {tag!r} is not a label")
    return tuple(dict.fromkeys(tags))


def meta_string(key: str, text: str) -> bytes:
    """One string of a TXT record (RFC 6763 section 6.4). Raises Unreadable when it cannot be one."""
    string = f"{key}={text}".encode()
    if not key or "=" in key:
        raise Unreadable(f"meta: the key {key!r} is empty or holds '='")
    if len(string) > 255:
        raise Unreadable(f"meta: {key}=... is longer than 255 bytes")
    return string


def _meta(value: object) -> Mapping[str, str]:
    if not isinstance(value, _Pairs):
        raise Unreadable("meta is not an object")
    meta = {_text("meta", key): _text(f"meta.{key}", text) for key, text in value}
    if sum(len(meta_string(key, text)) + 1 for key, text in meta.items()) > MAX_RDATA:
        raise Unreadable("meta is longer than one TXT record can be")
    return MappingProxyType(meta)


def read(value: bytes) -> Service:
    """A stored value as a service. Raises Unreadable with the reason.

    null is an absent field; unknown fields are ignored; field names fold A-Z.
    """
    try:
        document = _DECODER.decode(value.decode())
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    except ValueError as error:
        raise Unreadable(str(error) if isinstance(error, Unreadable) else f"not JSON: {error}") from None
    if not isinstance(document, _Pairs):
        raise Unreadable("not a JSON object")
    fields: dict[str, object] = {}
    for name, content in document:
        fields[name.lower() if name.isascii() else name] = content
    known: dict[str, object] = {}
    for name, content in fields.items():
        if content is None:
            continue
        if name in _INTEGERS:
            known[name] = _number(name, content, *_INTEGERS[name])
        elif name in _TEXTS:
            known[name] = text = _text(name, content)
            if name == "text" and _txt_length(text) > MAX_RDATA:
                raise Unreadable("text is longer than one TXT record can be")
        elif name in _BOOLS:
            if type(content) is not bool:
                raise Unreadable(f"{name} is not true or false")
            known[name] = content
        elif name == "ports":
            known[name] = _ports(content)
        elif name == "tags":
            known[name] = _tags(content)
        elif name == "meta":
            known[name] = _meta(content)
    service = Service(**known)  # type: ignore[arg-type]  # each was checked above, field by field
    resolve_host(service.host)
    return service


# ---------------------------------------------------------------- writing what is stored


def write(service: Service) -> bytes:
    """The value to store: compact JSON, defaults left out, SkyDNS's fields first."""
    if not service.ports or not service.meta:  # only the defaults themselves are left out
        service = msgspec.structs.replace(
            service, ports=service.ports or NO_PORTS, meta=service.meta or EMPTY
        )
    return _ENCODER.encode(service)

"""From a PUT's body to the service that is stored, and from a stored record to the instance that is answered.

Owns the checks that types can't make (labels, hosts, lengths) and the zone's defaults in answers. What it lets
through, `discovery.service` can read again. It never touches the store.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from aiohttp import web
from msgspec import UNSET, UnsetType

from discovery import names, service
from discovery.api.bodies import Instance, InstanceBody, LeaseInstance, heartbeat_every
from discovery.api.parts import ApiParts, rfc3339
from discovery.drained import Drained
from discovery.errors import InvalidField, NotFound
from discovery.kv.contract import KV, MAX_LEASE_ID
from discovery.names import Path
from discovery.registry import lease_text
from discovery.service import Service
from discovery.tree import Record

MAX_TEXT = 60_000  # bytes
MAX_PORT = 65535

_LEASE_ID = re.compile(r"[0-9a-fA-F]{1,16}\Z")


# ---------------------------------------------------------------- in


def to_service(body: InstanceBody, caller: str | None) -> Service:
    """`caller` is the address the request came from. Raises InvalidField."""
    if body.text and len(body.text.encode()) > MAX_TEXT:
        raise InvalidField(f"text: it is longer than {MAX_TEXT} bytes; shorten it", field="text")
    if body.group:
        names.check_label(body.group, "group")
    if body.meta:
        _check_meta(body.meta)
    made = Service(
        host=_host(body.host, caller),
        port=body.port,
        priority=body.priority,
        weight=body.weight,
        text=body.text,
        mail=body.mail,
        ttl=body.ttl,
        targetstrip=body.targetstrip,
        group=body.group,
        ports=_ports(body.ports) if body.ports else service.NO_PORTS,
        tags=tuple(dict.fromkeys(names.check_label(tag, "tags").decode() for tag in body.tags)),
        meta=MappingProxyType(body.meta) if body.meta else service.EMPTY,
    )
    if body.text or body.group or body.ports or body.tags or body.meta:
        _prove(made)  # all else are numbers, and a host that was read
    return made


def _check_meta(meta: Mapping[str, str]) -> None:
    try:
        size = sum(len(service.meta_string(key, text)) + 1 for key, text in meta.items())
    except service.Unreadable as error:
        raise InvalidField(f"{error}; shorten or rename it", field="meta") from None
    if size > service.MAX_RDATA:
        raise InvalidField(
            f"meta: together it is {size} bytes, but one TXT record holds {service.MAX_RDATA}; leave some out",
            field="meta",
        )


def _prove(made: Service) -> None:
    """That it can be read back: what is acknowledged must never turn out to be unreadable. Raises InvalidField."""
    try:
        stored = service.read(service.write(made))
    except service.Unreadable as error:
        reason = str(error)
        found = re.match(r"[a-z]+", reason)
        field = found[0] if found and found[0] in made.__struct_fields__ else None
        raise InvalidField(f"it could not be read back: {reason}", field=field) from None
    for field in made.__struct_fields__:
        if getattr(stored, field) != getattr(made, field):
            raise InvalidField(f"{field}: it would be read back as something else", field=field)


def _host(host: str | UnsetType, caller: str | None) -> str:
    if host is UNSET:
        return _caller_address(caller)
    assert isinstance(host, str)
    try:
        service.resolve_host(host)
    except service.Unreadable as error:
        raise InvalidField(
            f'host: {error}; give an address, a DNS name, or "" for TXT only', field="host"
        ) from None
    return host


def _caller_address(caller: str | None) -> str:
    """The address others can reach the caller at. Raises InvalidField when that is not known."""
    packed = service.address_of(caller) if caller else None
    address = ipaddress.ip_address(packed) if packed is not None else None
    if address is None or address.is_loopback:
        raise InvalidField(
            f"host: it is missing, and {caller or 'the caller'} is no address that others could reach; set host",
            field="host",
        )
    return str(address)


def _ports(ports: Mapping[str, int]) -> Mapping[str, int]:
    """Names folded, `/tcp` left out, as they are stored."""
    checked: dict[str, int] = {}
    for text, number in ports.items():
        name, slash, protocol = text.partition("/")
        label = names.check_label(name, "ports").decode()
        if slash and protocol not in ("tcp", "udp"):
            raise InvalidField(f"ports: {text!r} is neither NAME nor NAME/tcp nor NAME/udp", field="ports")
        key = f"{label}/udp" if protocol == "udp" else label
        if not 0 <= number <= MAX_PORT:
            raise InvalidField(f"ports.{text}: {number} is not in 0..{MAX_PORT}", field="ports")
        if key in checked:
            raise InvalidField(f"ports: {key} is given twice; give it once", field="ports")
        checked[key] = number
    return MappingProxyType(checked)


def service_path(request: web.Request, parts: ApiParts) -> Path:
    """The service that the URL names. Raises InvalidField."""
    return named_service(parts, request.match_info["service"])


def named_service(parts: ApiParts, service: str) -> Path:
    """Raises InvalidField."""
    path = names.service_path(service, parts.zones)
    if names.wire_length(path) > names.MAX_NAME:  # its labels were looked at
        raise InvalidField("service: the name is longer than 255 bytes; shorten it", field="service")
    return path


def instance_path(request: web.Request, parts: ApiParts) -> Path:
    """The owner name of the instance that the URL names. Raises InvalidField."""
    return named_instance(parts, request.match_info["service"], request.match_info["instance"])


def named_instance(parts: ApiParts, service: str, instance: str) -> Path:
    """Raises InvalidField."""
    label = names.check_label(instance, "instance")
    path = (*names.service_path(service, parts.zones), label)
    if names.wire_length(path) > names.MAX_NAME:
        named_service(parts, service)  # which may be too long by itself
        raise InvalidField(
            "instance: with it the name is longer than 255 bytes; shorten it", field="instance"
        )
    return path


def lease_of(body: InstanceBody) -> tuple[int | None, int | None]:
    """The lease that is named, and the TTL that one of its own shall have. Raises InvalidField."""
    if body.lease is not UNSET and body.lease_ttl is not UNSET:
        raise InvalidField(
            "lease_ttl: a lease made before has its own; leave one of the two out", field="lease_ttl"
        )
    lease = lease_id(body.lease) if isinstance(body.lease, str) else None
    return lease, body.lease_ttl if isinstance(body.lease_ttl, int) else None


@lru_cache(maxsize=256)  # many instances of a batch name the same one
def lease_id(text: str, field: str = "lease") -> int:
    """An id as etcdctl prints it, hex digits. Raises InvalidField."""
    if _LEASE_ID.match(text):
        number = int(text, 16)
        if 0 < number <= MAX_LEASE_ID:
            return number
    raise InvalidField(f"{field}: {text!r} is no lease id: those are 1 to 16 hex digits", field=field)


# ---------------------------------------------------------------- out


def label_text(path: Path) -> str:
    """The first label of a name, as an instance id; "@" for the root, which has none."""
    return path[-1].decode("ascii", "backslashreplace") if path else "@"


def to_instance(
    parts: ApiParts,
    path: Path,
    fields: Service,
    *,
    revision: int,
    lease: int,
    lease_ttl: int | None,
    expires_at: str | UnsetType | None = UNSET,
    drained_at: float | None = None,
) -> Instance:
    """`drained_at`: seconds since the epoch; None: it is in DNS."""
    zone = parts.zone_of(path)
    return Instance(
        service=names.service_text(path[:-1], parts.zones),
        instance=label_text(path),
        name=names.to_text(path),
        host=fields.host,
        port=fields.port,
        priority=fields.priority or zone.priority,
        weight=fields.weight or zone.weight,
        text=fields.text,
        mail=fields.mail,
        ttl=fields.ttl or zone.ttl,
        targetstrip=fields.targetstrip,
        group=fields.group,
        ports=dict(fields.ports),
        tags=fields.tags,
        meta=dict(fields.meta),
        lease=lease_text(lease) if lease else None,
        lease_ttl=lease_ttl,
        expires_at=expires_at,
        heartbeat_every=heartbeat_every(lease_ttl),
        drained_at=rfc3339(drained_at) if drained_at is not None else None,
        revision=revision,
    )


def of_record(
    parts: ApiParts, record: Record, fields: Service, *, drained_at: float | None = None
) -> Instance:
    """A record of the view, without `expires_at`."""
    return to_instance(
        parts,
        record.path,
        fields,
        revision=record.revision,
        lease=record.lease,
        lease_ttl=record.lease_ttl if record.lease_ttl >= 0 else None,
        drained_at=drained_at,
    )


def of_kv(parts: ApiParts, path: Path, kv: KV) -> Instance | None:
    """As it is stored, without `expires_at`; None when it is unreadable."""
    record = Record(path, kv)
    return of_record(parts, record, record.fields) if record.fields is not None else None


def of_drained(parts: ApiParts, there: Drained) -> Instance | None:
    """One that is out of DNS, without `expires_at`; None where it is unreadable."""
    record = there.record
    return of_record(parts, record, record.fields, drained_at=there.at) if record.fields is not None else None


def lease_instance(parts: ApiParts, path: Path, drained_at: float | None) -> LeaseInstance:
    at = rfc3339(drained_at) if drained_at is not None else None
    return LeaseInstance(
        names.service_text(path[:-1], parts.zones), label_text(path), names.to_text(path), at
    )


def unreadable(record: Record) -> NotFound:
    name = names.to_text(record.path)
    return NotFound(f"the record of {name} is unreadable: {record.reason}; replace or delete it")

"""The agent's file: which services this host has, and how each is checked.

Owns the file's shape and the errors in it, each with its line. Values that are equal mean the same, so that a reload
can tell what has changed. It never says whether a check passes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from discovery import yaml_source
from discovery.agent import probes
from discovery.client import Check, Fields
from discovery.client.registration import instance_id
from discovery.config_rules import parse_address
from discovery.errors import ConfigError

LEASE_TTL = 15  # seconds
KINDS = ("http", "tcp", "command", "dns", "grpc")

Key = tuple[str, str]  # service and instance, as the file names them
Port = Annotated[int, Meta(ge=0, le=65535)]
Above0 = Annotated[float, Meta(gt=0)]


class DnsCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`server`: HOST:PORT."""

    server: str
    name: str
    type: str = "A"


class GrpcCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`target`: HOST:PORT; `service`: as grpc.health.v1 names it, "" for the server as a whole."""

    target: str
    service: str = ""


class DeclaredCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the kinds. `every`, `timeout`: seconds; `rise`, `fall`: checks in a row."""

    http: str | None = None
    tcp: str | None = None
    command: str | tuple[str, ...] | None = None
    dns: DnsCheck | None = None
    grpc: GrpcCheck | None = None
    every: Above0 = 5.0
    timeout: Above0 = 2.0
    rise: Annotated[int, Meta(gt=0)] = 2
    fall: Annotated[int, Meta(gt=0)] = 3


class DeclaredService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of an instance as the API names them; what is left out is the zone's default."""

    service: str
    instance: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    port: Port | UnsetType = UNSET
    priority: Port | UnsetType = UNSET
    weight: Port | UnsetType = UNSET
    text: str | UnsetType = UNSET
    mail: bool | UnsetType = UNSET
    ttl: int | UnsetType = UNSET
    targetstrip: int | UnsetType = UNSET
    group: str | UnsetType = UNSET
    ports: dict[str, int] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    meta: dict[str, str] | UnsetType = UNSET
    check: DeclaredCheck | None = None

    @property
    def key(self) -> Key:
        port = self.port if isinstance(self.port, int) else None
        return self.service, self.instance if isinstance(self.instance, str) else instance_id(port)

    def fields(self) -> Fields:
        given = msgspec.structs.asdict(self)
        for name in ("service", "instance", "check"):
            del given[name]
        return cast(Fields, {name: value for name, value in given.items() if value is not UNSET})


class _File(msgspec.Struct, forbid_unknown_fields=True):
    lease_ttl: Annotated[int, Meta(ge=1, le=86400)] = LEASE_TTL
    services: list[DeclaredService] = msgspec.field(default_factory=list)


class Declared(msgspec.Struct, frozen=True):
    """`lease_ttl`: seconds that all of it lives without a heartbeat."""

    lease_ttl: int
    services: Mapping[Key, DeclaredService]


def read(path: Path) -> Declared:
    """Raises ConfigError, which names the line."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: the agent's file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the agent's file is not UTF-8") from None
    document = yaml_source.read(text, str(path))
    try:
        file = msgspec.convert({} if document.value is None else document.value, _File)
    except msgspec.ValidationError as error:
        raise _at_fault(document, str(error)) from None
    services: dict[Key, DeclaredService] = {}
    for position, service in enumerate(file.services):
        where = document.at(("services", position))
        if service.key in services:
            name = f"{service.key[1]} of {service.key[0]}"
            raise ConfigError(f"{where}: {name} is there twice; give one of them another instance")
        if service.check is not None:
            try:
                probe(service.check)
            except (ConfigError, ValueError) as error:
                raise ConfigError(f"{document.at(('services', position, 'check'))}: check: {error}") from None
        services[service.key] = service
    return Declared(file.lease_ttl, services)


def probe(check: DeclaredCheck) -> Check:
    """What makes the check. Raises ConfigError and ValueError when it cannot be made."""
    if sum(getattr(check, kind) is not None for kind in KINDS) != 1:
        raise ConfigError(f"expected exactly one of {', '.join(KINDS)}")
    if check.http is not None:
        if not check.http.startswith(("http://", "https://")):
            raise ConfigError(f"http: expected a URL; got {check.http!r}")
        return probes.http(check.http)
    if check.tcp is not None:
        return probes.tcp(*parse_address(check.tcp))
    if check.dns is not None:
        return probes.dns(*parse_address(check.dns.server), check.dns.name, check.dns.type)
    if check.grpc is not None:
        return probes.grpc(check.grpc.target, check.grpc.service)
    words = shlex.split(check.command) if isinstance(check.command, str) else check.command
    if not words:
        raise ConfigError("command: it is empty")
    return probes.command(words)


def _at_fault(document: yaml_source.Document, complaint: str) -> ConfigError:
    """msgspec's words, with the line: "Expected `int`, got `str` - at `$.services[0].port`"."""
    reason, _, path = complaint.partition(" - at `$")
    place: list[str | int] = []
    for name, position in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        place.append(int(position) if position else name)
    reason = reason.replace("`", "")
    if unknown := re.match(r"Object contains unknown field (\S+)", reason):
        reason, place = "there is no such key", [*place, unknown[1]]
    lead = yaml_source.dotted(tuple(place))
    where = document.at(tuple(place))
    return ConfigError(f"{where}: {lead + ': ' if lead else ''}{reason[:1].lower() + reason[1:]}")

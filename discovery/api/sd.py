"""/v1/sd/prometheus: the registered instances as targets for Prometheus, in the words of its http_sd.

Owns which instances are targets, at which address, and with which labels. It reads the view alone, so drained
instances are none, and a node that is cut off from its store answers on with what it knows. Records are encoded some at
a time, so that DNS has its turns between them.
See https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping

import msgspec
from aiohttp import web

from discovery import names
from discovery.api import bodies, fields
from discovery.api.answers import reply
from discovery.api.parts import PARTS, ApiParts
from discovery.names import Path
from discovery.service import Service
from discovery.tree import Record

AT_ONCE = 500  # records between two turns of the loop: a few milliseconds
META = "__meta_discovery_"
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")


class TargetGroup(msgspec.Struct):
    """One instance. `labels` begin with `__meta_discovery_`: they are there for relabelling and then gone."""

    targets: list[str]
    labels: dict[str, str]


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/sd/prometheus", prometheus)]


async def prometheus(request: web.Request) -> web.Response:
    """Those without the port that is asked for have no address to be scraped at, and are left out."""
    parts = request.app[PARTS]
    parameters = bodies.query(request, "service", "subtree", "tag", "port")
    tag, port = _label(parameters, "tag"), _label(parameters, "port")
    revision = parts.view.revision
    found: list[TargetGroup] = []
    for number, record in enumerate(list(_records(parts, parameters)), start=1):
        held = record.fields
        if held is not None and (not tag or tag in held.tags):
            address = _address(held, port)
            if address:
                found.append(TargetGroup([address], _labels(parts, record, held)))
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    return reply(request, found, revision=revision)


def _label(parameters: Mapping[str, str], name: str) -> str:
    """A tag, or a port's name; "" where it is not asked for. Raises InvalidField."""
    return names.check_label(parameters[name], name).decode() if name in parameters else ""


def _records(parts: ApiParts, parameters: Mapping[str, str]) -> Iterator[Record]:
    """In the order of keys. Raises InvalidField."""
    subtree = bodies.flag(parameters, "subtree")
    if "service" not in parameters:
        for apex in parts.zones:
            if not any(len(apex) > len(other) and apex[: len(other)] == other for other in parts.zones):
                yield from _below(parts, apex, subtree=True)
        return
    yield from _below(parts, fields.named_service(parts, parameters["service"]), subtree=subtree)


def _below(parts: ApiParts, path: Path, *, subtree: bool) -> Iterator[Record]:
    branch = parts.view.find(path)
    if branch is None:
        return
    if subtree:
        yield from branch.walk()
        return
    for child in branch.ordered():
        yield from child.records


def _address(held: Service, port: str) -> str:
    """Where it is scraped; "" where that is not known."""
    number = held.ports.get(port, 0) if port else held.port
    if not held.host or not number:
        return ""
    host = held.host.rstrip(".")
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _labels(parts: ApiParts, record: Record, held: Service) -> dict[str, str]:
    """A label's name has letters, digits and `_` only: of names that become one the last in order counts."""
    path = record.path
    labels = {
        "service": names.service_text(path[:-1], parts.zones),
        "instance": fields.label_text(path),
        "name": names.to_text(path),
        "zone": parts.zone_of(path).name,
        "host": held.host,
        "port": str(held.port),
        "tags": f",{','.join(held.tags)}," if held.tags else "",
    }
    labels |= {f"port_{name}": str(number) for name, number in sorted(held.ports.items())}
    labels |= {f"meta_{key}": text for key, text in sorted(held.meta.items())}
    return {META + _NO_LABEL.sub("_", name): text for name, text in labels.items()}

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
from functools import lru_cache
from itertools import chain, islice

import msgspec
from aiohttp import web

from discovery import names
from discovery.api import bodies, fields
from discovery.api.answers import reflect
from discovery.api.parts import PARTS, ApiParts
from discovery.names import Path
from discovery.service import Service
from discovery.tree import Record

AT_ONCE = 200  # records between two turns of the loop: a few milliseconds
META = "__meta_discovery_"
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")


class TargetGroup(msgspec.Struct):
    """One instance. `labels` begin with `__meta_discovery_`: they are there for relabelling and then gone."""

    targets: list[str]
    labels: dict[str, str]


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/sd/prometheus", prometheus)]


async def prometheus(request: web.Request) -> web.StreamResponse:
    """Those without the port that is asked for have no address to be scraped at, and are left out."""
    parts = request.app[PARTS]
    parameters = bodies.query(request, "service", "subtree", "tag", "port")
    pieces = _pieces(parts, parameters)
    first = next(pieces, b"")  # which also refuses what is wrong
    headers = {"Content-Type": "application/json; charset=utf-8"}
    response = reflect(request, web.StreamResponse(headers=headers))
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    before = b"["
    for piece in chain([first], pieces):
        if piece:
            await response.write(before + piece)
            before = b","
        await asyncio.sleep(0)
    await response.write_eof(b"]" if before == b"," else b"[]")
    return response


def _pieces(parts: ApiParts, parameters: Mapping[str, str]) -> Iterator[bytes]:
    """The list of targets without its brackets, some records' at a time. Raises InvalidField."""
    tag, port = _label(parameters, "tag"), _label(parameters, "port")
    services: dict[Path, tuple[str, str]] = {}
    records = _records(parts, parameters)
    while some := list(islice(records, AT_ONCE)):
        groups = [
            TargetGroup([address], _labels(parts, record, held, services))
            for record in some
            if (held := record.fields) is not None and (not tag or tag in held.tags)
            if (address := _address(held, port))
        ]
        yield msgspec.json.encode(groups)[1:-1]


def _label(parameters: Mapping[str, str], name: str) -> str:
    """A tag, or a port's name; "" where it is not asked for. Raises InvalidField."""
    return names.check_label(parameters[name], name).decode() if name in parameters else ""


def _records(parts: ApiParts, parameters: Mapping[str, str]) -> Iterator[Record]:
    """In the order of keys. Raises InvalidField."""
    subtree = bodies.flag(parameters, "subtree")
    if "service" not in parameters:
        for apex in parts.outermost():
            yield from _below(parts, apex, subtree=True)
        return
    yield from _below(parts, fields.named_service(parts, parameters["service"]), subtree=subtree)


def _below(parts: ApiParts, path: Path, *, subtree: bool) -> Iterator[Record]:
    """The tree may change meanwhile: what stays is told once, what comes or goes perhaps."""
    branch = parts.view.find(path)
    if branch is None:
        return
    left = [branch] if subtree else [*reversed(branch.ordered())]
    while left:
        at = left.pop()
        yield from at.records
        if subtree and at.children:
            left.extend(reversed(at.ordered()))


def _address(held: Service, port: str) -> str:
    """Where it is scraped; "" where that is not known."""
    number = held.ports.get(port, 0) if port else held.port
    if not held.host or not number:
        return ""
    host = held.host.rstrip(".")
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _labels(
    parts: ApiParts, record: Record, held: Service, services: dict[Path, tuple[str, str]]
) -> dict[str, str]:
    """A label's name has letters, digits and `_` only: of names that become one the last in order counts.

    `services`: texts and zones of those that came before.
    """
    path = record.path
    if path[:-1] not in services:
        services[path[:-1]] = names.service_text(path[:-1], parts.zones), parts.zone_of(path).name
    service, zone = services[path[:-1]]
    labels = {
        f"{META}service": service,
        f"{META}instance": fields.label_text(path),
        f"{META}name": names.to_text(path),
        f"{META}zone": zone,
        f"{META}host": held.host,
        f"{META}port": str(held.port),
        f"{META}tags": f",{','.join(held.tags)}," if held.tags else "",
    }
    for name, number in sorted(held.ports.items()):
        labels[_name("port_", name)] = str(number)
    for name, text in sorted(held.meta.items()):
        labels[_name("meta_", name)] = text
    return labels


@lru_cache(maxsize=256)
def _name(kind: str, name: str) -> str:
    return f"{META}{kind}{_NO_LABEL.sub('_', name)}"

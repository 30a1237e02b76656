"""What a client says of an instance, and what it is told: the types of the calls.

Owns the fields of a registration and the answers' structs, which are frozen. Answers are read leniently: a field that
a newer node adds is left out. What the fields mean is the HTTP API's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict

import msgspec


class Fields(TypedDict, total=False):
    """What may be said of an instance; what is left out is the zone's default.

    host         an address or a DNS name; left out: the address that the node sees; "": none, only TXT
    port         0..65535
    priority     of SRV and MX, 0..65535: lower is asked first
    weight       of SRV, 0..65535: its share among those of one priority
    text         of TXT, up to 60,000 bytes
    mail         whether it is in MX as well
    ttl          seconds that resolvers may keep its records
    targetstrip  labels taken off the left of the names that are made for its address
    group        a label; DNS answers with the instances of one group
    ports        named ports, such as {"metrics": 9100, "dns/udp": 53}
    tags, meta   labels to ask for; short texts by key
    lease_ttl    seconds it lives without a heartbeat, 1..86400; 0: for ever
    lease        the id of a lease made before; not together with lease_ttl
    """

    host: str
    port: int
    priority: int
    weight: int
    text: str
    mail: bool
    ttl: int
    targetstrip: int
    group: str
    ports: Mapping[str, int]
    tags: list[str]
    meta: Mapping[str, str]
    lease_ttl: int
    lease: str


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as it is stored, with the zone's defaults. `name`: its domain name, with the final dot.

    `heartbeat_every`: seconds to the next heartbeat, None for one that lives for ever. `expires_at`: RFC 3339, None
    where it is not told (lists) or never. `drained_at`: since when it is out of DNS; None: it is in DNS.
    """

    service: str
    instance: str
    name: str
    revision: int = 0
    host: str = ""
    port: int = 0
    priority: int = 0
    weight: int = 0
    text: str = ""
    mail: bool = False
    ttl: int = 0
    targetstrip: int = 0
    group: str = ""
    ports: Mapping[str, int] = msgspec.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = msgspec.field(default_factory=dict)
    lease: str | None = None
    lease_ttl: int | None = None
    expires_at: str | None = None
    heartbeat_every: float | None = None
    drained_at: str | None = None


class Lease(msgspec.Struct, frozen=True):
    """`ttl`: seconds it lives after each heartbeat."""

    id: str
    ttl: int
    expires_at: str | None = None
    heartbeat_every: float | None = None


class Beat(msgspec.Struct, frozen=True):
    """A heartbeat that was taken. `heartbeat_every`: seconds to the next; None for an instance without a lease."""

    lease: str | None = None
    lease_ttl: int = 0
    expires_at: str | None = None
    heartbeat_every: float | None = None


class LeaseInstance(msgspec.Struct, frozen=True):
    """`service` as a client names it, relative to the first zone or with a final dot."""

    service: str
    instance: str
    name: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a watched service.

    put      an instance is there, or is another than before: `instance` says all of it
    delete   the instance is gone; `reason` is the node's best guess (`deregistered`, `expired`), else None
    synced   what was there at the beginning has been told: from here on, changes
    """

    type: Literal["put", "delete", "synced"]
    revision: int
    instance: Instance | None = None
    reason: str | None = None

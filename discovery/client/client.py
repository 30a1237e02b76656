"""The client: every call that a service or a program makes of Discovery.

Owns the calls' names and what they return. Which node answers is `transport`'s; what keeps an instance registered is
`registration`'s. A call that is cancelled closes its connection and takes back what it may have begun.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack

import aiohttp
import msgspec

from discovery.client import order, questions
from discovery.client.endings import or_undone
from discovery.client.errors import Compacted, Unavailable
from discovery.client.fields import Beat, Event, Fields, Instance, Lease, LeaseInstance
from discovery.client.order import Endpoint
from discovery.client.transport import DEFAULT_NODE, TIMEOUT, Transport, node_urls, tls_context
from discovery.client.watched import Broken, Watched
from discovery.config_rules import parse_address
from discovery.errors import ConfigError
from discovery.service import address_of

DEFAULT_ZONE = "discovery.internal."
PAGE = 1000  # services asked for at once
SILENCE = 40.0  # seconds without a line after which a watch takes its node for dead; one comes every 15
PAUSE = 1.0  # seconds between two tries to go on with a watch, at least half of it
LAST_CALL = 1.0  # seconds a node is given to take back what a cancelled call may have begun

CREATED = 201

log = logging.getLogger(__name__)


class _Nothing(msgspec.Struct):
    """Of answers whose status says everything."""


class _Instances(msgspec.Struct):
    instances: list[Instance]


class _ServiceCount(msgspec.Struct):
    service: str
    instances: int


class _Services(msgspec.Struct):
    services: list[_ServiceCount]
    next: str | None = None


class _Held(msgspec.Struct):
    instances: list[LeaseInstance]


class Client:
    """For `async with`. What is not given comes from the environment.

    nodes   addresses of nodes, in the order to try them  DISCOVERY_NODE (commas between), http://127.0.0.1:8053
    token   bearer token                                  DISCOVERY_TOKEN, or the file DISCOVERY_TOKEN_FILE
    ca      file of the CA that signs the nodes'          DISCOVERY_CA
            certificates
    cert    file of a client certificate, and             DISCOVERY_CERT
    key     its key, where that is another file           DISCOVERY_KEY
    dns     DNS servers as HOST:PORT, for `resolve`       DISCOVERY_DNS (commas between)
    zone    what relative names are relative to in DNS    DISCOVERY_ZONE, discovery.internal.

    Every call raises Unavailable when no node takes it within a few seconds each, and Refused, or a class below it,
    when a node says no. Making a Client raises ConfigError for an address or a file that cannot be used; it opens no
    connection.
    """

    def __init__(
        self,
        nodes: str | Sequence[str] | None = None,
        *,
        token: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        dns: str | Sequence[str] | None = None,
        zone: str | None = None,
    ) -> None:
        env = os.environ.get
        self._nodes = node_urls(nodes or env("DISCOVERY_NODE") or DEFAULT_NODE)
        self._token = token or env("DISCOVERY_TOKEN") or _token_of(env("DISCOVERY_TOKEN_FILE"))
        if cert is None and key is None:
            cert, key = env("DISCOVERY_CERT"), env("DISCOVERY_KEY")
        self._tls = tls_context(ca or env("DISCOVERY_CA"), cert, key)
        self._dns = _servers(dns or env("DISCOVERY_DNS") or ())
        self._zone = zone or env("DISCOVERY_ZONE") or DEFAULT_ZONE
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        self._transport = Transport(self._nodes, self._token, self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.close()
            self._transport = None

    @property
    def _calls(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("the client is not open: use it inside `async with Client() as client`")
        return self._transport

    # ------------------------------------------------------------ instances

    async def register(
        self, service: str, instance: str, *, seconds: float = TIMEOUT, **fields: Unpack[Fields]
    ) -> Instance:
        """Register or replace; DNS of the node that answered has it already. It lives for `lease_ttl` seconds (30
        when not given) after this and each heartbeat: see Registration for one that stays.

        When this is cancelled, an instance that was new is taken back before CancelledError goes on, within 2 s; with
        no node in reach its lease runs out by itself. `seconds`: for each node.
        """
        return (await self._register(service, instance, seconds, fields))[1]

    async def claim(
        self, service: str, instance: str, *, seconds: float = TIMEOUT, **fields: Unpack[Fields]
    ) -> Instance:
        """As `register`; what is there already gets another lease, so that whoever registered it can tell."""
        status, made = await self._register(service, instance, seconds, fields)
        if status == CREATED or not made.lease_ttl or "lease" in fields:
            return made
        lease = await self.grant_lease(made.lease_ttl, seconds=seconds)
        on_lease: Fields = {**fields, "lease": lease.id}
        on_lease.pop("lease_ttl", None)
        return await self.register(service, instance, seconds=seconds, **on_lease)

    async def _register(
        self, service: str, instance: str, seconds: float, fields: Fields
    ) -> tuple[int, Instance]:
        put = self._calls.answer(Instance, "PUT", _path(service, instance), body=fields, seconds=seconds)

        async def take_back(made: tuple[int, Instance]) -> None:
            if made[0] == CREATED:
                await self.deregister(service, instance, revision=made[1].revision, seconds=LAST_CALL)

        return await or_undone(put, take_back, LAST_CALL)

    async def deregister(
        self, service: str, instance: str, *, revision: int | None = None, seconds: float = TIMEOUT
    ) -> None:
        """Take it out at once; `revision`: only as it was then, else it raises Contradicted. Raises NotRegistered when
        it is not there."""
        path = _path(service, instance)
        await self._calls.call(_Nothing, "DELETE", path, revision=revision, seconds=seconds)

    async def heartbeat(self, service: str, instance: str, *, seconds: float = TIMEOUT) -> Beat:
        """Renew its lease. Raises NotRegistered when it has expired: register again."""
        path = (*_path(service, instance), "heartbeat")
        return await self._calls.call(Beat, "POST", path, seconds=seconds)

    async def instance(self, service: str, instance: str, *, seconds: float = TIMEOUT) -> Instance:
        """Raises NotRegistered when it is not there."""
        return await self._calls.call(Instance, "GET", _path(service, instance), seconds=seconds)

    async def instances(self, service: str, *, subtree: bool = False) -> list[Instance]:
        """Those of one service, in a stable order; `subtree`: and of all services below it, as DNS counts them."""
        query = {"subtree": "true"} if subtree else None
        answer = await self._calls.call(_Instances, "GET", ("v1", "services", service), query=query)
        return answer.instances

    async def services(self, prefix: str = "") -> dict[str, int]:
        """Names of services that begin with `prefix`, each with the number of its instances."""
        query = {"limit": str(PAGE)} | ({"prefix": prefix} if prefix else {})
        found: dict[str, int] = {}
        while True:
            page = await self._calls.call(_Services, "GET", ("v1", "services"), query=query)
            found.update((each.service, each.instances) for each in page.services)
            if page.next is None:
                return found
            query["after"] = page.next

    # ------------------------------------------------------------ leases that many instances share

    async def grant_lease(self, ttl: int, *, seconds: float = TIMEOUT) -> Lease:
        """A lease of `ttl` seconds, 1..86400, to register instances with. Cancelled, it takes the lease back."""
        grant = self._calls.call(Lease, "POST", ("v1", "leases"), body={"ttl": ttl}, seconds=seconds)
        return await or_undone(grant, lambda lease: self.revoke_lease(lease.id, seconds=LAST_CALL), LAST_CALL)

    async def lease_heartbeat(self, lease: str, *, seconds: float = TIMEOUT) -> Beat:
        """Renew it for all that hang on it. Raises NotRegistered when it has expired: grant another."""
        path = ("v1", "leases", lease, "heartbeat")
        renewed = await self._calls.call(Lease, "POST", path, seconds=seconds)
        return Beat(renewed.id, renewed.ttl, renewed.expires_at, renewed.heartbeat_every)

    async def lease_instances(self, lease: str, *, seconds: float = TIMEOUT) -> list[LeaseInstance]:
        """What hangs on it. Raises NotRegistered when it has expired."""
        held = await self._calls.call(_Held, "GET", ("v1", "leases", lease), seconds=seconds)
        return held.instances

    async def revoke_lease(self, lease: str, *, seconds: float = TIMEOUT) -> None:
        """Take out all that hangs on it, at once. Raises NotRegistered when it has expired."""
        await self._calls.call(_Nothing, "DELETE", ("v1", "leases", lease), seconds=seconds)

    # ------------------------------------------------------------ finding and watching

    async def resolve(self, service: str, *, over: Literal["dns", "http"] | None = None) -> list[Endpoint]:
        """Where its instances listen, in the order in which to try them (RFC 2782); [] when there are none.

        `service` is relative to the zone, or a whole name with a final dot; over DNS also what DNS alone knows, such
        as `blue.tag.web.prod` or `_metrics._tcp.web.prod`. `over`: dns when the client has DNS servers, else http.
        Instances without a port, or without a host, are left out. Raises Unavailable, over HTTP also Refused.
        """
        if over is None:
            over = "dns" if self._dns else "http"
        if over == "dns":
            if not self._dns:
                raise ConfigError(
                    "no DNS server is known: give the client dns=, or set DISCOVERY_DNS", field="dns"
                )
            found = await questions.srv(self._whole(service), self._dns)
        else:
            there = await self.instances(service, subtree=True)
            found = [_endpoint(each) for each in there if each.host and each.drained_at is None]
        listening = [endpoint for endpoint in found if endpoint.port]
        return order.in_order(listening, lambda most: random.randint(0, most))  # noqa: S311  # it spreads load

    def _whole(self, service: str) -> str:
        """The domain name, with a final dot."""
        if service.endswith("."):
            return service
        zone = self._zone.rstrip(".") + "."
        return zone if service == "@" else f"{service}.{zone}"

    async def watch(
        self, service: str | None, *, subtree: bool = False, since: int | None = None
    ) -> AsyncGenerator[Event]:
        """All changes of a service, in order, each once, for as long as it is read; `subtree`: and of those below it.
        None: of all services.

        Without `since` it begins with a `put` for each instance that is there, then `synced`. It goes on by itself
        after every break, with another node too. Where the nodes no longer know the time between, what is there is
        told as if it had just changed (only what differs), and `synced` comes again. Raises Refused for a service
        or a token that no node takes; never Unavailable: with no node in reach it waits for one.
        End it with `aclose()` (contextlib.aclosing), or by cancelling the task that reads it.
        """
        watched = Watched(since)
        while True:
            query = ({} if service is None else {"service": service}) | (
                {"subtree": "true"} if subtree else {}
            )
            if watched.since is not None:
                query["since"] = str(watched.since)
            watched.connected()
            asked = self._calls.stream(("v1", "watch"), query, accept="application/x-ndjson", silence=SILENCE)
            try:
                async with asked as response:
                    try:
                        async for line in _lines(response):
                            for event in watched.read(line):
                                yield event
                    except (Broken, TimeoutError, aiohttp.ClientError, OSError):
                        self._calls.give_up(response.url)
                        raise
            except Compacted:
                watched.forget()
            except (Unavailable, Broken, TimeoutError, aiohttp.ClientError, OSError) as error:
                wait = error.retry_after if isinstance(error, Unavailable) else None
                log.debug("the watch of %s goes on after a break: %s", service or "everything", error)
                await asyncio.sleep(random.uniform(0.5, 1) * (wait or PAUSE))  # noqa: S311  # not all at once


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length."""
    begun: list[bytes] = []
    async for chunk in response.content.iter_any():
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join((*begun, line))
            begun.clear()
        if rest:
            begun.append(rest)
    raise Broken("the node ended the watch")


def _path(service: str, instance: str) -> tuple[str, ...]:
    return "v1", "services", service, instance


def _endpoint(instance: Instance) -> Endpoint:
    address = (instance.host,) if address_of(instance.host) else ()
    return Endpoint(instance.host, instance.port, instance.priority, instance.weight, address)


def _token_of(file: str | None) -> str | None:
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token's file {file} cannot be read: {error}", field="token") from None


def _servers(texts: str | Sequence[str]) -> tuple[questions.Server, ...]:
    listed = texts.split(",") if isinstance(texts, str) else texts
    try:
        return tuple(parse_address(text.strip()) for text in listed)
    except ValueError as error:
        raise ConfigError(f"dns: {error}", field="dns") from None

"""The running node: builds the parts, starts them in order, stops them in reverse.

Owns the order. Start: bind every socket (so that a taken port is told at once), open the store, load the view, answer
DNS and HTTP (after a while also when it is not there as yet), announce. Stop: readiness off, HTTP ends, the feed,
DNS sends out what it has, the store. It holds no rules of its own; only this module names the store's engine.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from discovery import __version__, activation, logs, names, sockets
from discovery.announcement import address_text, lines
from discovery.api.admission import Admission
from discovery.api.app import make_app, make_runner
from discovery.api.parts import ApiParts, rfc3339
from discovery.audit import AuditLog
from discovery.config import Loaded
from discovery.config_rules import member_settings
from discovery.cookie_secrets import CookieSecrets
from discovery.dns.cookies import Secret
from discovery.dns.server import DnsServer
from discovery.dns_settings import dns_server, dns_settings, limits, view_of
from discovery.drained import DrainedInstances
from discovery.errors import ConfigError, needs_etcd
from discovery.event_loop import set_interpreter
from discovery.feed import Feed
from discovery.kv.contract import Store
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.guard import Guard
from discovery.kv.moved import check_not_moved, until_moved
from discovery.links import Links
from discovery.loop_lag import LoopLag
from discovery.metrics import Metrics
from discovery.nodes import NodeRecord, Nodes
from discovery.recorder import Recorder
from discovery.registry import Registry
from discovery.reload import restart_needed, taken_over
from discovery.saved_view import SavedView
from discovery.settings import Config
from discovery.tls import Renewable, certificate, ends_at, node_context, only_clients_of, server_context
from discovery.token_store import Tokens
from discovery.tokens import Configured, configured
from discovery.view import View
from discovery.workers.messages import Certificate, CookieKeys, Handed, Reloaded, SetUp, Told, for_workers
from discovery.workers.pool import Workers
from discovery.workers.published import PublishedView, whole

if TYPE_CHECKING:
    from discovery.kv.member import EtcdMember

log = logging.getLogger(__name__)

MAX_OPEN_FILES = 65536

Announce = Callable[[str], None]

QUESTIONS_WAIT = (
    2.0  # seconds in their sockets, for the first view, before they are told that it is not there
)
WAIT_FOR_MEMBER = 2.0  # seconds, once it serves, for the view
WAIT_FOR_TOKENS = 2.0  # seconds, where the store is there


class Node:
    """One node. `start` and `stop` once each; `load` reads the configuration anew for a reload."""

    def __init__(self, loaded: Loaded, load: Callable[[], Loaded]) -> None:
        config = loaded.config
        self._config = config  # what runs
        self._load = load
        self._stack = AsyncExitStack()
        self._started_at = rfc3339(time.time())
        self.metrics = Metrics()
        self._host_name, self._local_addresses = socket.gethostname(), sockets.local_addresses()
        self.settings = dns_settings(config, host_name=self._host_name, local_addresses=self._local_addresses)
        self._secrets: Sequence[Secret] = ()
        self._certificate = Certificate(b"", b"")
        self.view: View
        self.dns_server: DnsServer | Workers
        if config.dns.workers:
            self.view = published = view_of(config, PublishedView)
            published.audience = Workers(config.dns.workers, self.metrics.dns, self._opening)
            self.dns_server = published.audience
        else:
            self.view = view_of(config, View)
            self.dns_server = dns_server(config, self.view, self.settings, self.metrics.dns)
        workers = self.dns_server if isinstance(self.dns_server, Workers) else None
        self.store, self._member = make_store(config, self.settings.node.label.decode())
        self.saved = (
            None
            if config.store.engine == "embedded"
            else SavedView(Path(config.store.path), config.store.prefix)
        )
        self.feed = Feed(
            self.store,
            self.view,
            self.metrics,
            prefix=config.store.prefix,
            stale_after=config.stale_after,
            saved=self.saved,
            followed=workers.caught_up if workers is not None else None,
        )
        self._nodes: Nodes | None = None  # where there is a cluster
        self.cookie_secrets = CookieSecrets(self.store, self._use_secrets)
        self.drained = DrainedInstances(self.store, prefix=config.store.prefix)
        self.registry = Registry(
            self.store,
            self.view,
            self.feed,
            self.metrics,
            self.drained,
            prefix=config.store.prefix,
            limits=config.leases,
        )
        self.tokens = Tokens(self.store, _configured(config))
        self.audit = AuditLog()
        self.parts = ApiParts(
            audit=self.audit,
            config=config,
            registry=self.registry,
            view=self.view,
            feed=self.feed,
            store=self.store,
            metrics=self.metrics,
            dns=self.settings,
            cached=self._is_kept,
            reload=self.reload,
            me=self._me,
            tokens=self.tokens,
            admission=Admission(config.http, self.metrics),
            workers=workers,
        )
        self._ends: dict[str, float] = {}  # of the certificates that are shown, by setting
        self.parts.certificates = self._certificate_ends
        self._https: Renewable | None = None
        self._client_tls: ssl.SSLContext | None = None  # for the other nodes
        self.dns: list[tuple[str, int]] = []
        self.tls: list[tuple[str, int]] = []
        self.http: list[tuple[str, int]] = []

    async def start(self) -> None:
        """Raises ConfigError or a StoreError in one line; what was started is then stopped again."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        bound = sockets.bind_all(self._config, activation.take(os.environ, os.getpid()))
        for sock in (*bound.udp, *bound.tcp, *bound.tls, *bound.http):
            self._stack.callback(sock.close)
        self.dns = [_address(sock) for sock in bound.tcp or bound.udp]
        self.tls = [_address(sock) for sock in bound.tls]
        self.http = [_address(sock) for sock in bound.http]
        if self._member is not None:
            await until_moved(Path(self._config.store.path))
        if self.saved is not None:
            await self.saved.open()
            self._stack.push_async_callback(self.saved.close)
        if (member := self._member) is not None:
            self._stack.push_async_callback(member.close)
            self.parts.trouble = lambda: member.trouble
            await member.open()
        context = self._tls_context(self._config) if bound.tls else None
        if self._config.http.tls.cert:
            context_of_http, self._ends["http.tls.cert"] = _https(self._config)
            self._https, self._client_tls = Renewable(context_of_http), _client_tls(self._config)
        self.audit.open(self._config.http.audit)
        self._stack.callback(self.audit.close)
        loop_lag = LoopLag(self.metrics.loop_lag)
        loop_lag.start()
        self._stack.callback(loop_lag.close)
        await self.store.start()
        self._stack.push_async_callback(self.store.close)
        self.tokens.start()
        self._stack.push_async_callback(self.tokens.close)
        self.drained.start()
        self._stack.push_async_callback(self.drained.close)
        # Here as well, for when DNS does not start.
        self._stack.push_async_callback(self.feed.close)
        loading = asyncio.create_task(self._load_view())
        self._stack.callback(loading.cancel)
        first_view = asyncio.create_task(self.feed.wait_until(lambda: self.view.ready, QUESTIONS_WAIT))
        await asyncio.wait((loading, first_view), return_when=asyncio.FIRST_COMPLETED)
        if isinstance(self.dns_server, Workers):
            await self.dns_server.start(bound.udp, bound.tcp, bound.tls)
        else:
            await self.dns_server.start(bound.udp, bound.tcp, bound.tls, context)
        self._stack.push_async_callback(self.dns_server.close)
        # Before HTTP here, so that it ends after HTTP, whose calls wait for the view.
        self._stack.push_async_callback(self.feed.close)
        if not self.feed.lost:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.tokens.loaded.wait(), WAIT_FOR_TOKENS)
                await asyncio.wait_for(self.drained.loaded.wait(), WAIT_FOR_TOKENS)
        recorder = Recorder(self.metrics, self.parts.history)
        recorder.start()
        self._stack.push_async_callback(recorder.close)
        await self._serve(bound.http)
        await loading
        if self._config.store.engine != "embedded":
            nodes = self._nodes = Nodes(self.store, self.view, self._me())
            nodes.start()
            self._stack.push_async_callback(nodes.close)
            links = Links(nodes.others, self.view, tls=lambda: self._client_tls)
            links.start()
            self._stack.push_async_callback(links.close)
            self.parts.others, self.parts.link = nodes.others, links.link
        self.cookie_secrets.start()
        self._stack.push_async_callback(self.cookie_secrets.close)
        if isinstance(self.dns_server, Workers):
            await self.dns_server.settle(ready=self.view.ready)

    async def _load_view(self) -> None:
        gc.disable()  # nothing but the view is made until it is loaded
        try:
            await self._start_feed()
        finally:
            gc.enable()
        gc.freeze()  # what stays for long is not looked through again and again

    async def _start_feed(self) -> None:
        """Beside the member, where there is one: what the last view knows is answered while that comes up."""
        if self._member is None:
            await self.feed.start()
            return
        starting = asyncio.create_task(self._member.start())
        try:
            await self.feed.start()
            await starting
        finally:
            starting.cancel()
        await self.feed.wait_until(lambda: self.metrics.feed_loads > 0, WAIT_FOR_MEMBER)

    def _opening(self, handed: Handed) -> Iterator[Told]:
        """What a new worker is told."""
        yield SetUp(for_workers(self._config), self._host_name, self._local_addresses, handed)
        yield CookieKeys(self._secrets)
        yield self._certificate
        yield from whole(self.view)

    def _tls_context(self, config: Config) -> ssl.SSLContext:
        """Raises ConfigError. What new connections get is what was checked, whatever becomes of the files."""
        files = config.dns.tls
        self._certificate = Certificate(*certificate(files.cert, files.key, "dns.tls"))
        self._ends["dns.tls.cert"] = ends_at(self._certificate.cert)
        return server_context(files.cert, files.key, "dns.tls")

    def _certificate_ends(self) -> Mapping[str, float]:
        """Of this node's certificates, by setting: seconds since the epoch."""
        return {**self._ends, **(self._member.certificates() if self._member is not None else {})}

    def _renew(self, config: Config) -> None:
        """New connections over TLS have the certificate of `config`. Raises ConfigError."""
        context = self._tls_context(config)
        if isinstance(self.dns_server, Workers):
            self.dns_server.tell(self._certificate)
        else:
            self.dns_server.renew(context)

    def _use_secrets(self, secrets: Sequence[Secret]) -> None:
        self._secrets = secrets
        if isinstance(self.dns_server, Workers):
            self.dns_server.tell(CookieKeys(secrets))
        else:
            self.dns_server.cookies.use(secrets)

    async def _is_kept(self, path: names.Path, qtype: int) -> bool:
        if isinstance(self.dns_server, Workers):
            return await self.dns_server.is_kept(path, qtype)
        return self.dns_server.is_kept(path, qtype)

    async def _serve(self, bound: Sequence[socket.socket]) -> None:
        runner = make_runner(make_app(self.parts))
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        context = self._https.context if self._https is not None else None
        for sock in bound:
            await web.SockSite(runner, sock, ssl_context=context).start()

    @property
    def scheme(self) -> str:
        return "https" if self._config.http.tls.cert else "http"

    def _me(self) -> NodeRecord:
        """What this node says of itself to the others."""
        node = self.settings.node
        addresses = tuple(str(ipaddress.ip_address(each)) for each in node.addresses)
        urls = []
        for host, port in self.http:
            is_any = ipaddress.ip_address(host).is_unspecified
            urls += [
                f"{self.scheme}://{address_text((each, port))}" for each in (addresses if is_any else (host,))
            ]
        return NodeRecord(
            name=node.label.decode(),
            addresses=addresses,
            http=tuple(urls),
            version=__version__,
            started_at=self._started_at,
        )

    async def hand_over(self, hurrying: asyncio.Event) -> None:
        """Says that this node is going, and answers on for `node.stop_delay`: others are asked before it ends."""
        self.parts.stopping = True
        if self._nodes is not None:
            await self._nodes.close()
        try:
            async with asyncio.timeout(self._config.node.stop_delay):
                await hurrying.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        self.parts.stopping = True
        await self._stack.aclose()

    def reload(self) -> list[str]:
        """Takes over what may change while running; the settings that changed but need a restart.

        Raises ConfigError, and changes nothing then.
        """
        loaded = self._load()
        renewed = None
        if self._https is not None and loaded.config.http.tls.cert:
            renewed = *_https(loaded.config), _client_tls(loaded.config)
        self.audit.open(loaded.config.http.audit)
        if self.tls and loaded.config.dns.tls.cert:
            self._renew(loaded.config)
        if self._https is not None and renewed is not None:
            self._https.newest, self._ends["http.tls.cert"], self._client_tls = renewed
        waiting = restart_needed(self._config, loaded.config)
        self._config = taken_over(self._config, loaded.config)
        self.tokens.configured = _configured(self._config)
        self.parts.admission.limit(self._config.http)
        self.parts.known_leases.clear()  # configured tokens are known by their places in the list
        logs.setup(self._config.log)
        if isinstance(self.dns_server, Workers):
            self.dns_server.tell(Reloaded(for_workers(self._config)))
        else:
            self.dns_server.limit(limits(self._config))
        log.info("configuration reloaded", extra={"restart_needed": ",".join(waiting) or "nothing"})
        return waiting


async def run(loaded: Loaded, *, load: Callable[[], Loaded], announce: Announce) -> None:
    """Runs a node until SIGTERM or SIGINT, a second of which cuts `node.stop_delay` short; SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    stopping, hurrying = asyncio.Event(), asyncio.Event()
    set_interpreter()
    _allow_open_files()
    node = Node(loaded, load)

    def hang_up() -> None:
        try:
            node.reload()
        except ConfigError as error:
            log.error("configuration not reloaded: %s", error.detail)

    def stop() -> None:
        (hurrying if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    if not await _started(node, stopping):
        log.info("stopped before it was ready")
        return
    try:
        for line in lines(
            loaded.config,
            node.view,
            lost=node.feed.lost,
            dns=node.dns,
            tls=node.tls,
            http=node.http,
            scheme=node.scheme,
        ):
            announce(line)
        await stopping.wait()
        log.info("stopping")
        await node.hand_over(hurrying)
    finally:
        await node.stop()


def _https(config: Config) -> tuple[ssl.SSLContext, float]:
    """What connections begin with, and when its certificate ends. Raises ConfigError."""
    files = config.http.tls
    cert, _ = certificate(files.cert, files.key, "http.tls")
    context = server_context(files.cert, files.key, "http.tls")
    if files.client_ca:
        only_clients_of(context, files.client_ca, "http.tls.client_ca")
    return context, ends_at(cert)


def _client_tls(config: Config) -> ssl.SSLContext:
    files = config.http.tls
    return node_context(files.cert, files.key, files.client_ca, "http.tls")


async def _started(node: Node, stopping: asyncio.Event) -> bool:
    """False when it is told to stop before: a start may wait for others. Raises what the start does."""
    starting, told = asyncio.create_task(node.start()), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            return True
        return False
    finally:
        told.cancel()
        starting.cancel()
        await asyncio.gather(starting, told, return_exceptions=True)


def _configured(config: Config) -> Configured:
    return configured(config.http.tokens, names.from_text(config.zones[0].name))


def make_store(config: Config, node_name: str) -> tuple[Store, EtcdMember | None]:
    """The engine that is configured, and the member of its cluster that this node runs. Raises ConfigError."""
    if config.store.engine == "embedded":
        check_not_moved(Path(config.store.path))
        guard = Guard(config.leases.guard, service_of) if config.leases.guard else None
        return EmbeddedStore(Path(config.store.path), guard=guard), None
    try:
        from discovery.kv.etcd import EtcdStore
        from discovery.kv.etcd_endpoints import Access
        from discovery.kv.member import EtcdMember
    except ImportError as error:
        raise needs_etcd(config.store.engine, error) from None
    if config.store.engine == "etcd":
        return EtcdStore(msgspec.convert(config.store.etcd, Access, from_attributes=True)), None
    member = EtcdMember(Path(config.store.path), member_settings(config, node_name))
    return EtcdStore(member.access()), member


def service_of(key: bytes) -> bytes:
    """What the keys of one service's instances have in common: all up to the last label."""
    return key[: key.rfind(b"/") + 1]


def _allow_open_files() -> None:
    """As many as the system allows, up to MAX_OPEN_FILES: connections and forwarded questions have one each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _address(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return str(host), int(port)

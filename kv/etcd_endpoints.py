"""The members of an etcd cluster as addresses to call: channels, one after the other, and the login.

Owns the channels (one a member, TLS or not), which of them is in use, and every unary call. It never looks into an
answer. How: all calls, watches and keep-alives go to the one member in use; when it fails, the next is in use, for
everybody. A call that cannot have been applied, or may be repeated, is tried once on every member within LIMIT.
Metadata `hasleader` makes a member without a quorum refuse at once instead of waiting. gRPC's own back-off, at most
2 s and with jitter, paces connections; a token that has ended is renewed by one login for all who wait.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import Message

from discovery.errors import ConfigError
from discovery.histogram import Histogram
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import STORE_BOUNDS, Unavailable
from discovery.kv.etcd_errors import NO_AUTH, Verdict, judge
from discovery.kv.etcd_urls import address_of, check_urls, is_local, is_whole

log = logging.getLogger(__name__)

CALL_LIMIT = 1.5  # seconds; a write forwarded to a dead leader would hang until etcd's own 5 s and more
LIMIT = 3.0  # seconds for a call on one member after the other
MAX_ANSWER = 64 << 20  # bytes; a page of 50,000 keys is over gRPC's 4 MiB
MAX_BACK_OFF_MS = 2000
TELL_EVERY = 30.0  # seconds between two lines in the log about another member in use

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_ANSWER),
    ("grpc.max_send_message_length", MAX_ANSWER),
    ("grpc.keepalive_time_ms", 6000),  # etcd drops clients that ask more often than every 5 s
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", MAX_BACK_OFF_MS),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
Metadata = tuple[tuple[str, str], ...]


class Access(msgspec.Struct, frozen=True):
    """How to reach a cluster. `endpoints` are URLs; `cert`, `key` and `ca` files (PEM), empty: none.

    `nearest_first`: the first one is the best to begin with; else nodes begin with different ones.
    """

    endpoints: Sequence[str]
    username: str = ""
    password: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    nearest_first: bool = False


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """One of etcd's calls: its full name and the type of its answer."""

    path: str
    answer: type[A]

    @property
    def name(self) -> str:
        """Without the service's."""
        return self.path.rpartition("/")[2]


RANGE = Method[wire.RangeRequest, wire.RangeResponse]("/etcdserverpb.KV/Range", wire.RangeResponse)
PUT = Method[wire.PutRequest, wire.PutResponse]("/etcdserverpb.KV/Put", wire.PutResponse)
DELETE = Method[wire.DeleteRangeRequest, wire.DeleteRangeResponse](
    "/etcdserverpb.KV/DeleteRange", wire.DeleteRangeResponse
)
TXN = Method[wire.TxnRequest, wire.TxnResponse]("/etcdserverpb.KV/Txn", wire.TxnResponse)
COMPACT = Method[wire.CompactionRequest, wire.CompactionResponse](
    "/etcdserverpb.KV/Compact", wire.CompactionResponse
)
GRANT = Method[wire.LeaseGrantRequest, wire.LeaseGrantResponse](
    "/etcdserverpb.Lease/LeaseGrant", wire.LeaseGrantResponse
)
REVOKE = Method[wire.LeaseRevokeRequest, wire.LeaseRevokeResponse](
    "/etcdserverpb.Lease/LeaseRevoke", wire.LeaseRevokeResponse
)
TIME_TO_LIVE = Method[wire.LeaseTimeToLiveRequest, wire.LeaseTimeToLiveResponse](
    "/etcdserverpb.Lease/LeaseTimeToLive", wire.LeaseTimeToLiveResponse
)
LEASES = Method[wire.LeaseLeasesRequest, wire.LeaseLeasesResponse](
    "/etcdserverpb.Lease/LeaseLeases", wire.LeaseLeasesResponse
)
MEMBERS = Method[wire.MemberListRequest, wire.MemberListResponse](
    "/etcdserverpb.Cluster/MemberList", wire.MemberListResponse
)
MEMBER_ADD = Method[wire.MemberAddRequest, wire.MemberAddResponse](
    "/etcdserverpb.Cluster/MemberAdd", wire.MemberAddResponse
)
MEMBER_REMOVE = Method[wire.MemberRemoveRequest, wire.MemberRemoveResponse](
    "/etcdserverpb.Cluster/MemberRemove", wire.MemberRemoveResponse
)
MEMBER_PROMOTE = Method[wire.MemberPromoteRequest, wire.MemberPromoteResponse](
    "/etcdserverpb.Cluster/MemberPromote", wire.MemberPromoteResponse
)
DEFRAGMENT = Method[wire.DefragmentRequest, wire.DefragmentResponse](
    "/etcdserverpb.Maintenance/Defragment", wire.DefragmentResponse
)
STATUS = Method[wire.StatusRequest, wire.StatusResponse](
    "/etcdserverpb.Maintenance/Status", wire.StatusResponse
)
ALARM = Method[wire.AlarmRequest, wire.AlarmResponse]("/etcdserverpb.Maintenance/Alarm", wire.AlarmResponse)
LOGIN = Method[wire.AuthenticateRequest, wire.AuthenticateResponse](
    "/etcdserverpb.Auth/Authenticate", wire.AuthenticateResponse
)
WATCH = Method[wire.WatchRequest, wire.WatchResponse]("/etcdserverpb.Watch/Watch", wire.WatchResponse)
KEEP_ALIVE = Method[wire.LeaseKeepAliveRequest, wire.LeaseKeepAliveResponse](
    "/etcdserverpb.Lease/LeaseKeepAlive", wire.LeaseKeepAliveResponse
)
SNAPSHOT = Method[wire.SnapshotRequest, wire.SnapshotResponse](
    "/etcdserverpb.Maintenance/Snapshot", wire.SnapshotResponse
)


class Endpoint:
    """One member's address and the channel to it."""

    def __init__(self, url: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.url = url
        target = address_of(url)
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            self.channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


class Endpoints:
    """Raises ConfigError when the addresses or files of `access` can't be used. Nothing is connected before a call."""

    def __init__(self, access: Access, *, shuffle: random.Random | None = None) -> None:
        self._access = access
        self._credentials = _credentials(access)
        urls = list(dict.fromkeys(url.rstrip("/") for url in access.endpoints))
        try:
            check_urls(urls)
        except ValueError as error:
            raise ConfigError(f"store.etcd.endpoints: {error}", field="store.etcd.endpoints") from None
        if not access.nearest_first:
            (shuffle or random.Random()).shuffle(urls)  # noqa: S311  # so that not all nodes begin with one member
        self._configured = tuple(urls)
        self._known: dict[str, Endpoint] = {}
        self._order: list[str] = urls
        self._token = ""
        self._login = asyncio.Lock()
        self._attempts = 0  # at a login that failed
        self._refusal: Verdict | None = None  # the last one's
        self._closed = False
        self._told_at = float("-inf")
        self.moves = 0  # how often another member was taken into use
        self.durations: dict[str, Histogram] = {}

    # ---------------------------------------------------------------- which member

    @property
    def current(self) -> Endpoint:
        """The member in use. Makes the channel, so there must be a running loop."""
        return self.at(self._order[0])

    @property
    def urls(self) -> Sequence[str]:
        """All that are known, the one in use first."""
        return tuple(self._order)

    def at(self, url: str) -> Endpoint:
        endpoint = self._known.get(url)
        if endpoint is None:
            if self._closed:
                raise Unavailable("the store is closed")
            endpoint = self._known[url] = Endpoint(url, self._credentials)
        return endpoint

    def leave(self, endpoint: Endpoint, why: object) -> None:
        """Takes the next member into use, unless somebody has done so since."""
        if self._order[0] != endpoint.url or len(self._order) == 1:
            return
        self._order.append(self._order.pop(0))
        self.moves += 1
        now = time.monotonic()
        is_news = now - self._told_at > TELL_EVERY  # without a quorum every call moves on
        self._told_at = now if is_news else self._told_at
        level = logging.INFO if is_news else logging.DEBUG
        log.log(level, "etcd: from %s to %s: %s", endpoint.url, self._order[0], why)

    def follow(self, advertised: Iterable[str]) -> None:
        """Takes over the members' own client URLs, beside those of the configuration.

        One that names a loopback address means another program here than there: it counts only where the configured
        ones are such too. So does one of the other scheme, whose credentials we have not.
        """
        wanted = list(dict.fromkeys((*self._configured, *self.usable(advertised))))
        kept = [url for url in self._order if url in wanted]
        self._order = kept + [url for url in wanted if url not in kept]

    def usable(self, advertised: Iterable[str]) -> Sequence[str]:
        """Of the URLs that members advertise those that mean them here too, as `follow` has it."""
        scheme = self._configured[0].partition("://")[0]
        local = all(is_local(url) for url in self._configured)
        return [
            url.rstrip("/")
            for url in advertised
            if url.startswith(f"{scheme}://") and (local or not is_local(url)) and is_whole(url)
        ]

    async def close(self) -> None:
        """Calls under way, and all that come after, raise Unavailable."""
        self._closed = True
        known, self._known = self._known, {}
        for endpoint in known.values():
            await endpoint.channel.close()

    # ---------------------------------------------------------------- calls

    async def call(self, method: Method[Q, A], request: Q, *, repeatable: bool, leader: bool = True) -> A:
        """`_call`, whose time is noted, also of what fails."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            return await self._call(method, request, repeatable=repeatable, leader=leader)
        finally:
            duration = self.durations.get(method.name)
            if duration is None:
                duration = self.durations[method.name] = Histogram(STORE_BOUNDS)
            duration.note(loop.time() - begun)

    async def _call(self, method: Method[Q, A], request: Q, *, repeatable: bool, leader: bool) -> A:
        """The answer of the member in use, or of another. Raises the contract's errors.

        `repeatable`: doing it twice is as good as once. `leader`: refused at once by a member without a quorum.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + LIMIT
        failed: Verdict | None = None
        tried: set[str] = set()  # here: another call may have moved on meanwhile
        for _ in range(max(2, len(self._order))):
            left = end - loop.time()
            if failed is not None and left <= 0:
                break
            endpoint = self.at(next((url for url in self._order if url not in tried), self._order[0]))
            failed = await self._login_if_needed(endpoint)
            token = self._token
            if failed is None:
                try:
                    return await self.once(
                        endpoint, method, request, leader=leader, seconds=min(CALL_LIMIT, max(left, 0.1))
                    )
                except Refused as refused:
                    failed = refused.verdict
            if failed.login:
                self._forget(token)
                continue
            if not failed.elsewhere:
                raise failed.error
            tried.add(endpoint.url)
            self.leave(endpoint, failed.error)
            if not repeatable and isinstance(failed.error, Unavailable) and failed.error.maybe_applied:
                break
        assert failed is not None
        raise failed.error

    async def once(
        self,
        endpoint: Endpoint,
        method: Method[Q, A],
        request: Q,
        *,
        leader: bool = False,
        seconds: float = CALL_LIMIT,
    ) -> A:
        """The answer of that one member. Raises Refused."""
        call = endpoint.channel.unary_unary(
            method.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        try:
            return await call(request, timeout=seconds, metadata=self.metadata(leader=leader))
        except grpc.aio.AioRpcError as error:
            raise Refused(verdict_of(error, endpoint)) from None
        except grpc.aio.UsageError:  # the channel is closed
            raise Refused(Verdict(Unavailable("the store is closed"))) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            closed = Unavailable("the store was closed before it was answered", maybe_applied=True)
            raise Refused(Verdict(closed)) from None

    def metadata(self, *, leader: bool) -> Metadata:
        """What goes with every call: the demand for a quorum, and who we are."""
        return (("hasleader", "true"),) * leader + ((("token", self._token),) if self._token else ())

    async def _login_if_needed(self, endpoint: Endpoint) -> Verdict | None:
        """Gets a token where there is a user and none is held; what went wrong."""
        held, attempts = self._token, self._attempts
        if held or not self._access.username:
            return None
        async with self._login:
            if self._token != held:
                return None  # somebody else has just got one
            if self._attempts != attempts and self._refusal is not None:
                return self._refusal  # or was just refused: not each after a deadline of its own
            who = wire.AuthenticateRequest(name=self._access.username, password=self._access.password)
            try:
                self._token = (await self.once(endpoint, LOGIN, who)).token
            except Refused as refused:
                if NO_AUTH in str(refused.verdict.error):
                    return None  # the cluster asks nobody who he is
                self._attempts += 1
                self._refusal = refused.verdict
                return refused.verdict
        return None

    def _forget(self, token: str) -> None:
        """It has ended. Another one may have been got since."""
        if self._token == token:
            self._token = ""

    async def login_anew(self, endpoint: Endpoint, used: Metadata) -> None:
        """For streams, whose token is looked at when they begin; `used` went with it. Raises the contract's errors."""
        self._forget(dict(used).get("token", ""))
        failed = await self._login_if_needed(endpoint)
        if failed is not None:
            raise failed.error

    async def ready(self) -> None:
        """A token is held where one is needed, so that a stream may begin. Raises the contract's errors."""
        failed = await self._login_if_needed(self.current)
        if failed is not None:
            raise failed.error


class Refused(Exception):
    """What a member said no with, or its silence."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict.error))
        self.verdict = verdict


def verdict_of(error: grpc.aio.AioRpcError, endpoint: Endpoint) -> Verdict:
    return judge(error.code().name, error.details() or "", endpoint.url)


def _credentials(access: Access) -> grpc.ChannelCredentials | None:
    """None for plain connections."""
    if not any(url.startswith("https://") for url in access.endpoints):
        for name in ("cert", "key", "ca"):
            if getattr(access, name):
                raise ConfigError(
                    f"store.etcd.{name} is set, but the endpoints are http: write https, or leave it out",
                    field=f"store.etcd.{name}",
                )
        return None
    if bool(access.cert) != bool(access.key):
        raise ConfigError(
            "store.etcd.cert and store.etcd.key belong together: set both or neither", field="store.etcd.cert"
        )
    return grpc.ssl_channel_credentials(
        root_certificates=_read(access.ca, "ca"),
        private_key=_read(access.key, "key"),
        certificate_chain=_read(access.cert, "cert"),
    )


def _read(file: str, name: str) -> bytes | None:
    if not file:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"store.etcd.{name}: {file} can't be read: {error.strerror}", field=f"store.etcd.{name}"
        ) from None

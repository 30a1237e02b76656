"""The one table of settings: names, types, defaults, ranges and descriptions.

Owns the tree of structs `Config`; the YAML file, the environment, `--set`, `config show` and the reference page all
come from it through `TABLE`, so none of them can drift. It never reads a file, a variable or a clock.
A new setting is one annotated field. Its `Meta(extra=...)` may carry marks, for one field or a whole section:

    reload    may change while the node runs
    secret    never shown
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

RELOAD = {"reload": True}

MAX_TTL = 2147483647  # RFC 2181 section 8
DAY = 86400

Ttl = Annotated[int, Meta(ge=0, le=MAX_TTL)]
Port16 = Annotated[int, Meta(ge=0, le=65535)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 40)]


class ZoneConfig(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(description="The zone's name (its apex). Required.")]
    ttl: Annotated[Ttl, Meta(description="TTL in seconds of records whose service sets none.")] = 5
    negative_ttl: Annotated[
        Ttl, Meta(description="How long resolvers may keep a negative answer, in seconds: the SOA's minimum.")
    ] = 2
    priority: Annotated[Port16, Meta(description="SRV and MX priority where a service sets none.")] = 10
    weight: Annotated[Port16, Meta(description="SRV weight where a service sets none.")] = 100
    hostmaster: Annotated[
        str, Meta(description="The SOA's mailbox, written as a name; empty: `hostmaster.` and the zone.")
    ] = ""
    local: Annotated[
        str, Meta(description="The name that `local.dns.` and the zone stands for; empty: an ordinary name.")
    ] = ""
    negative_grace: Annotated[
        int,
        Meta(
            ge=0,
            le=DAY,
            description="Seconds for which a name that lost its last service answers NODATA, not NXDOMAIN.",
        ),
    ] = 60


Rate = Annotated[int, Meta(ge=0, le=1_000_000)]


class RrlConfig(Struct, frozen=True, kw_only=True):
    answers: Annotated[
        Rate, Meta(description="Answers with records a second to one network; 0: not limited.")
    ] = 0
    negatives: Annotated[
        Rate, Meta(description="Answers a second that a name or type does not exist; 0: not limited.")
    ] = 0
    errors: Annotated[
        Rate, Meta(description="Answers a second with any other response code; 0: not limited.")
    ] = 0


class DnsTlsConfig(Struct, frozen=True, kw_only=True):
    cert: Annotated[str, Meta(description="File of the server's certificate chain (PEM).")] = ""
    key: Annotated[
        str, Meta(description="File of its private key (PEM); empty: in the certificate's file.")
    ] = ""


class DnsConfig(Struct, frozen=True, kw_only=True):
    listen: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="Addresses to answer on, each over UDP and TCP; 0.0.0.0 and [::]: all of the machine's. "
            "Sockets that systemd hands over stand in for them, and those named `http` for `http.listen`.",
        ),
    ] = ("127.0.0.1:1053",)
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="Processes that share the port, each with its own copy of all records and its own caches; "
            "0: answer in the main process.",
        ),
    ] = 0
    payload_size: Annotated[
        int, Meta(ge=512, le=4096, description="The most bytes of an answer over UDP (RFC 6891).")
    ] = 1232
    round_robin: Annotated[bool, Meta(description="Rotate A, AAAA, SRV and MX from answer to answer.")] = True
    answer_cache_bytes: Annotated[
        Bytes, Meta(description="Bound of the cache of finished answers, in bytes; 0: no cache.")
    ] = 67108864
    chaos: Annotated[
        bool,
        Meta(
            description="Tell who answers: class CH (version.bind, version.server, hostname.bind, id.server), NSID."
        ),
    ] = True
    max_matched: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="The most services that one answer is made from; at most four times as many names and "
            "services are looked through to find them.",
        ),
    ] = 10000
    rrl: Annotated[
        RrlConfig,
        Meta(
            extra=RELOAD,
            description="Response rate limits over UDP, for each client network (/24 of IPv4, /56 of IPv6). Every "
            "second answer over one is sent cut, so that a real client comes back over TCP; the others are not sent. "
            "Loopback and clients with a valid cookie are exempt.",
        ),
    ] = RrlConfig()
    allow: Annotated[
        tuple[str, ...],
        Meta(
            extra=RELOAD,
            description="Clients that may ask: networks, `loopback`, `private`; others get REFUSED with extended "
            "error 18. Empty: all may.",
        ),
    ] = ()
    deny: Annotated[
        tuple[str, ...],
        Meta(
            extra=RELOAD,
            description="Clients that may not ask, whatever `dns.allow` says; written and refused as there.",
        ),
    ] = ()
    tls_listen: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses for DNS over TLS, such as 192.0.2.1:853; empty: off. They need `dns.tls`."
        ),
    ] = ()
    tls: Annotated[
        DnsTlsConfig,
        Meta(
            extra=RELOAD,
            description="The certificate of DNS over TLS. A reload reads the files anew, for renewed ones.",
        ),
    ] = DnsTlsConfig()


class TlsConfig(Struct, frozen=True, kw_only=True):
    cert: Annotated[
        str, Meta(description="File of the server's certificate chain (PEM); empty: no TLS, HTTP alone.")
    ] = ""
    key: Annotated[
        str, Meta(description="File of its private key (PEM); empty: in the certificate's file.")
    ] = ""
    client_ca: Annotated[
        str,
        Meta(
            description="File of the CA (PEM) that every client's certificate must be signed by, other nodes' too, "
            "whose client certificate is their `http.tls.cert`; empty: clients need none. What a client may do, "
            "`cert:NAME` in `http.tokens` says, or its token."
        ),
    ] = ""


class HttpConfig(Struct, frozen=True, kw_only=True):
    listen: Annotated[
        tuple[str, ...], Meta(min_length=1, description="Addresses of the HTTP API and the web page.")
    ] = ("127.0.0.1:8053",)
    tokens: Annotated[
        tuple[str, ...],
        Meta(
            extra=RELOAD | {"secret": True},
            description="Who may call the API beside those with a token of `discovery token make`: `TOKEN` or `operate "
            "TOKEN` may do everything, `read TOKEN` read, `register NAME[,NAME] TOKEN` also write at and below these "
            "names (`web.prod`, `*.prod`, `@` for the zone). For TOKEN may stand `sha256:HEX`, its hash, or "
            "`cert:NAME`, a name in a client's certificate. While there is no token at all, anyone who reaches the "
            "API may do everything.",
        ),
    ] = ()
    rate: Annotated[
        Rate,
        Meta(
            extra=RELOAD,
            description="Requests a second of one client (an IPv4 address, a /64 of IPv6); those over it get 429. "
            "Loopback, `/healthz` and `/readyz` are exempt. 0: not limited.",
        ),
    ] = 0
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            extra=RELOAD,
            description="Connections in all; one beyond is closed at once. Those that are open stay.",
        ),
    ] = 10000
    max_connections_per_client: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            extra=RELOAD,
            description="Connections of one client, as `http.rate` counts them; loopback is exempt.",
        ),
    ] = 1000
    open: Annotated[
        bool, Meta(description="Allow listening beyond loopback without tokens: anyone there may register.")
    ] = False
    audit: Annotated[
        str,
        Meta(
            extra=RELOAD,
            description="File for the audit log: a JSON object a line for every write and every refusal, with who, "
            "what, from where and the result; reopened on SIGHUP. `log`: in the node's log; empty: off.",
        ),
    ] = ""
    tls: Annotated[
        TlsConfig,
        Meta(
            extra=RELOAD,
            description="HTTPS. A reload reads the files anew, for renewed ones; to begin or end it needs a restart.",
        ),
    ] = TlsConfig()


class EtcdConfig(Struct, frozen=True, kw_only=True):
    endpoints: Annotated[tuple[str, ...], Meta(min_length=1, description="The cluster's client URLs.")] = (
        "http://127.0.0.1:2379",
    )
    username: Annotated[str, Meta(description="User name; empty: none.")] = ""
    password: Annotated[str, Meta(extra={"secret": True}, description="The user's password.")] = ""
    cert: Annotated[str, Meta(description="File of the client certificate (PEM).")] = ""
    key: Annotated[str, Meta(description="File of its private key (PEM).")] = ""
    ca: Annotated[str, Meta(description="File of the CA that signed the servers (PEM).")] = ""


class MemberConfig(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(description="This member's name; empty: the node's.")] = ""
    binary: Annotated[str, Meta(description="The etcd program to run.")] = "etcd"
    client: Annotated[
        str, Meta(description="URL it serves clients on, with an address or a name of this machine.")
    ] = "http://127.0.0.1:2379"
    peer: Annotated[str, Meta(description="URL it serves the other members on.")] = "http://127.0.0.1:2380"
    initial_cluster: Annotated[
        dict[str, str], Meta(description="Names and peer URLs of the members of a new cluster.")
    ] = msgspec.field(default_factory=dict)
    join: Annotated[str, Meta(description="Client URL of a cluster to join; empty: do not join.")] = ""
    cert: Annotated[
        str,
        Meta(
            description="File of this member's certificate (PEM), for clients and peers; with it, key and ca "
            "all URLs are https and every connection is checked on both sides."
        ),
    ] = ""
    key: Annotated[str, Meta(description="File of its private key (PEM).")] = ""
    ca: Annotated[str, Meta(description="File of the cluster's CA (PEM).")] = ""


class StoreConfig(Struct, frozen=True, kw_only=True):
    engine: Annotated[
        Literal["embedded", "etcd", "managed-etcd"],
        Meta(
            description="What keeps the registrations: SQLite in this process, an etcd cluster that exists, or one "
            "whose members the nodes run."
        ),
    ] = "embedded"
    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="Folder of the embedded store, or of the last view of an etcd cluster; a relative one "
            "starts at the working directory.",
        ),
    ] = "./discovery-data"
    prefix: Annotated[
        str,
        Meta(
            description="Where keys begin; `/skydns` is what SkyDNS, CoreDNS and ExternalDNS use.",
        ),
    ] = "/skydns"
    etcd: Annotated[EtcdConfig, Meta(description="The etcd cluster of engine `etcd`.")] = EtcdConfig()
    member: Annotated[MemberConfig, Meta(description="The etcd that engine `managed-etcd` runs.")] = (
        MemberConfig()
    )


class LeasesConfig(Struct, frozen=True, kw_only=True):
    default_ttl: Annotated[
        int, Meta(ge=1, le=DAY, description="Seconds a lease lives without a heartbeat where none is asked.")
    ] = 30
    min_ttl: Annotated[int, Meta(ge=1, le=DAY, description="The least that may be asked, in seconds.")] = 1
    max_ttl: Annotated[int, Meta(ge=1, le=DAY, description="The most that may be asked, in seconds.")] = DAY
    guard: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Guard against mass expiry: when more than this share of a service's instances, at "
            "least 3, run out at once, they get one TTL more, once; after a stall of the node all leases get "
            "their full TTL. 0: off.",
        ),
    ] = 0.5


class ForwardConfig(Struct, frozen=True, kw_only=True):
    upstreams: Annotated[
        tuple[str, ...],
        Meta(description="Servers (address or address:port) for names outside our zones; empty: refused."),
    ] = ()
    zones: Annotated[
        dict[str, tuple[str, ...]], Meta(description="Servers for certain zones, asked before the upstreams.")
    ] = msgspec.field(default_factory=dict)
    stubs: Annotated[bool, Meta(description="Let stored keys under `stub.dns.` name servers too.")] = False
    allow: Annotated[
        tuple[str, ...],
        Meta(description="Clients whose questions are forwarded: networks, `loopback`, `private`."),
    ] = ("loopback", "private")
    ndots: Annotated[
        int, Meta(ge=0, le=127, description="A and AAAA questions with fewer labels are refused.")
    ] = 2
    cache_bytes: Annotated[Bytes, Meta(description="Bound of the cache of forwarded answers, in bytes.")] = (
        8388608
    )


class NodeConfig(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(description="This node's name, one label; empty: the host name.")] = ""
    address: Annotated[
        str, Meta(description="The IP address others reach it at; empty: the first listening address.")
    ] = ""
    stop_delay: Annotated[
        int,
        Meta(
            ge=0,
            le=300,
            description="Seconds for which a node that is told to stop goes on answering, while `/readyz` says 503 "
            "and the zones' NS records leave it out.",
        ),
    ] = 0


class LogConfig(Struct, frozen=True, kw_only=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severe line to write.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="Lines for people, or one JSON object a line.")
    ] = "text"
    queries: Annotated[bool, Meta(description="Write a line for every DNS question.")] = False


class Config(Struct, frozen=True, kw_only=True):
    """Every setting. `Config()` is what a node runs with when nothing is configured."""

    zones: Annotated[
        tuple[ZoneConfig, ...],
        Meta(min_length=1, description="The zones answered for; short names belong to the first."),
    ] = (ZoneConfig(name="discovery.internal."),)
    reverse_zones: Annotated[
        tuple[str, ...],
        Meta(description="Networks (CIDR) or arpa names whose PTR records follow from the services."),
    ] = ()
    dns: Annotated[DnsConfig, Meta(description="The DNS server.")] = DnsConfig()
    http: Annotated[HttpConfig, Meta(description="The HTTP API.")] = HttpConfig()
    store: Annotated[StoreConfig, Meta(description="Where registrations are kept.")] = StoreConfig()
    leases: Annotated[LeasesConfig, Meta(description="How long registrations live.")] = LeasesConfig()
    forward: Annotated[ForwardConfig, Meta(description="What happens to names outside the zones.")] = (
        ForwardConfig()
    )
    node: Annotated[NodeConfig, Meta(description="This node among others.")] = NodeConfig()
    stale_after: Annotated[
        int,
        Meta(ge=0, le=DAY, description="Seconds without the store after which answers are marked as stale."),
    ] = 30
    log: Annotated[LogConfig, Meta(extra=RELOAD, description="Log lines, on standard error.")] = LogConfig()


# ---------------------------------------------------------------- the structs as a table


class Setting(Struct, frozen=True):
    """One leaf. `items` is the section of one element where the setting is a list of sections."""

    key: str
    type: object
    default: object
    required: bool
    description: str
    marks: frozenset[str]
    items: Section | None


class Section(Struct, frozen=True):
    key: str
    cls: type[Struct]
    description: str
    marks: frozenset[str]
    members: Mapping[str, Setting | Section]

    def settings(self) -> list[Setting]:
        """All leaves at and below, in the order of the file; those of a list's elements are not among them."""
        out: list[Setting] = []
        for member in self.members.values():
            if isinstance(member, Setting):
                out.append(member)
            else:
                out.extend(member.settings())
        return out


def _section(cls: type[Struct], key: str, description: str, marks: frozenset[str]) -> Section:
    members: dict[str, Setting | Section] = {}
    for field in msgspec.structs.fields(cls):
        metas = [part for part in get_args(field.type) if isinstance(part, Meta)]
        text = next(meta.description for meta in metas if meta.description)
        own = marks | {mark for meta in metas for mark in (meta.extra or {})}
        base = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        name = f"{key}.{field.name}" if key else field.name
        if isinstance(base, type) and issubclass(base, Struct):
            members[field.name] = _section(base, name, text, own)
            continue
        element = next(iter(get_args(base)), None) if get_origin(base) is tuple else None
        items = None
        if isinstance(element, type) and issubclass(element, Struct):
            items = _section(element, f"{name}[]", text, own)
        default = field.default_factory() if callable(field.default_factory) else field.default
        members[field.name] = Setting(
            key=name,
            type=field.type,
            default=default,
            required=field.required,
            description=text,
            marks=own,
            items=items,
        )
    return Section(key=key, cls=cls, description=description, marks=marks, members=MappingProxyType(members))


TABLE = _section(Config, "", "", frozenset())


def expected(type_: object) -> str:
    """What a value of the type looks like, in words: for error lines and for the reference page."""
    base = get_args(type_)[0] if get_origin(type_) is Annotated else type_
    if get_origin(base) is Literal:  # msgspec would sort the words
        return "one of " + ", ".join(get_args(base))
    return _words(msgspec.inspect.type_info(type_))


def _words(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.Metadata():
            return _words(kind.type)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case msgspec.inspect.FloatType():
            return "a number" if kind.ge is None else f"a number from {kind.ge:g} to {kind.le:g}"
        case msgspec.inspect.VarTupleType():
            least = "a list" if not kind.min_length else "a list (at least one)"
            return f"{least} of {_words(kind.item_type)}"
        case msgspec.inspect.DictType():
            return f"a mapping of names to {_words(kind.value_type)}"
        case msgspec.inspect.StructType():
            return "mappings"
    return "text"

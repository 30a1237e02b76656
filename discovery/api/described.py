"""What each route is for, what it takes and what it answers: the one table that the API's description is made from.

Owns these declarations and nothing else. They name the very structs that the handlers read and write. A test holds that
every route stands here and every one that stands here is a route.
"""

from __future__ import annotations

from collections.abc import Mapping

from discovery.api import (
    batch,
    bodies,
    busiest,
    cluster,
    draining,
    history,
    lookup,
    members,
    operator,
    page,
    sd,
    search,
    services,
    store,
    tokens,
    v2nodes,
    watch,
)
from discovery.api.calls import Call, KeyForm, Parameter, Stream, WatchEvent

TEXT: Mapping[str, object] = {"type": "string"}
FLAG: Mapping[str, object] = {"type": "boolean", "default": False}


def _whole(low: int, high: int, default: int | None = None) -> Mapping[str, object]:
    schema: dict[str, object] = {"type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else schema | {"default": default}


# By their names in the routes' paths.
IN_PATH: Mapping[str, Parameter] = {
    "service": Parameter(
        "service",
        "relative to the first zone (`web.prod`), whole with a final dot, or `@` for the zone itself",
        {"type": "string", "maxLength": 255},
        "path",
    ),
    "instance": Parameter("instance", "one label", {"type": "string", "maxLength": 63}, "path"),
    "lease": Parameter("lease", "a lease's id", {"type": "string", "pattern": "^[0-9a-fA-F]{1,16}$"}, "path"),
    "member": Parameter("member", "its name or id", TEXT, "path"),
    "token": Parameter("token", "its id, not the token itself", TEXT, "path"),
    "file": Parameter("file", "of the page", {"type": "string", "enum": page.names()}, "path"),
    "key": Parameter("key", "below `store.prefix`; slashes may stand in it as they are", TEXT, "path"),
}

SUBTREE = Parameter("subtree", "all below the service too", FLAG)
DRAIN_WAIT = Parameter("wait", "seconds to wait for `safe_at`, at most", _whole(0, draining.MAX_WAIT, 0))
V2_READ = tuple(
    Parameter(name, text, FLAG)
    for name, text in (
        ("recursive", "with all below"),
        ("sorted", "lists always are"),
        ("quorum", "every read is one"),
        ("wait", "answer when it changes"),
    )
)
V2_INDEX = Parameter(
    "waitIndex", "with `wait`: the first change from this index on", _whole(0, (1 << 63) - 1)
)
V2_DELETE = (
    Parameter("recursive", "with all below", FLAG),
    Parameter("dir", "a directory", FLAG),
    Parameter("prevValue", "only while it has this value", TEXT),
    Parameter("prevIndex", "only while it has this `modifiedIndex`", _whole(0, (1 << 63) - 1)),
)
V2_ERRORS = (401, 403, 404, 412)
ONE = "/v1/services/{service}/{instance}"
INSTANCES, LEASES, MANY, DRAINING = "Instances", "Leases", "Batches and watching", "Draining"
DNS, CLUSTER, STORE, TOKENS, NODE, V2 = "DNS", "Cluster", "Store", "Tokens", "Node", "SkyDNS's keys"

TAGS: Mapping[str, str] = {
    INSTANCES: "Register instances of services, keep them alive, look at them.",
    LEASES: "One lease may hold the instances of a whole host, which then beats once for all.",
    MANY: "Many instances in one request, and a stream of all changes.",
    DRAINING: "Take what is registered out of DNS, and put it back.",
    DNS: "What DNS answers, and why.",
    NODE: "How this node is.",
    CLUSTER: "Who runs the service discovery, and how each of them is.",
    STORE: "What an operator asks of the store.",
    TOKENS: "Who may call.",
    V2: "etcd 2's keys API for the keys below `store.prefix`, with etcd's errors, for clients of etcd 2.",
}

CALLS: Mapping[tuple[str, str], Call] = {
    ("GET", "/v1/services"): Call(
        "list_services",
        INSTANCES,
        "The services with how many instances each has, paged by name",
        {200: bodies.Services},
        query=(
            Parameter("prefix", "of the services' names", TEXT),
            Parameter("limit", "services in an answer", _whole(1, services.MAX_PAGE, services.PAGE)),
            Parameter("after", "the last page's `next`", TEXT),
        ),
    ),
    ("GET", "/v1/search"): Call(
        "search",
        INSTANCES,
        "Services and instances with some words in their names, addresses, tags, ports or meta",
        {200: search.Search},
        query=(
            Parameter(
                "q",
                "words apart; without any, every service",
                {"type": "string", "maxLength": search.MAX_QUERY},
            ),
            Parameter("service", "only the instances of this one", TEXT),
            Parameter("leases", "with `expires_at`, which may cost a question to the store each", FLAG),
            Parameter(
                "offset", "services, or instances of the one, to leave out", _whole(0, search.MAX_OFFSET, 0)
            ),
            Parameter(
                "limit", "services and instances in an answer", _whole(1, search.MAX_PAGE, search.PAGE)
            ),
        ),
    ),
    ("GET", "/v1/services/{service}"): Call(
        "list_instances",
        INSTANCES,
        "A service's instances; waits for a change where `index` is given",
        {200: bodies.Instances},
        query=(
            SUBTREE,
            Parameter("leases", "with `expires_at`, which may cost a question to the store each", FLAG),
            Parameter("index", "wait for a change after this revision", _whole(0, services.MAX_INDEX)),
            Parameter("wait", "with `index`: seconds", _whole(0, services.MAX_WAIT, services.WAIT)),
        ),
    ),
    ("GET", ONE): Call(
        "get_instance",
        INSTANCES,
        "An instance, with its lease's time",
        {200: bodies.Instance, 304: None},
        errors=(404, 412),
        etag=True,
        conditional=True,
    ),
    ("PUT", ONE): Call(
        "register",
        INSTANCES,
        "Registers or replaces an instance",
        {200: bodies.Instance, 201: bodies.Instance},
        bodies.InstanceBody,
        errors=(404, 412),
        etag=True,
        conditional=True,
        description="201: it is new; 200: it was replaced, or was so already. What changes nothing renews the lease.",
    ),
    ("DELETE", ONE): Call(
        "deregister", INSTANCES, "Removes an instance", {204: None}, errors=(404, 412), conditional=True
    ),
    ("POST", f"{ONE}/heartbeat"): Call(
        "heartbeat",
        INSTANCES,
        "Renews an instance's lease",
        {200: bodies.Heartbeat},
        bodies.NoFields,
        errors=(404,),
    ),
    ("POST", f"{ONE}/drain"): Call(
        "drain",
        DRAINING,
        "Takes an instance out of DNS at once; it stays registered",
        {200: bodies.DrainedInstance},
        bodies.NoFields,
        (DRAIN_WAIT,),
        errors=(404, 409),
        etag=True,
    ),
    ("POST", f"{ONE}/undrain"): Call(
        "undrain",
        DRAINING,
        "Puts an instance back into DNS",
        {200: bodies.Instance},
        bodies.NoFields,
        errors=(404, 409),
        etag=True,
    ),
    ("POST", "/v1/leases/{lease}/drain"): Call(
        "drain_lease",
        DRAINING,
        "Takes all that a lease holds out of DNS at once",
        {200: bodies.DrainedLease},
        bodies.NoFields,
        (DRAIN_WAIT,),
        errors=(404, 409),
    ),
    ("POST", "/v1/leases/{lease}/undrain"): Call(
        "undrain_lease",
        DRAINING,
        "Puts all that a lease holds back into DNS",
        {200: bodies.UndrainedLease},
        bodies.NoFields,
        errors=(404, 409),
    ),
    ("POST", "/v1/leases"): Call(
        "grant_lease", LEASES, "Grants a lease", {201: bodies.GrantedLease}, bodies.LeaseBody
    ),
    ("GET", "/v1/leases/{lease}"): Call(
        "get_lease",
        LEASES,
        "A lease's time, and the instances it holds",
        {200: bodies.LeaseState},
        errors=(404,),
    ),
    ("DELETE", "/v1/leases/{lease}"): Call(
        "revoke_lease", LEASES, "Ends a lease and removes all it holds at once", {204: None}, errors=(404,)
    ),
    ("POST", "/v1/leases/{lease}/heartbeat"): Call(
        "renew_lease",
        LEASES,
        "Renews a lease; 404: it has expired, register again",
        {200: bodies.LeaseHeartbeat},
        bodies.NoFields,
        errors=(404,),
    ),
    ("POST", "/v1/heartbeats"): Call(
        "renew_leases",
        LEASES,
        f"Renews up to {bodies.MAX_LEASES:,} leases",
        {200: bodies.Renewed},
        bodies.HeartbeatsBody,
    ),
    ("POST", "/v1/batch"): Call(
        "batch",
        MANY,
        f"Registers and removes up to {batch.MAX_OPERATIONS:,} instances; one that is wrong does not stop the rest",
        {200: batch.BatchAnswer},
        batch.BatchBody,
    ),
    ("GET", "/v1/watch"): Call(
        "watch",
        MANY,
        "A stream of changes without an end",
        {
            200: Stream(
                tuple(watch.CONTENT_TYPES.values()),
                "a line of JSON an event, or a server-sent event each; empty lines and comments keep it alive",
                WatchEvent,
            )
        },
        query=(
            Parameter("service", "only this one; without it, everything", TEXT),
            SUBTREE,
            Parameter("since", "go on after this revision", _whole(0, watch.MAX_REVISION)),
        ),
        headers=(
            Parameter(
                "Last-Event-ID", "as `since`, which it goes before", _whole(0, watch.MAX_REVISION), "header"
            ),
        ),
        errors=(410,),
    ),
    ("GET", "/v1/sd/prometheus"): Call(
        "list_targets",
        MANY,
        "The instances as targets for Prometheus (http_sd)",
        {200: list[sd.TargetGroup]},
        query=(
            Parameter("service", "only this one; without it, all in the zones", TEXT),
            SUBTREE,
            Parameter("tag", "only those that have it", TEXT),
            Parameter("port", "the named port to scrape; without it, the instance's `port`", TEXT),
        ),
        description="Instances without that port, and drained ones, are left out.",
    ),
    ("GET", "/v1/lookup"): Call(
        "lookup",
        DNS,
        "What DNS answers and why: keys, rules, where TTLs come from",
        {200: lookup.Lookup},
        query=(
            Parameter("name", "a whole domain name; `.` is the root", TEXT),
            Parameter("type", "a record type, such as SRV or TYPE64", {"type": "string", "default": "A"}),
        ),
    ),
    ("GET", "/v1/zone"): Call(
        "export_zone",
        DNS,
        "A zone as a master file, as DNS would answer it now",
        {200: Stream(("text/dns",), "RFC 1035 section 5")},
        query=(Parameter("zone", "without it, the first", TEXT),),
        errors=(404,),
    ),
    ("GET", "/v1/busiest"): Call(
        "list_busiest",
        DNS,
        "The questions that DNS is asked most, from samples of this node",
        {200: busiest.Busiest},
        query=(Parameter("limit", "names in the answer", _whole(1, busiest.MAX_NAMES, busiest.NAMES)),),
    ),
    ("GET", "/healthz"): Call(
        "healthz", NODE, "Whether the process is alive", {200: operator.Health}, revision=False
    ),
    ("GET", "/readyz"): Call(
        "readyz",
        NODE,
        "Whether DNS can answer",
        {200: operator.Readiness},
        query=(Parameter("writes", "only while the store takes writes, too", FLAG),),
        revision=False,
    ),
    ("GET", "/metrics"): Call(
        "metrics",
        NODE,
        "Figures for Prometheus",
        {200: Stream(("text/plain",), "its text format")},
        revision=False,
    ),
    ("POST", "/v1/config/reload"): Call(
        "reload",
        NODE,
        "Reads the configuration anew and takes over what may change while running",
        {200: operator.Reloaded},
        revision=False,
    ),
    ("GET", "/openapi.json"): Call(
        "openapi",
        NODE,
        "This description",
        {200: Stream(("application/json",), "OpenAPI 3.1")},
        revision=False,
    ),
    ("GET", "/docs"): Call(
        "docs", NODE, "This description, to read", {200: Stream(("text/html",), "a page")}, revision=False
    ),
    ("GET", "/v1/history"): Call(
        "get_history", NODE, "The last hour in rates a second", {200: history.HistoryAnswer}
    ),
    ("GET", "/"): Call(
        "page",
        NODE,
        "The web page",
        {200: Stream(("text/html",), "a page"), 304: None},
        revision=False,
    ),
    ("GET", "/page/{file}"): Call(
        "page_file",
        NODE,
        "A file of the web page",
        {200: Stream(tuple(page.TYPES.values())[1:], "the file"), 304: None},
        errors=(404,),
        revision=False,
    ),
    ("GET", "/v1/cluster"): Call(
        "get_cluster", CLUSTER, "The nodes and the store's members, and how each is", {200: cluster.Cluster}
    ),
    ("POST", "/v1/cluster/members"): Call(
        "add_member",
        CLUSTER,
        "A seat for a member that does not run yet",
        {201: members.Seats},
        members.NewMember,
        errors=(409,),
    ),
    ("DELETE", "/v1/cluster/members/{member}"): Call(
        "remove_member",
        CLUSTER,
        "Takes a member out; 409 where that would cost the quorum",
        {200: members.Seats},
        errors=(404, 409),
    ),
    ("POST", "/v1/cluster/members/{member}/promote"): Call(
        "promote_member",
        CLUSTER,
        "Lets a member vote",
        {200: members.Seats},
        bodies.NoFields,
        errors=(404, 409),
    ),
    ("POST", "/v1/cluster/defrag"): Call(
        "defrag",
        CLUSTER,
        "Drops all history and gives free space back on every member",
        {200: members.Room},
        bodies.NoFields,
        errors=(409,),
    ),
    ("GET", "/v1/store"): Call(
        "get_store", STORE, "Revision, size, leases and troubles of the store", {200: store.StoreState}
    ),
    ("POST", "/v1/store/compact"): Call(
        "compact",
        STORE,
        "Drops the history: watches that would begin there begin anew",
        {200: store.StoreState},
        store.CompactBody,
        errors=(410,),
    ),
    ("POST", "/v1/store/snapshot"): Call(
        "snapshot",
        STORE,
        "A consistent copy of the store, as a file to keep",
        {200: Stream(("application/octet-stream",), "the file", binary=True)},
        errors=(409,),
    ),
    ("GET", "/v1/tokens"): Call(
        "list_tokens", TOKENS, "The tokens, without what is secret of them", {200: tokens.TokenList}
    ),
    ("POST", "/v1/tokens"): Call(
        "make_token",
        TOKENS,
        "Makes a token, which is told only here",
        {201: tokens.MadeToken},
        tokens.TokenBody,
    ),
    ("DELETE", "/v1/tokens/{token}"): Call(
        "revoke_token",
        TOKENS,
        "Revokes a token; 409 for the last one of the role operate while others are there",
        {204: None},
        errors=(404, 409),
    ),
    ("GET", "/v2/keys{key}"): Call(
        "get_key",
        V2,
        "A key, or a directory",
        {200: v2nodes.Result},
        query=(*V2_READ, V2_INDEX),
        errors=V2_ERRORS,
    ),
    ("PUT", "/v2/keys{key}"): Call(
        "put_key",
        V2,
        "Writes a key",
        {200: v2nodes.Result, 201: v2nodes.Result},
        KeyForm,
        errors=(*V2_ERRORS, 413),
    ),
    ("POST", "/v2/keys{key}"): Call(
        "post_key",
        V2,
        "Writes a key in order below this one",
        {201: v2nodes.Result},
        KeyForm,
        errors=(*V2_ERRORS, 413),
    ),
    ("DELETE", "/v2/keys{key}"): Call(
        "delete_key", V2, "Removes a key", {200: v2nodes.Result}, query=V2_DELETE, errors=V2_ERRORS
    ),
}

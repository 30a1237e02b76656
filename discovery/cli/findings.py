"""What `discovery doctor` finds, and what it makes of figures and answers.

Pure: it owns the verdicts over what others have measured or asked, each with what to do. It never looks itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from discovery.cli.tables import duration

Verdict = Literal["ok", "skipped", "warning", "wrong"]
Answer = Mapping[str, Any]  # JSON whose fields http-api.md gives

CLOCK_WARNING, CLOCK_WRONG = 0.2, 1.0  # seconds: from the second on etcd and the nodes complain too
FREE_WARNING, FREE_WRONG = 0.10, 0.02  # of the file system
FREE_BYTES = 100 << 20  # below it is wrong, whatever share that is
FSYNC_SLOW = 0.010  # seconds: etcd's own rule for a disk; every durable write waits for one
CERTIFICATE_DAYS = 30


class Finding(msgspec.Struct, frozen=True):
    """`said` is one sentence; `do`, where something is to be done, another one."""

    check: str
    verdict: Verdict
    said: str
    do: str = ""


def clock(whose: str, offset: float, uncertain: float) -> Finding:
    """`offset`: seconds that the other clock is ahead, known to `uncertain`."""
    sure = max(0.0, abs(offset) - uncertain)
    said = f"the clock of {whose} is {abs(offset) * 1000:.0f} ms {'ahead' if offset > 0 else 'behind'}"
    if sure < CLOCK_WARNING:
        return Finding("clock", "ok", said)
    verdict: Verdict = "wrong" if sure >= CLOCK_WRONG else "warning"
    return Finding("clock", verdict, said, "set both clocks by NTP: timedatectl set-ntp true")


def space(path: str, free: int, total: int) -> Finding:
    """Bytes that this user may still write at `path`, and all of its file system."""
    said = f"{path}: {_size(free)} of {_size(total)} are free"
    share = free / total if total else 0.0
    if share >= FREE_WARNING and free >= FREE_BYTES:
        return Finding("disk", "ok", said)
    verdict: Verdict = "wrong" if share < FREE_WRONG or free < FREE_BYTES else "warning"
    return Finding(
        "disk", verdict, said, "make room, or set store.path to a larger disk: when full, writes fail"
    )


def fsync(path: str, seconds: Sequence[float]) -> Finding:
    """How long each of some small durable writes took."""
    ordered = sorted(seconds)
    middle, worst = ordered[len(ordered) // 2], ordered[-1]
    said = f"{path}: a durable write takes {middle * 1000:.1f} ms, at worst {worst * 1000:.1f} ms"
    if middle < FSYNC_SLOW:
        return Finding("disk", "ok", said)
    do = "registrations wait for it: use a local SSD, or one with less to do"
    return Finding("disk", "warning", said, do)


def file_system(path: str, kind: str) -> Finding | None:
    """For those that a store is not safe on; None: it is."""
    if kind in ("nfs", "nfs4", "cifs", "smb3", "9p") or kind.startswith("fuse."):
        do = "set store.path to a local disk: locks and durable writes of a network's can't be relied on"
        return Finding("disk", "wrong", f"{path} is on {kind}, a network's file system", do)
    if kind in ("tmpfs", "ramfs"):
        do = "set store.path to a disk, such as /var/lib/discovery"
        return Finding(
            "disk", "warning", f"{path} is in memory ({kind}): a restart of the machine loses it", do
        )
    return None


def mode(what: str, path: str, bits: int, *, secret: bool) -> Finding:
    """The permission bits of a file or folder. `secret`: others must not even read it."""
    said = f"{what}: {path} has mode {bits:04o}"
    if bits & 0o002 or (secret and bits & 0o020):
        return Finding("permissions", "wrong", f"{said}: others may write it", f"chmod go= {path}")
    if secret and bits & 0o077:
        return Finding("permissions", "warning", f"{said}: others may read it", f"chmod go= {path}")
    return Finding("permissions", "ok", said)


def certificate(setting: str, path: str, seconds: float) -> Finding:
    """`seconds` until it ends."""
    if seconds <= 0:
        said = f"{setting}: {path} ended {duration(-seconds)} ago"
        return Finding("certificates", "wrong", said, "renew it, then `discovery config reload`")
    said = f"{setting}: {path} ends in {duration(seconds)}"
    if seconds < CERTIFICATE_DAYS * 86400:
        return Finding("certificates", "warning", said, "renew it, then `discovery config reload`")
    return Finding("certificates", "ok", said)


def versions(own: str, cluster: Answer) -> Iterator[Finding]:
    """This program's, the nodes', and the members' of the store."""
    found: dict[str, list[str]] = {}
    for node in cluster["nodes"]:
        found.setdefault(node["version"], []).append(node["name"])
    listed = ", ".join(f"{version} ({', '.join(names)})" for version, names in sorted(found.items()))
    if len(found) > 1:
        do = "end the upgrade: all nodes should run one version"
        yield Finding("version", "warning", f"the nodes run {listed}", do)
    elif own not in found:
        do = "use the program of the nodes' version"
        yield Finding("version", "warning", f"this program is {own}, the nodes run {listed}", do)
    else:
        yield Finding("version", "ok", f"all run {own}")
    members = sorted({member["version"] for member in cluster["store"]["members"] if member["version"]})
    if len(members) > 1:
        do = "end etcd's upgrade: all members should run one version"
        yield Finding("version", "warning", f"the store's members run etcd {', '.join(members)}", do)


def nodes(cluster: Answer) -> Iterator[Finding]:
    """Each node, as the one that was asked finds it; its clock by that node's word."""
    for node in cluster["nodes"]:
        name, url = node["name"], " ".join(node["http"])
        if node["error"]:
            do = f"look at its log, and at the network between here and {url or name}"
            yield Finding("nodes", "wrong", f"{name}: {node['error']}", do)
        elif node["ready"] is False:
            yield Finding("nodes", "wrong", f"{name} is not ready", "look at its log for what it waits for")
        elif node["stale"]:
            do = "bring the store back: DNS goes on from memory meanwhile"
            yield Finding(
                "nodes", "wrong", f"{name} answers from a view that is no longer kept up to date", do
            )
        else:
            yield Finding("nodes", "ok", f"{name} is ready at revision {node['revision']}")
        offset = node["clock_offset_ms"]
        if offset is not None:
            yield clock(f"node {name}", offset / 1000, (node["round_trip_ms"] or 0.0) / 2000)


def store(state: Answer, cluster: Answer) -> Iterator[Finding]:
    """The store by its own word (/v1/store, /v1/cluster)."""
    errors = dict.fromkeys([*state["errors"], *cluster["store"]["errors"]])
    for error in errors:
        yield Finding("store", "wrong", str(error), "see deploy/store.md, deploy/etcd.md, deploy/cluster.md")
    members = cluster["store"]["members"]
    for member in members:
        if not member["healthy"]:
            name = member["name"] or member["id"]
            do = "start it again, or `discovery cluster remove` it when it is lost"
            yield Finding("store", "wrong", f"member {name}: {member['error'] or 'it is not healthy'}", do)
    voters = [member for member in members if member["role"] in ("leader", "follower", "")]
    if members and len(voters) % 2 == 0:
        do = "add one or remove one: an even number survives no more losses than one less"
        yield Finding("store", "warning", f"the store has {len(voters)} voting members", do)
    if state["leases_held"]:
        said = f"{state['leases_held']} leases were kept when most of their group ran out at once"
        do = "look at the network between the services and this node: their heartbeats did not arrive"
        yield Finding("store", "warning", said, do)
    if state["stalls"]:
        said = f"the node stood still {state['stalls']} times, and gave all leases their time again"
        yield Finding(
            "store", "warning", said, "give the machine more CPU, or see what stops it (swap, a snapshot)"
        )
    if not errors and all(member["healthy"] for member in members):
        said = f"{cluster['store']['engine']} at revision {state['revision']}, {state['leases']} leases"
        yield Finding("store", "ok", f"{said}, {_size(state['size'])}")


def unreadable(count: int, first: Sequence[tuple[str, str]]) -> Finding:
    """Stored keys that are no services; `first` are some of them with the reason."""
    if not count:
        return Finding("records", "ok", "every stored record can be read")
    named = "; ".join(f"{key} ({reason})" for key, reason in first)
    said = f"{count} stored records can't be read and are left out of DNS" + (f": {named}" if named else "")
    return Finding(
        "records",
        "warning",
        said,
        "register them anew, or delete their keys: `discovery api DELETE /v2/keys/...`",
    )


def worst(findings: Sequence[Finding]) -> tuple[int, int]:
    """How many are wrong, and how many warn."""
    verdicts = [finding.verdict for finding in findings]
    return verdicts.count("wrong"), verdicts.count("warning")


def _size(number: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "bytes" or number >= 10 else f"{number:.1f} {unit}"

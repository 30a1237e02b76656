"""The JSON of etcd's old keys API: what a key and a directory look like to its clients.

Owns the shape of nodes and results. It is told what the store holds and asks it only for the time leases have left.
A directory is made from the keys below it; a key that is both is two nodes of one name in its list. As in etcd, what
begins with `_` is hidden: it is in no list, and there for those who ask for it by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from discovery.api.parts import ApiParts, rfc3339
from discovery.kv.contract import KV, LeaseNotFound

LEASES_AT_ONCE = 64
MAX_DEPTH = 128  # directories in each other, and a name has fewer labels; deeper keys are listed in the last

Left = tuple[int, float]  # seconds a lease has left, and when it ends


class Node(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A file has `value`, a directory `dir` and, when it was read, `nodes`."""

    key: str
    value: str | msgspec.UnsetType = msgspec.UNSET
    dir: bool = False
    expiration: str | None = None
    ttl: int = 0
    nodes: Sequence[Node] | None = None
    modified_index: int
    created_index: int


class Result(msgspec.Struct, rename="camel", omit_defaults=True):
    action: str
    node: Node | None = None
    prev_node: Node | None = None


async def times_left(parts: ApiParts, kvs: Sequence[KV]) -> dict[int, Left]:
    """For every lease among them that is alive."""
    gate = asyncio.Semaphore(LEASES_AT_ONCE)
    left: dict[int, Left] = {}

    async def ask(lease: int) -> None:
        async with gate:
            try:
                _, remaining = await parts.store.lease_ttl(lease)
            except LeaseNotFound:
                return  # it ends just now
            left[lease] = remaining, parts.now() + remaining

    await asyncio.gather(*map(ask, {kv.lease for kv in kvs if kv.lease}))
    return left


def file_node(kv: KV, left: Left | None = None) -> Node:
    node = Node(
        key=kv.key.decode(errors="backslashreplace"),
        value=kv.value.decode(errors="backslashreplace"),
        modified_index=kv.mod_revision,
        created_index=kv.create_revision,
    )
    if left is not None:
        node.ttl, node.expiration = left[0], rfc3339(left[1])
    return node


def directory_node(
    key: bytes,
    kvs: Sequence[KV],
    left: dict[int, Left],
    *,
    recursive: bool,
    found: int,
    depth: int = MAX_DEPTH,
) -> Node:
    """`kvs` are all keys below `key`, in byte order; one level of nodes, or all. An empty one is as old as `found`."""
    nodes: dict[tuple[bytes, bool], list[KV]] = {}
    lead = len(key) + 1
    for kv in kvs:
        rest = kv.key[lead:]
        name, slash, _ = rest.partition(b"/") if depth else (rest, b"", b"")
        nodes.setdefault((name, bool(slash)), []).append(kv)
    children = []
    for (name, is_directory), group in sorted(nodes.items()):
        if name.startswith(b"_"):
            continue
        if not is_directory:
            children.append(file_node(group[0], left.get(group[0].lease)))
            continue
        inside = group if recursive else ()
        path = key + b"/" + name
        child = directory_node(path, inside, left, recursive=recursive, found=found, depth=depth - 1)
        child.created_index = child.modified_index = min(kv.create_revision for kv in group)
        children.append(child)
    created = min((kv.create_revision for kv in kvs), default=found)
    text = key.decode(errors="backslashreplace")
    return Node(key=text, dir=True, nodes=children or None, modified_index=created, created_index=created)

"""Keys and leases as text: out of any store, into any store.

Owns the format of `discovery store export` (JSON lines: a head, the leases, the keys) and the reading of it, and of
what `etcdctl get --prefix KEY -w json` prints. It opens nothing and knows no engine. A lease keeps its id, so that
who renews it needs to know nothing of the move. How: both ways go in pieces, each a transaction when it is written.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from discovery.errors import Conflict, InvalidField
from discovery.kv.contract import BASE_KEY, MAX_LEASE_ID, Compare, Lease, LeaseExists, Put, Store, Target

FORMAT = "discovery-store"
VERSION = 1
PAGE = 5_000  # keys read at once
PIECE = 100  # keys written in one transaction (etcd takes 128 as it comes), leases granted at once


T = TypeVar("T")


class Head(msgspec.Struct, kw_only=True):
    """The first line. `keys`: how many follow; None in an export of a program that did not count them."""

    format: str
    version: int
    revision: int
    leases: int
    keys: int | None = None


class Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A lease (`lease`: 16 hex digits; `ttl` in seconds), or a key (`lease` empty: permanent).

    `key64`, `value64`: base64, where the bytes are no text.
    """

    key: str = ""
    key64: str = ""
    lease: str = ""
    ttl: int = 0
    value: str = ""
    value64: str = ""


class EtcdKey(msgspec.Struct):
    """A key as etcdctl prints it: base64 of `key` and `value`."""

    key: bytes
    value: bytes = b""
    lease: int = 0


class EtcdKeys(msgspec.Struct):
    kvs: list[EtcdKey] = []


class Moved(msgspec.Struct, frozen=True):
    keys: int
    leases: int


# ---------------------------------------------------------------- out


async def export_lines(store: Store, leases: Sequence[int]) -> AsyncIterator[bytes]:
    """The lines, without their ends. `leases`: all that there are, those without keys too.

    Nobody writes to the store meanwhile: the head counts what follows, so that a part is not taken for the whole.
    """
    keys = await _count(store)
    page = await store.range(b"", b"\0", limit=PAGE)
    yield msgspec.json.encode(
        Head(format=FORMAT, version=VERSION, revision=page.revision, leases=len(leases), keys=keys)
    )
    for lease in leases:
        ttl, _ = await store.lease_ttl(lease)
        yield msgspec.json.encode(Line(lease=f"{lease:016x}", ttl=ttl))
    while True:
        for kv in page.kvs:
            line = Line(lease=f"{kv.lease:016x}" if kv.lease else "")
            line.key, line.key64 = _text(kv.key)
            line.value, line.value64 = _text(kv.value)
            yield msgspec.json.encode(line)
        if not page.more:
            return
        page = await store.range(page.kvs[-1].key + b"\0", b"\0", limit=PAGE)


async def _count(store: Store) -> int:
    count, page = 0, await store.range(b"", b"\0", limit=PAGE, keys_only=True)
    while page.more:
        count += len(page.kvs)
        page = await store.range(page.kvs[-1].key + b"\0", b"\0", limit=PAGE, keys_only=True)
    return count + len(page.kvs)


def _text(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode(), ""
    except UnicodeDecodeError:
        return "", base64.b64encode(raw).decode()


# ---------------------------------------------------------------- in


def read_lines(lines: Iterable[bytes], *, lease_ttl: int) -> Iterator[Lease | Put]:
    """The leases and keys of an export, or of what etcdctl printed, whose leases have no TTL: they get `lease_ttl`.

    Raises InvalidField, which names the line.
    """
    rest = iter(lines)
    first = next(rest, b"")
    head = _decode(first, dict[str, msgspec.Raw], 1)
    if "format" in head:
        known = _decode(first, Head, 1)
        if (known.format, known.version) != (FORMAT, VERSION):
            raise InvalidField(
                f"line 1: this is {known.format} version {known.version}, and this program reads {FORMAT} {VERSION}"
            )
        yield from _read_export(rest, known)
    elif "header" in head or "kvs" in head:
        if next(rest, b"").strip():
            raise InvalidField("line 2: etcdctl prints one line; give the output of one call")
        yield from _read_etcdctl(_decode(first, EtcdKeys, 1), lease_ttl)
    else:
        raise InvalidField(
            "line 1: this is neither an export of this program nor the output of `etcdctl get --prefix KEY -w json`"
        )


def _read_export(lines: Iterator[bytes], head: Head) -> Iterator[Lease | Put]:
    keys = leases = 0
    for number, raw in enumerate(lines, 2):
        line = _decode(raw, Line, number)
        if line.ttl:
            leases += 1
            yield Lease(_lease_id(line.lease, number), line.ttl)
            continue
        try:
            key = base64.b64decode(line.key64, validate=True) if line.key64 else line.key.encode()
            value = base64.b64decode(line.value64, validate=True) if line.value64 else line.value.encode()
        except binascii.Error as error:
            raise InvalidField(f"line {number}: key64 or value64 is not base64: {error}") from None
        if not key:
            raise InvalidField(f"line {number}: the key is empty")
        keys += 1
        yield Put(key, value, _lease_id(line.lease, number) if line.lease else 0)
    if head.keys is not None and (keys, leases) != (head.keys, head.leases):
        raise InvalidField(
            f"the export is not whole: it has {keys} keys and {leases} leases, and its first line says {head.keys} "
            f"and {head.leases}: export again, and import that into an empty store or with --overwrite"
        )


def _read_etcdctl(found: EtcdKeys, lease_ttl: int) -> Iterator[Lease | Put]:
    for lease in sorted({kv.lease for kv in found.kvs if kv.lease}):
        yield Lease(lease, lease_ttl)
    for kv in found.kvs:
        yield Put(kv.key, kv.value, kv.lease)


def _lease_id(text: str, number: int) -> int:
    try:
        lease = int(text, 16)
    except ValueError:
        lease = 0
    if not 0 < lease <= MAX_LEASE_ID:
        raise InvalidField(f"line {number}: {text!r} is not a lease's id, 16 hex digits")
    return lease


def _decode(raw: bytes, type_: type[T], number: int) -> T:
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidField(f"line {number}: {error}") from None


async def import_items(
    store: Store, items: Iterable[Lease | Put], *, overwrite: bool, progress: Callable[[int], None]
) -> Moved:
    """Writes all of them, in order. A key or lease that is there already raises Conflict, unless `overwrite`.

    What went before an error stays: the same call again with `overwrite` finishes the work.
    """
    keys = leases = 0
    waiting: dict[int, Lease] = {}  # granted with their first key: in a cluster their time begins at once
    rest = iter(items)
    while piece := list(islice(rest, PIECE)):
        waiting |= {item.id: item for item in piece if isinstance(item, Lease)}
        found = {item.key: item for item in piece if isinstance(item, Put) and item.key != BASE_KEY}
        wanted = [waiting.pop(lease) for lease in {put.lease for put in found.values()} & waiting.keys()]
        await asyncio.gather(*(_grant(store, lease, overwrite=overwrite) for lease in wanted))
        when = [] if overwrite else [Compare(key, Target.VERSION, "=", 0) for key in found]
        if found and not (await store.txn(when, list(found.values()))).succeeded:
            raise Conflict(await _present(store, found))
        keys, leases = keys + len(found), leases + len(wanted)
        progress(keys + leases)
    for left in _pieces(list(waiting.values())):  # without keys
        await asyncio.gather(*(_grant(store, lease, overwrite=overwrite) for lease in left))
        leases += len(left)
        progress(keys + leases)
    return Moved(keys, leases)


def _pieces(leases: Sequence[Lease]) -> Iterator[Sequence[Lease]]:
    return (leases[at : at + PIECE] for at in range(0, len(leases), PIECE))


async def _grant(store: Store, lease: Lease, *, overwrite: bool) -> None:
    try:
        await store.lease_grant(lease.ttl, lease.id)
    except LeaseExists:
        if not overwrite:
            raise Conflict(
                f"the lease {lease.id:016x} is there already: import into an empty store, or say --overwrite"
            ) from None
        await store.lease_keepalive(lease.id)


async def _present(store: Store, keys: Iterable[bytes]) -> str:
    for key in keys:
        if (await store.range(key, keys_only=True)).kvs:
            name = key.decode(errors="backslashreplace")
            return f"the key {name} is there already: import into an empty store, or say --overwrite"
    return "a key that was there is gone again: somebody else writes to this store; try again"

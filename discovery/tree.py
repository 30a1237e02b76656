"""The tree of names: branches, and the records that stand at them.

Owns the two types that the view is made of, and the order of keys. A branch knows its children, the records at its
name and how many are at or below it. It never moves a version and never unlinks by itself: the view decides both,
for it promises that versions move first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from discovery import names, service
from discovery.kv.contract import KV
from discovery.names import Path
from discovery.service import Service


class Copy(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that a record says, but its path, which follows from the key: as other processes are told of it."""

    key: bytes
    create_revision: int
    revision: int
    lease: int
    fields: Service | None
    reason: str
    address: bytes | None
    target: Path | None


class Record:
    """One stored key (dns.source.Record). Not changed after it is in the tree, but for a foreign lease's TTL."""

    __slots__ = (
        "address",
        "create_revision",
        "fields",
        "key",
        "lease",
        "lease_ttl",
        "path",
        "reason",
        "revision",
        "target",
    )

    def __init__(self, path: Path, kv: KV, said: Service | None = None) -> None:
        """`said`: what the value says, where that is known already."""
        self.key = kv.key
        self.path = path
        self.lease = kv.lease
        self.revision = kv.mod_revision
        new = kv.create_revision == kv.mod_revision
        self.create_revision = kv.mod_revision if new else kv.create_revision  # one object, where it can be
        self.fields: Service | None = None
        self.reason = ""
        self.address: bytes | None = None
        self.target: Path | None = None
        try:
            self.fields = said or service.read(kv.value)
            self.address, self.target = service.resolve_host(self.fields.host)
        except service.Unreadable as error:
            self.reason = str(error)
        self.lease_ttl = self.fields.lease_ttl if self.fields is not None and kv.lease else 0

    @classmethod
    def copied(cls, path: Path, copy: Copy) -> Record:
        """The record that `copy` was made of, without the work of reading the stored value again."""
        record = cls.__new__(cls)
        record.key = copy.key
        record.path = path
        record.lease = copy.lease
        record.revision = copy.revision
        new = copy.create_revision == copy.revision
        record.create_revision = copy.revision if new else copy.create_revision  # one object, where it can be
        record.fields = copy.fields
        record.reason = copy.reason
        record.address = copy.address
        record.target = copy.target
        record.lease_ttl = copy.fields.lease_ttl if copy.fields is not None and copy.lease else 0
        return record

    def copy(self) -> Copy:
        return Copy(
            self.key,
            self.create_revision,
            self.revision,
            self.lease,
            self.fields,
            self.reason,
            self.address,
            self.target,
        )

    def order(self) -> tuple[Path, bytes]:
        """Sorts records in key order."""
        return names.key_order(self.key, self.path)

    def same(self, other: Record) -> bool:
        """Whether the store holds for both the same thing at the same revision."""
        return (self.key, self.revision, self.lease, self.reason, self.fields) == (
            other.key,
            other.revision,
            other.lease,
            other.reason,
            other.fields,
        )


# The children of all that have none, which are most: an own dict takes 64 bytes.
_NONE: dict[bytes, Branch] = {}


class Branch:
    """A name and all below it (dns.source.Branch)."""

    __slots__ = (
        "_order",
        "children",
        "count",
        "direct",
        "ghost_until",
        "label",
        "parent",
        "records",
        "services",
        "version",
    )

    def __init__(self, label: bytes, parent: Branch | None) -> None:
        self.label = label
        self.parent = parent
        self.children = _NONE
        self.records: tuple[Record, ...] = ()
        self.count = 0
        self.direct = 0  # children that have records
        self.services = 0  # names at or below this one of which `direct` is not 0
        self.version = 0
        self.ghost_until = 0.0
        self._order: list[bytes] | None = None

    def child(self, label: bytes) -> Branch | None:
        return self.children.get(label)

    def ordered(self) -> Sequence[Branch]:
        return [self.children[label] for label in self.order]

    @property
    def order(self) -> list[bytes]:
        """The children's labels, sorted; not to be changed."""
        if self._order is None:
            self._order = sorted(self.children)
        return self._order

    def walk(self) -> Iterator[Record]:
        return _walk([iter((self,))])

    def walk_behind(self, path: Path) -> Iterator[Record]:
        """What `walk` gives behind the branch at `path` below this one, or behind where it would stand."""
        stack: list[Iterator[Branch]] = []
        branch: Branch | None = self
        for label in path:
            assert branch is not None
            order = branch.order
            stack.append(map(branch.children.__getitem__, order[bisect_right(order, label) :]))
            branch = branch.child(label)
            if branch is None:
                break
        else:
            assert branch is not None
            stack.append(branch.each())
        return _walk(stack)

    def gather(self, limit: int) -> list[Record]:
        """The first of `walk`, until `limit` readable ones are among them: as quick as it can be for very many."""
        found: list[Record] = []
        if self.count <= limit:
            self._gather_all(found)
            return found
        left = limit
        stack: list[Iterator[Branch]] = [iter((self,))]
        while stack:
            for branch in stack[-1]:
                for record in branch.records:
                    found.append(record)
                    if record.fields is not None:
                        left -= 1
                        if not left:
                            return found
                if branch.children:
                    stack.append(branch.each())
                    break
            else:
                stack.pop()
        return found

    def _gather_all(self, found: list[Record]) -> None:
        found += self.records
        for branch in self.each():
            if branch.children:
                branch._gather_all(found)
            else:
                found += branch.records

    def each(self) -> Iterator[Branch]:
        """The children in key order, one by one: for those who may stop early."""
        return map(self.children.__getitem__, self.order)

    def add(self, label: bytes) -> Branch:
        if self.children is _NONE:
            self.children = {}
        branch = self.children[label] = Branch(label, self)
        if self._order is not None:
            self._order.insert(bisect_left(self._order, label), label)
        return branch

    def grow(self, path: Path) -> Branch:
        """The branch at `path` below this one, made where it is missing."""
        branch = self
        for label in path:
            found = branch.children.get(label)
            branch = branch.add(label) if found is None else found
        return branch

    def enter(self, record: Record) -> Record | None:
        """Puts a record here; the one that it replaces."""
        held = self.records
        if len(held) == 1 and held[0].key == record.key:  # as nearly all that change are
            self.records = (record,)
            return held[0]
        replaced = next((each for each in held if each.key == record.key), None) if held else None
        if replaced is None:
            self._add_to_count(1)
        if not held and self.parent is not None:
            self.parent._add_to_direct(1)
        others = [each for each in held if each is not replaced]
        self.records = tuple(sorted((*others, record), key=Record.order)) if others else (record,)
        return replaced

    def leave(self, key: bytes) -> Record | None:
        """Takes a record away from here; the record, where there was one."""
        gone = next((held for held in self.records if held.key == key), None)
        if gone is not None:
            self.records = tuple(held for held in self.records if held is not gone)
            self._add_to_count(-1)
            if not self.records and self.parent is not None:
                self.parent._add_to_direct(-1)
        return gone

    def _add_to_count(self, change: int) -> None:
        at: Branch | None = self
        while at is not None:
            at.count += change
            at = at.parent

    def _add_to_direct(self, change: int) -> None:
        """A child has its first record, or lost its last."""
        self.direct += change
        if self.direct == (change > 0):
            at: Branch | None = self
            while at is not None:
                at.services += change
                at = at.parent

    def path(self) -> Path:
        """The labels from the root down, the same objects as the branches have."""
        labels = []
        at = self
        while at.parent is not None:
            labels.append(at.label)
            at = at.parent
        return tuple(reversed(labels))

    def unlink(self) -> None:
        assert self.parent is not None
        del self.parent.children[self.label]
        if self.parent._order is not None:
            order = self.parent._order
            del order[bisect_left(order, self.label)]


def _walk(stack: list[Iterator[Branch]]) -> Iterator[Record]:
    """The records of these branches and all below them, the last iterator's first."""
    while stack:
        for branch in stack[-1]:
            yield from branch.records
            if branch.children:
                stack.append(branch.each())
                break
        else:
            stack.pop()

"""The view: everything registered, in memory, as a tree of names.

Owns what is in the tree (`tree`) and its versions. Fed by `feed` with whole revisions (`restore`, then `apply`), read
by DNS through `dns.source` and by the API. Pure: a batch is applied between two questions, so each sees one revision.
Two rules make cached answers cheap to check: a change moves the `version` of every branch from the name up to the
root, before any branch is unlinked; and a reload is applied as a diff, so what did not change stays.
A name that lost all its services stays linked, empty, for its zone's `negative_grace` (a ghost): it is NODATA.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from discovery import names
from discovery.kv.contract import KV, Event
from discovery.names import Path
from discovery.service import Service
from discovery.tree import Branch, Copy, Record

__all__ = ["Record", "View"]


UNKNOWN = -1  # a lease's TTL that nobody has told yet


LiveNodes = tuple[tuple[bytes, tuple[bytes, ...]], ...]  # the name and the addresses of each


class Standing(msgspec.Struct, frozen=True):
    """What a view knows beside its records. `ghosts`: empty names that stay, each until its time."""

    revision: int
    ready: bool
    stale: bool
    serials: Sequence[tuple[Path, int]]
    ghosts: Sequence[tuple[Path, float]]
    lease_ttls: Mapping[int, int]
    nodes: LiveNodes


class View:
    """`grace_of` gives the seconds that a name which lost its services stays; `apexes` are the zones with serials.

    `reverse` are the apexes whose addresses are answered by themselves; without any no address index is kept.
    """

    def __init__(
        self,
        prefix: str,
        *,
        apexes: Iterable[Path],
        reverse: Iterable[Path] = (),
        grace_of: Callable[[Path], float],
    ) -> None:
        self._prefix = prefix
        self._grace_of = grace_of
        self._reverse = tuple(reverse)
        self._serials = dict.fromkeys((*apexes, *self._reverse), 0)
        self._moves = 0
        self._ghosts: list[tuple[float, int, Branch]] = []
        self._foreign: dict[int, dict[bytes, Record]] = {}
        self._lease_ttls: dict[int, int] = {}
        self._tags: dict[str, int] = {}  # each with the number of records that carry it
        self._ports: dict[str, int] = {}
        self.root = Branch(b"", None)
        self.addresses = Branch(b"", None)  # the same records by their reverse names, for zones in `reverse`
        self.epoch = Branch(b"", None)
        self.ready = False
        self.stale = False
        self.nodes: LiveNodes = ()
        self.revision = 0
        self.unreadable: dict[bytes, str] = {}  # key -> reason; keys that are no names among them
        self.expected: dict[bytes, tuple[bytes, Service]] = {}  # what this node writes, and what that says
        self.newly_unreadable: list[tuple[bytes, str]] = []  # for the feed to log and clear
        self.unknown_leases: set[int] = set()  # foreign leases whose granted TTL nobody has told yet

    # ------------------------------------------------------------ reading

    def find(self, path: Path) -> Branch | None:
        branch = self.root
        for label in path:
            found = branch.children.get(label)
            if found is None:
                return None
            branch = found
        return branch

    def record(self, path: Path) -> Record | None:
        """The record at exactly that name; of keys that differ only in case the lower-case one, else the first."""
        branch = self.find(path)
        if branch is None or not branch.records:
            return None
        if len(branch.records) == 1:
            return branch.records[0]
        key = names.key_of(path, self._prefix)
        return next((record for record in branch.records if record.key == key), branch.records[0])

    def services(self, apex: Path) -> Iterator[tuple[Path, int]]:
        """Every name below (or at) `apex` that has records directly below it, with their number, in key order."""
        top = self.find(apex)
        stack = [(apex, top)] if top is not None else []
        while stack:
            path, branch = stack.pop()
            if branch.direct:
                yield path, sum(len(child.records) for child in branch.children.values())
            # Instances themselves, which are most, are not looked at.
            if branch.services > (branch.direct > 0):
                below = [child for child in branch.ordered() if child.services]
                stack.extend(((*path, child.label), child) for child in reversed(below))

    def has_tag(self, tag: str) -> bool:
        return tag in self._tags

    def has_port(self, name: str) -> bool:
        return name in self._ports

    def serial(self, apex: Path) -> int:
        return self._serials[apex]

    # ------------------------------------------------------------ being fed

    def restore(
        self, kvs: Iterable[KV], revision: int, now: float, changes: list[Event] | None = None
    ) -> None:
        """The whole state at `revision`, applied as a diff to what is held. Marks the view ready.

        `changes` is given what differed, as events of `revision`.
        """
        held = {record.key: record for record in self.root.walk()}
        unnamed = {key for key in self.unreadable if key not in held}
        for kv in kvs:
            path = names.path_of(kv.key, self._prefix)
            old = held.pop(kv.key, None)
            if path is None:
                unnamed.discard(kv.key)
                self._unnamed(kv)
                continue
            new = Record(path, kv)
            if old is None or not old.same(new):
                self._put(new, revision)
                if changes is not None:
                    changes.append(Event(kv))
        for key in unnamed:
            del self.unreadable[key]
        for record in held.values():
            self._delete(record.key, record.path, revision, now)
            if changes is not None:
                changes.append(Event(KV(record.key, b"", 0, revision, 0), deleted=True))
        self.settle(revision)

    def settle(self, revision: int) -> None:
        """What is held is the whole state at `revision`."""
        for apex in self._serials:
            self._serials[apex] = max(self._serials[apex], revision)
        self.revision = revision
        self.ready = True
        self.new_epoch()  # the zones' serials moved, whatever else did

    def apply(self, events: Iterable[Event], revision: int, now: float) -> None:
        """One whole revision."""
        for event in events:
            kv = event.kv
            path = names.path_of(kv.key, self._prefix)
            if path is not None:
                if event.deleted:
                    self._delete(kv.key, path, revision, now)
                else:
                    known = self.expected.get(kv.key)
                    said = known[1] if known is not None and known[0] == kv.value else None
                    self._put(Record(path, kv, said), revision)
            elif event.deleted:
                self.unreadable.pop(kv.key, None)
            else:
                self._unnamed(kv)
        self.revision = revision

    def sweep(self, now: float) -> float | None:
        """Unlinks the ghosts whose grace has ended; when the next one ends, or None."""
        while self._ghosts and self._ghosts[0][0] <= now:
            _, _, branch = heapq.heappop(self._ghosts)
            if branch.ghost_until <= now:
                self._prune(branch, now)
        return self._ghosts[0][0] if self._ghosts else None

    def learn_lease(self, lease: int, ttl: int) -> None:
        """The granted TTL of a lease whose records don't carry it."""
        self.unknown_leases.discard(lease)
        self._lease_ttls[lease] = ttl
        for record in self._foreign.get(lease, {}).values():
            record.lease_ttl = ttl
            self._move(self.root.grow(record.path))
            if record.address is not None and self._reverse:
                self._move(self.addresses.grow(names.reverse_path(record.address)))

    def set_nodes(self, nodes: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> None:
        """The live nodes of the cluster: name and addresses of each."""
        told = tuple(nodes)
        if told != self.nodes:
            self.nodes = told
            self.new_epoch()

    # ------------------------------------------------------------ copies in other processes

    def standing(self) -> Standing:
        ghosts = {id(branch): (branch.path(), branch.ghost_until) for _, _, branch in self._ghosts}
        return Standing(
            self.revision,
            self.ready,
            self.stale,
            list(self._serials.items()),
            list(ghosts.values()),
            dict(self._lease_ttls),
            self.nodes,
        )

    def copy_records(self, copies: Iterable[Copy]) -> None:
        """Enters records of another view, to which `stand` then adds the rest.

        Before this view is ready nothing is answered from it, so no version moves: a third of the time of a large load.
        """
        for copy in copies:
            path = names.path_of(copy.key, self._prefix)
            if path is None:
                continue
            record = Record.copied(path, copy)
            if self.ready:
                self._put(record, 0)
                continue
            replaced = self.root.grow(path).enter(record)
            self._hold(record, 0)
            if replaced is not None:
                self._forget(replaced, 0)

    def stand(self, standing: Standing) -> None:
        """Takes over what another view knows beside its records, all of which are held."""
        for lease, ttl in standing.lease_ttls.items():
            self.learn_lease(lease, ttl)
        for path, until in standing.ghosts:
            branch = self.root.grow(path)
            self._move(branch)
            branch.ghost_until = until
            heapq.heappush(self._ghosts, (until, self._moves, branch))
        self._serials.update(standing.serials)
        self.revision = standing.revision
        self.ready, self.stale = standing.ready, standing.stale
        self.nodes = standing.nodes
        self.new_epoch()

    # ------------------------------------------------------------ versions

    def new_epoch(self) -> None:
        """Makes every cached answer stale: readiness, staleness, configuration or live nodes changed."""
        self.epoch.version += 1

    # ------------------------------------------------------------ the tree

    def _unnamed(self, kv: KV) -> None:
        self._unread(
            kv.key, "the key is no domain name: a part is empty or over 63 bytes, or all are over 255"
        )

    def _unread(self, key: bytes, reason: str) -> None:
        if self.unreadable.get(key) != reason:
            self.unreadable[key] = reason
            self.newly_unreadable.append((key, reason))

    def _move(self, branch: Branch) -> None:
        """Moves the versions from `branch` up to the root."""
        self._moves += 1
        at: Branch | None = branch
        while at is not None:
            at.version = self._moves
            at = at.parent

    def _put(self, record: Record, revision: int) -> None:
        branch = self.root.grow(record.path)
        replaced = branch.enter(record)
        # Equal, but its labels are the tree's: a third of a record's memory.
        record.path = branch.path() if replaced is None else replaced.path
        self._hold(record, revision)
        if replaced is not None:
            self._forget(replaced, revision)
        self._touch_zones(record.path, revision)
        self._move(branch)

    def _delete(self, key: bytes, path: Path, revision: int, now: float) -> None:
        branch = self.find(path)
        gone = branch.leave(key) if branch is not None else None
        if branch is None or gone is None:
            return
        self._forget(gone, revision)
        self.unreadable.pop(key, None)
        self._touch_zones(path, revision)
        self._move(branch)
        if not branch.records:
            grace = self._grace_of(path)
            branch.ghost_until = now + grace
            if grace > 0:
                heapq.heappush(self._ghosts, (branch.ghost_until, self._moves, branch))
            else:
                self._prune(branch, now)

    def _prune(self, branch: Branch, now: float) -> None:
        """Unlinks an empty branch whose grace is over, and those above it that existed by it alone."""
        at = branch
        while at.parent is not None and not at.records and not at.children and at.ghost_until <= now:
            if at.parent.children.get(at.label) is not at:
                return
            self._move(at)
            at.unlink()
            at = at.parent

    def _hold(self, record: Record, revision: int) -> None:
        """Enters a record into everything but the tree; it may be there already under its key."""
        if record.reason:
            self._unread(record.key, record.reason)
        else:
            self.unreadable.pop(record.key, None)
        if record.fields is not None and (record.fields.tags or record.fields.ports):
            self._count(record.fields, 1)
        if record.lease and not record.lease_ttl:
            self._foreign.setdefault(record.lease, {})[record.key] = record
            record.lease_ttl = self._lease_ttls.get(record.lease, UNKNOWN)
            if record.lease_ttl == UNKNOWN:
                self.unknown_leases.add(record.lease)
        if record.address is not None and self._reverse:
            path = names.reverse_path(record.address)
            branch = self.addresses.grow(path)
            branch.enter(record)
            self._move(branch)
            self._touch_reverse(path, revision)

    def _forget(self, record: Record, revision: int) -> None:
        """Takes a record out of everything but the tree, where nothing newer stands under its key."""
        if record.fields is not None and (record.fields.tags or record.fields.ports):
            self._count(record.fields, -1)
        held = self._foreign.get(record.lease, {})
        if held.get(record.key) is record:
            del held[record.key]
            if not held:
                del self._foreign[record.lease]
                self._lease_ttls.pop(record.lease, None)
                self.unknown_leases.discard(record.lease)
        if record.address is not None and self._reverse:
            path = names.reverse_path(record.address)
            branch = self.addresses.grow(path)
            if record in branch.records:
                branch.leave(record.key)
                self._move(branch)
                if not branch.records:
                    self._prune(branch, 0.0)
            self._touch_reverse(path, revision)

    def _count(self, fields: Service, change: int) -> None:
        """A record with these tags and ports came (1) or went (-1)."""
        for counts, words in ((self._tags, fields.tags), (self._ports, fields.ports)):
            for word in words:
                counts[word] = counts.get(word, 0) + change
                if not counts[word]:
                    del counts[word]

    def _touch_zones(self, path: Path, revision: int) -> None:
        for apex, serial in self._serials.items():
            if serial < revision and path[: len(apex)] == apex:
                self._serials[apex] = revision

    def _touch_reverse(self, path: Path, revision: int) -> None:
        for apex in self._reverse:
            if path[: len(apex)] == apex:
                self._serials[apex] = max(self._serials[apex], revision)

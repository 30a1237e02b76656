"""A member's data made anew: from a snapshot, or from what one survivor of a lost quorum holds.

Owns the way back. The data that is there is only read, and in the end moved aside: whatever goes wrong on the way, it
is as it was. How: a survivor's data is copied and the copy started once, alone (`--force-new-cluster`), on loopback,
where its whole log is applied; from there on it is a snapshot like any other. A snapshot is unpacked by etcd's own
tool as a new cluster of one with an id of its own, so that members of the old one can't take part by mistake; it is
started once, alone, gives up its history and raises the revision base, so that no revision goes backwards.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from discovery.errors import ConfigError, Conflict, StoreError
from discovery.kv.contract import Corrupt, InvalidRequest, NoSpace, Unavailable
from discovery.kv.etcd_admin import give_room
from discovery.kv.etcd_endpoints import Access, Endpoints
from discovery.kv.etcd_history import History
from discovery.kv.etcd_snapshot import write_snapshot
from discovery.kv.member_files import MemberFiles
from discovery.kv.member_peers import ask_peers, tls_context
from discovery.kv.member_plan import Identity, MemberSettings, Version, flags, judge_version
from discovery.kv.member_ports import free_port
from discovery.kv.member_process import EtcdProcess, find_binary, version_said
from discovery.kv.snapshot import BUMP

log = logging.getLogger(__name__)

ALONE_LIMIT = 600.0  # seconds for a member to read its data
LOOK_EVERY = 0.1  # seconds
COPY, COPY_SNAPSHOT, UNPACKED = "recovery-copy", "recovery.db", "recovery-data"

Tell = Callable[[str], None]


class Recovered(NamedTuple):
    """`revision` is the store's now; `aside` where the data lie that were there before."""

    revision: int
    aside: Path | None


async def restore_member(
    directory: Path,
    settings: MemberSettings,
    snapshot: Path,
    tell: Tell,
    *,
    clock: Callable[[], float] = time.time,
) -> Recovered:
    """The snapshot as a new cluster of this one member, below `directory` (`store.path`), which holds no member yet.

    `tell` is told each step; `clock` is the Unix time in seconds. Raises ConfigError, InvalidRequest (no snapshot),
    Conflict (a member is there), Corrupt, NoSpace, Unavailable.
    """
    recovery = await _Recovery.of(directory, settings, tell, clock)
    try:
        if recovery.files.has_data() or recovery.files.identity() is not None:
            raise Conflict(
                f"{recovery.files.folder} belongs to a member already: `discovery cluster recover --from {snapshot}` "
                "replaces its data, and keeps the old beside"
            )
        return await recovery.from_snapshot(snapshot)
    finally:
        recovery.close()


async def recover_member(
    directory: Path,
    settings: MemberSettings,
    snapshot: Path | None,
    tell: Tell,
    *,
    clock: Callable[[], float] = time.time,
) -> Recovered:
    """As `restore_member`, where a member is: from the snapshot, or from its own data when that is None."""
    recovery = await _Recovery.of(directory, settings, tell, clock)
    try:
        await recovery.check_others()
        if snapshot is not None:
            return await recovery.from_snapshot(snapshot)
        return await recovery.from_own()
    finally:
        recovery.close()


class _Recovery:
    """One way back. Holds the folder from `of` to `close`."""

    def __init__(
        self,
        files: MemberFiles,
        settings: MemberSettings,
        binary: str,
        version: Version,
        tell: Tell,
        clock: Callable[[], float],
    ) -> None:
        self.files = files
        self._settings = settings
        self._binary = binary
        self._version = version
        self._tell = tell
        self._clock = clock

    @classmethod
    async def of(
        cls, directory: Path, settings: MemberSettings, tell: Tell, clock: Callable[[], float]
    ) -> _Recovery:
        if settings.join:
            raise ConfigError(
                "store.member.join: a member that begins a cluster anew joins none: leave it out here; the others join "
                "this one",
                field="store.member.join",
            )
        binary = find_binary(settings.binary)
        version, _ = judge_version(await version_said(binary), binary)
        recovery = cls(MemberFiles(directory), settings, binary, version, tell, clock)
        recovery._clear()  # of one that was cut off
        return recovery

    def close(self) -> None:
        self._clear()
        self.files.close()

    def _clear(self) -> None:
        for name in (COPY, UNPACKED):
            shutil.rmtree(self.files.folder / name, ignore_errors=True)
        (self.files.folder / COPY_SNAPSHOT).unlink(missing_ok=True)

    async def check_others(self) -> None:
        """Raises Conflict when a member of the old cluster runs: what it goes on with would be lost, or split."""
        held = self.files.identity()
        urls = {*self._settings.initial_cluster.values(), *(held.others if held else ())}
        for peer in await ask_peers(sorted(urls - {self._settings.peer}), tls_context(self._settings)):
            if not peer.error:
                raise Conflict(
                    f"the member at {peer.url} runs: with a quorum nothing is lost, so move {self.files.folder} away "
                    "and set store.member.join; without one, stop its node first"
                )

    def _set_aside(self) -> str:
        """Where one that was cut off between two renames has left the data, for a sentence."""
        found = sorted(self.files.folder.glob("data-*"))
        return f" ({found[-1].name} there does: name it data to go on with that)" if found else ""

    async def from_own(self) -> Recovered:
        files = self.files
        held = files.identity()
        if held is None or not files.has_data():
            raise InvalidRequest(
                f"{files.folder} holds no member's data{self._set_aside()}: name a snapshot with --from, or go to a "
                "machine that has some"
            )
        if files.is_removed():
            raise Conflict(
                f"the cluster had removed this member, its data in {files.folder} is out of date: name a snapshot with "
                "--from, or go to another member"
            )
        await asyncio.to_thread(self._check_unused_and_room)
        self._tell("copying the data")
        copy, snapshot = files.folder / COPY, files.folder / COPY_SNAPSHOT
        try:
            await asyncio.to_thread(shutil.copytree, files.data, copy)
        except OSError as error:
            raise NoSpace(f"{copy} can't be written ({error.strerror}): make room") from None
        self._tell("reading its log")
        async with self._alone(held, copy, force_new=True) as endpoints:
            await write_snapshot(endpoints, snapshot)
        await asyncio.to_thread(shutil.rmtree, copy)
        return await self.from_snapshot(snapshot)

    async def from_snapshot(self, snapshot: Path) -> Recovered:
        held = self.files.identity()
        name = held.name if held is not None else self._settings.name
        peer = self._settings.peer
        identity = Identity(
            name, peer, {name: peer}, token=f"discovery-{secrets.token_hex(6)}", state="existing"
        )
        unpacked = self.files.folder / UNPACKED
        self._tell("unpacking")
        await self._unpack(snapshot, unpacked, identity)
        self._tell("trying it")
        async with self._alone(identity, unpacked) as endpoints:
            await give_room(endpoints)
            history = History(endpoints, lambda: None)
            least = max(await history.look() + BUMP, int(self._clock() * 1_000_000))
            await history.advance(least)
            revision = await history.look()
            cluster_id = history.cluster_id
        moved = time.strftime("data-%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        identity = msgspec.structs.replace(identity, cluster_id=cluster_id)
        aside = await asyncio.to_thread(self.files.replace_data, unpacked, identity, moved)
        return Recovered(revision, aside)

    def _check_unused_and_room(self) -> None:
        size = sum(file.stat().st_size for file in self.files.data.rglob("*") if file.is_file())
        database = self.files.data / "member" / "snap" / "db"
        free = shutil.disk_usage(self.files.folder).free
        if free < 3 * size:
            raise NoSpace(
                f"{self.files.folder} needs {3 * size / 1e6:.0f} MB beside the data that is there, and has "
                f"{free / 1e6:.0f} MB: make room, since nothing is changed in place"
            )
        if not database.exists():
            raise Corrupt(f"{database} is missing: name a snapshot with --from, or go to another member")
        with database.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as etcd's own database holds it
            except OSError:
                raise ConfigError(
                    f"an etcd still runs on {self.files.data}: end it first", field="store.path"
                ) from None

    # ---------------------------------------------------------------- etcd's own programs

    @asynccontextmanager
    async def _alone(
        self, identity: Identity, data: Path, *, force_new: bool = False
    ) -> AsyncIterator[Endpoints]:
        """The data served on loopback ports of its own, without TLS, to nobody but us."""
        client, peer, probe = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        settings = msgspec.structs.replace(self._settings, client=client, peer=peer, cert="", key="", ca="")
        words = flags(settings, identity, self._version, data=str(data), probe=probe, force_new=force_new)
        process = EtcdProcess(lambda: [self._binary, *words])
        endpoints = Endpoints(Access([client]))
        await process.start()
        try:
            await self._until_it_serves(process, endpoints)
            yield endpoints
        finally:
            await endpoints.close()
            await process.stop()

    async def _until_it_serves(self, process: EtcdProcess, endpoints: Endpoints) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + ALONE_LIMIT
        while True:
            try:
                await History(endpoints, lambda: None).look()
                return
            except StoreError as error:
                if process.ended.is_set():
                    raise Corrupt(
                        f"etcd can't use the data in {self.files.folder}: {process.last_words}; name a snapshot with "
                        "--from, or go to another member"
                    ) from None
                if loop.time() > end:
                    raise Unavailable(
                        f"etcd does not serve after {ALONE_LIMIT:.0f} s: {error.detail}"
                    ) from None
                await asyncio.sleep(LOOK_EVERY)

    async def _unpack(self, snapshot: Path, target: Path, identity: Identity) -> None:
        check_snapshot(snapshot)
        tool = find_restorer(self._binary, self._version)
        words = ["--name", identity.name, "--initial-cluster", f"{identity.name}={identity.peer}"]
        words += ["--initial-advertise-peer-urls", identity.peer, "--initial-cluster-token", identity.token]
        environment = {name: text for name, text in os.environ.items() if not name.startswith("ETCD")}
        child = await asyncio.create_subprocess_exec(
            *(tool, "snapshot", "restore", str(snapshot), "--data-dir", str(target), *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment | {"ETCDCTL_API": "3"},
        )
        _, said = await child.communicate()
        if child.returncode:
            last = said.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("Error: ")
            raise Corrupt(f"{snapshot} is not a whole snapshot ({last}): take another one")


def check_snapshot(file: Path) -> None:
    """Raises InvalidRequest when there is none, or one of another engine. Blocks for a moment."""
    try:
        with file.open("rb") as opened:
            begin = opened.read(16)
    except OSError as error:
        raise InvalidRequest(
            f"the snapshot {file} can't be read ({error.strerror}): name a file that a snapshot was written to"
        ) from None
    if begin == b"SQLite format 3\0":
        raise InvalidRequest(
            f"{file} is a snapshot of an embedded store: `discovery store restore` takes it, and "
            "`discovery cluster init` then moves it into a cluster"
        )


def find_restorer(binary: str, version: Version) -> str:
    """etcd's tool that unpacks snapshots, beside `binary` or on PATH. Raises ConfigError."""
    names: Sequence[str] = ("etcdctl",)
    if version >= (3, 5, 0):
        names = ("etcdutl",) if version >= (3, 6, 0) else ("etcdutl", "etcdctl")
    for name in names:
        found = shutil.which(name, path=str(Path(binary).parent)) or shutil.which(name)
        if found is not None:
            return found
    raise ConfigError(
        f"there is no program {names[0]}, which unpacks snapshots: install it beside etcd (Debian: etcd-client)"
    )

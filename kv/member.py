"""A managed etcd member: begun, joined, kept running, and found out about when the cluster removes it.

Owns the order of things from a configuration to a member that runs, and what is said of its trouble. It never serves
the store's calls: `kv.etcd` does, on this member's client URL. Settings, versions and flags are judged in
`member_plan`, who it is in `member_identity`; `member_process` keeps the etcd running, `member_certificates` looks
at TLS.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec

from discovery.errors import ConfigError, DiscoveryError, StoreError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.etcd_admin import list_members, promote_member
from discovery.kv.etcd_endpoints import STATUS, Access, Endpoints, Refused
from discovery.kv.member_certificates import CertificateWatch, check_certificates
from discovery.kv.member_files import MemberFiles, votes
from discovery.kv.member_identity import identity_of
from discovery.kv.member_peers import ask_peers, tls_context
from discovery.kv.member_plan import (
    Identity,
    MemberSettings,
    check_settings,
    flags,
    judge_version,
)
from discovery.kv.member_ports import FORMER_LIFE, free_port, until_free, with_address
from discovery.kv.member_process import EtcdProcess, find_binary, version_said
from discovery.kv.member_verdicts import waits_for

log = logging.getLogger(__name__)

START_LIMIT = 5.0  # seconds that a start waits for a member that serves
PROMOTE_EVERY = 1.0  # seconds
LOOK_EVERY = 2.0  # seconds
TELL_EVERY = 30.0  # seconds between two lines about a trouble


class EtcdMember:
    """`directory` is `store.path`. Raises ConfigError when the settings or the certificates do not fit. Blocks."""

    def __init__(self, directory: Path, settings: MemberSettings) -> None:
        check_settings(settings)
        ends = check_certificates(settings, datetime.datetime.now(datetime.UTC))
        self._directory = directory
        self._settings = settings
        self._files: MemberFiles | None = None
        self._process: EtcdProcess | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._binary, self._version, self._probe = settings.binary, (0, 0, 0), ""
        self._told = float("-inf")
        self._is_told = False  # of the trouble
        self._noting = asyncio.Lock()
        self._certificates = CertificateWatch(settings, ends)
        self.trouble = ""  # one sentence while the member does not serve

    def access(self) -> Access:
        """How the store reaches the cluster: this member first. The others are learned from it, or, as long as it does
        not vote, from the one that it joins."""
        mine = self._settings
        urls = [mine.client]
        if mine.join and mine.join != mine.client and not votes(self._directory):
            urls.append(mine.join)
        return Access(urls, cert=mine.cert, key=mine.key, ca=mine.ca, nearest_first=True)

    @property
    def pid(self) -> int:
        """The child's; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def certificates(self) -> Mapping[str, float]:
        """When each certificate ends, by its setting: seconds since the epoch. Nothing without TLS."""
        return {setting: end.timestamp() for setting, end in self._certificates.ends.items()}

    async def open(self) -> None:
        """All that can be refused at once, without the other members. Raises ConfigError."""
        mine = self._settings
        self._binary = find_binary(mine.binary)
        self._version, warning = judge_version(await version_said(self._binary), self._binary)
        if warning:
            log.warning("%s", warning)
        files = self._files = await asyncio.to_thread(MemberFiles, self._directory)
        if files.is_removed():
            raise ConfigError(f"store.path: {_removed(files)}", field="store.path")
        if files.identity() is None:
            await until_free(mine.client, mine.peer)

    async def start(self) -> None:
        """Returns when the member serves, or after START_LIMIT when others must come first. Raises ConfigError.

        What was opened is closed then.
        """
        try:
            if self._files is None:
                await self.open()
            assert self._files is not None
            await self._start(self._files)
        except BaseException:
            await self.close()
            raise

    async def _start(self, files: MemberFiles) -> None:
        mine = self._settings
        await until_free(mine.client, mine.peer, FORMER_LIFE if files.identity() is not None else 0.0)
        identity = await identity_of(files, mine)
        listen = with_address(mine.client), with_address(mine.peer)  # once: names may be out of reach later

        def command() -> Sequence[str]:
            self._probe = f"http://127.0.0.1:{free_port()}"
            words = flags(
                mine, identity, self._version, data=str(files.data), probe=self._probe, listen=listen
            )
            return [self._binary, *words]

        process = self._process = EtcdProcess(command)
        await process.start()
        await self._until_it_serves(files, process)
        self._tasks = [
            asyncio.create_task(self._watch_removal(files, process), name="member-removal"),
            asyncio.create_task(self._watch_health(files), name="member-health"),
        ]
        if identity.learner:
            self._tasks.append(asyncio.create_task(self._promote(files, identity), name="member-promote"))
        if mine.cert:
            self._tasks.append(asyncio.create_task(self._certificates.run(), name="member-certificates"))

    async def close(self) -> None:
        """Ends the child in its own way. Closing twice is allowed."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._process is not None:
            await self._process.stop()
        if self._files is not None:
            self._files.close()
            self._files = None

    # ---------------------------------------------------------------- how it is

    async def _promote(self, files: MemberFiles, identity: Identity) -> None:
        """Asks until this member may vote: etcd refuses for as long as it has not caught up, or others are away."""
        endpoints = Endpoints(self.access())
        loop = asyncio.get_running_loop()
        told = loop.time()
        try:
            while True:
                await asyncio.sleep(PROMOTE_EVERY)
                try:
                    members = await list_members(endpoints)
                    endpoints.follow(url for each in members for url in each.clientURLs)
                    ours = next((each for each in members if self._settings.peer in each.peerURLs), None)
                    if ours is None:
                        continue  # removed: the watch on that says so
                    if ours.isLearner:
                        await promote_member(endpoints, ours)
                    await self._note(files, learner=False)
                    log.info("this member votes now")
                    return
                except (StoreError, OSError) as error:
                    if loop.time() - told >= TELL_EVERY:
                        told = loop.time()
                        log.warning("this member does not vote yet: %s", error)
        finally:
            await endpoints.close()

    async def _until_it_serves(self, files: MemberFiles, process: EtcdProcess) -> None:
        """Raises ConfigError when it ends at once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + START_LIMIT
        while loop.time() < end:
            if process.removed.is_set():
                await asyncio.to_thread(files.mark_removed)
                raise ConfigError(f"store.path: {_removed(files)}", field="store.path")
            if process.ended.is_set():
                raise ConfigError(f"etcd ended at once: {process.last_words}", field="store.member")
            if await self._is_healthy():
                return
            await asyncio.sleep(0.05)
        self.trouble = await self._complaint()
        self._tell()

    async def _is_healthy(self) -> bool:
        """It has a leader and no alarm, by its own word."""
        limit = aiohttp.ClientTimeout(LOOK_EVERY)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"{self._probe}/health") as answer,
            ):
                return b'"true"' in await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _complaint(self) -> str:
        """What is wrong with a member that is not healthy."""
        mine = self._settings
        if not self.pid:
            return "the member does not run: its last words are in the log"
        endpoints = Endpoints(Access([mine.client], cert=mine.cert, key=mine.key, ca=mine.ca))
        try:
            status = await endpoints.once(endpoints.current, STATUS, wire.StatusRequest())
        except Refused:
            status = wire.StatusResponse()
        finally:
            await endpoints.close()
        alarms = [each for each in status.errors if "no leader" not in each]
        if status.leader and alarms:
            return f"the member takes no writes: {', '.join(alarms)}"
        held = self._files.identity() if self._files is not None else None
        listed = held.others if held is not None else ()
        own, *others = await ask_peers([mine.peer, *listed], tls_context(mine))
        return f"the member does not serve: {waits_for(own, others)}"

    async def _watch_health(self, files: MemberFiles) -> None:
        """Tells when the member stops and begins to serve, and notes which cluster it is and who is in it."""
        while True:
            try:
                if await self._is_healthy():
                    if self._is_told:
                        log.info("the member serves again")
                    self.trouble, self._is_told = "", False
                    await self._note_cluster(files)
                else:
                    self.trouble = await self._complaint()
                    self._tell()
            except (
                DiscoveryError,
                OSError,
            ) as error:  # a certificate that is just being written, a disk that is full
                self.trouble = f"how the member is can't be found out: {error}"
                self._tell()
            await asyncio.sleep(LOOK_EVERY)

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told >= TELL_EVERY:
            self._told, self._is_told = now, True
            log.warning("%s", self.trouble)

    async def _note_cluster(self, files: MemberFiles) -> None:
        (peer,) = await ask_peers([self._settings.peer], tls_context(self._settings))
        if peer.cluster_id:
            peers = tuple(sorted(url for each in peer.members for url in each.peerURLs))
            await self._note(files, cluster_id=peer.cluster_id, peers=peers)

    async def _note(self, files: MemberFiles, **changes: object) -> None:
        """Changes fields of the identity on disk, one caller at a time. Raises ConfigError, OSError."""
        async with self._noting:
            held = files.identity()
            if held is not None and any(getattr(held, name) != value for name, value in changes.items()):
                await asyncio.to_thread(files.write_identity, msgspec.structs.replace(held, **changes))

    async def _watch_removal(self, files: MemberFiles, process: EtcdProcess) -> None:
        await process.removed.wait()
        for task in self._tasks:
            if task is not asyncio.current_task() and task.get_name() != "member-certificates":
                task.cancel()
        self.trouble = _removed(files)
        log.error("%s", self.trouble)
        try:
            await asyncio.to_thread(files.mark_removed)
        except OSError as error:
            log.error("that can't be noted for the next start, which etcd will refuse: %s", error)


def _removed(files: MemberFiles) -> str:
    return (
        f"the cluster has removed this member, and its data in {files.folder} is worth nothing any more: "
        "move that folder away and set store.member.join to put it in anew"
    )

"""A managed etcd member: begun, joined, kept running, and found out about when the cluster removes it.

Owns the order of things from a configuration to a member that runs, and every refusal on the way: a member that is
set up wrongly must not start, since etcd would ignore some of it and damage itself by other parts (kv.md). It never
serves the store's calls: `kv.etcd` does, on this member's client URL. What is decided stands in `member_plan`,
what is on disk in `member_files`, the process in `member_process`, what other members say in `member_peers`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import socket
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec

from discovery.errors import ConfigError, StoreError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import InvalidRequest
from discovery.kv.etcd_admin import add_learner, list_members, promote_member, remove_member
from discovery.kv.etcd_endpoints import Access, Endpoints
from discovery.kv.member_files import MemberFiles
from discovery.kv.member_peers import Peer, ask_peers, tls_context
from discovery.kv.member_plan import (
    Identity,
    MemberSettings,
    Version,
    check_identity,
    check_settings,
    flags,
    judge_version,
    new_identity,
    refuse,
)
from discovery.kv.member_process import EtcdProcess, find_binary, version_said

log = logging.getLogger(__name__)

CLOCK_LIMIT = 10.0  # seconds that clocks of members may differ
PORT_LIMIT = 12.0  # seconds that an etcd of a former life may take to end
START_LIMIT = 5.0  # seconds that a start waits for a member that serves
PROMOTE_EVERY = 1.0  # seconds
TELL_EVERY = 30.0  # seconds between two lines about the same trouble


class EtcdMember:
    """`directory` is `store.path`. Raises ConfigError when the settings do not fit together."""

    def __init__(self, directory: Path, settings: MemberSettings) -> None:
        check_settings(settings)
        self._directory = directory
        self._settings = settings
        self._files: MemberFiles | None = None
        self._process: EtcdProcess | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._probe = ""

    def access(self) -> Access:
        """How the store reaches the cluster: this member first. The others are learned from it."""
        mine = self._settings
        urls = [mine.client, *([mine.join] if mine.join else [])]
        return Access(list(dict.fromkeys(urls)), cert=mine.cert, key=mine.key, ca=mine.ca, nearest_first=True)

    @property
    def pid(self) -> int:
        """The child's; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Returns when the member serves, or after START_LIMIT when others must come first. Raises ConfigError."""
        mine = self._settings
        binary = find_binary(mine.binary)
        version, warning = judge_version(await version_said(binary), binary)
        if warning:
            log.warning("%s", warning)
        files = self._files = await asyncio.to_thread(MemberFiles, self._directory)
        try:
            await self._start(files, binary, version)
        except BaseException:
            await self.close()
            raise

    async def _start(self, files: MemberFiles, binary: str, version: Version) -> None:
        if files.is_removed():
            raise ConfigError(
                f"the cluster has removed this member, its data in {files.folder} is worth nothing any more: "
                "move that folder away and set store.member.join",
                field="store.path",
            )
        await self._until_ports_are_free()
        identity = await self._identity(files)
        self._probe = f"http://127.0.0.1:{free_port()}"
        words = flags(self._settings, identity, version, data=str(files.data), probe=self._probe)
        self._process = EtcdProcess([binary, *words])
        await self._process.start()
        await self._until_it_serves(self._process)
        self._tasks = [
            asyncio.create_task(self._watch_removal(files, self._process), name="member-removal"),
            asyncio.create_task(self._watch_health(files), name="member-health"),
        ]
        if identity.learner:
            self._tasks.append(asyncio.create_task(self._promote(files, identity), name="member-promote"))

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

    # ---------------------------------------------------------------- who it is

    async def _identity(self, files: MemberFiles) -> Identity:
        """The held one, or that of a member which begins now. Raises ConfigError."""
        mine = self._settings
        held = files.identity()
        others = {
            *mine.initial_cluster.values(),
            *(held.initial_cluster.values() if held is not None else ()),
        }
        peers = await ask_peers(sorted(others - {mine.peer}), tls_context(mine))
        self._check_clock(peers)
        if held is not None and files.has_data():
            check_identity(held, mine, str(files.folder))
            self._check_cluster(held, peers, files)
            return held
        if files.has_data():
            raise ConfigError(
                f"store.path: {files.data} holds an etcd's data that was not begun here: move it away, or choose "
                "another folder",
                field="store.path",
            )
        if mine.join:
            identity = await self._join(held)
        else:
            for peer in peers:
                if any(mine.peer in each.peerURLs and each.clientURLs for each in peer.members):
                    refuse(
                        "initial_cluster",
                        f"the cluster at {peer.url} knows this member, but {files.folder} has lost its data: "
                        "set store.member.join to another member's client URL instead, and it is put in anew",
                    )
                if peer.cluster_id and not any(mine.peer in each.peerURLs for each in peer.members):
                    refuse(
                        "initial_cluster",
                        f"{peer.url} is in a cluster that does not list {mine.peer}: set store.member.join to join it",
                    )
            identity = new_identity(mine)
        await asyncio.to_thread(files.write_identity, identity)
        return identity

    def _check_clock(self, peers: Sequence[Peer]) -> None:
        for peer in peers:
            if not peer.error and abs(peer.ahead) > CLOCK_LIMIT:
                way = "behind" if peer.ahead > 0 else "ahead of"
                raise ConfigError(
                    f"this machine's clock is {abs(peer.ahead):.0f} s {way} that of the member at {peer.url}: "
                    "set the clocks (timedatectl set-ntp true) and start again"
                )

    def _check_cluster(self, held: Identity, peers: Sequence[Peer], files: MemberFiles) -> None:
        for peer in peers:
            if held.cluster_id and peer.cluster_id and peer.cluster_id != held.cluster_id:
                refuse(
                    "initial_cluster",
                    f"{peer.url} is in cluster {peer.cluster_id}, the data in {files.folder} in {held.cluster_id}: "
                    "correct the URL, or move the data away and join",
                )

    async def _join(self, held: Identity | None) -> Identity:
        """Puts this member into the cluster as a learner, unless it stands there waiting. Raises ConfigError."""
        mine = self._settings
        endpoints = Endpoints(Access([mine.join], cert=mine.cert, key=mine.key, ca=mine.ca))
        try:
            members = await list_members(endpoints)
            ours = next((each for each in members if mine.peer in each.peerURLs), None)
            if (
                ours is not None and ours.name
            ):  # it ran once; its address is free here, so it does not run now
                log.warning(
                    "member %s at %s has lost its data: it is removed and put in anew", ours.name, mine.peer
                )
                await remove_member(endpoints, ours)
                ours = None
            if ours is None:
                ours, members = await add_learner(endpoints, mine.peer)
        except StoreError as error:
            refuse("join", f"the cluster at {mine.join} can't be joined: {error.detail}")
        finally:
            await endpoints.close()
        name = held.name if held is not None else f"{mine.name}-{secrets.token_hex(2)}"
        urls = {each.name: each.peerURLs[0] for each in members if each.name and each.peerURLs}
        return Identity(
            name, mine.peer, urls | {name: mine.peer}, token="", state="existing", learner=ours.isLearner
        )

    async def _promote(self, files: MemberFiles, identity: Identity) -> None:
        """Asks until this member may vote: etcd refuses for as long as it has not caught up."""
        endpoints = Endpoints(self.access())
        told = float("-inf")
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(PROMOTE_EVERY)
                try:
                    ours = await self._listed(endpoints)
                    if ours is not None and ours.isLearner:
                        await promote_member(endpoints, ours)
                    if ours is not None:
                        held = files.identity() or identity
                        files.write_identity(msgspec.structs.replace(held, learner=False))
                        log.info("this member votes now")
                        return
                except InvalidRequest as error:
                    log.debug("not promoted yet: %s", error)
                except StoreError as error:
                    if loop.time() - told > TELL_EVERY:
                        told = loop.time()
                        log.info("this member does not vote yet: %s", error)
        finally:
            await endpoints.close()

    async def _listed(self, endpoints: Endpoints) -> wire.Member | None:
        members = await list_members(endpoints)
        return next((each for each in members if self._settings.peer in each.peerURLs), None)

    # ---------------------------------------------------------------- how it is

    async def _until_it_serves(self, process: EtcdProcess) -> None:
        """Raises ConfigError when it ends at once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + START_LIMIT
        while loop.time() < end:
            if process.ended.is_set():
                raise ConfigError(f"etcd ended at once: {process.last_words}", field="store.member")
            if not await self._trouble():
                return
            await asyncio.sleep(0.05)
        log.warning("the member does not serve yet: %s", await self._whom_it_waits_for())

    async def _trouble(self) -> str:
        """Why the member does not serve; "" when it does."""
        limit = aiohttp.ClientTimeout(2.0)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"{self._probe}/health") as answer,
            ):
                said = await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return str(error) or "it does not answer"
        return "" if '"true"' in said else said.strip()

    async def _whom_it_waits_for(self) -> str:
        mine = self._settings
        held = self._files.identity() if self._files is not None else None
        urls = [
            url for url in (held.initial_cluster.values() if held is not None else ()) if url != mine.peer
        ]
        away = [
            f"{peer.url} ({peer.error})" for peer in await ask_peers(urls, tls_context(mine)) if peer.error
        ]
        return f"it waits for {', '.join(away)}" if away else "it has no quorum, or no leader yet"

    async def _watch_health(self, files: MemberFiles) -> None:
        """Tells when the member stops and begins to serve, and notes once to which cluster the data belongs."""
        told: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            trouble = await self._trouble()
            if not trouble:
                if told is not None:
                    log.info("the member serves again")
                told = None
                await self._note_cluster(files)
            elif told is None or loop.time() - told > TELL_EVERY:
                told = loop.time()
                log.warning("the member does not serve (%s): %s", trouble, await self._whom_it_waits_for())
            await asyncio.sleep(2.0)

    async def _note_cluster(self, files: MemberFiles) -> None:
        held = files.identity()
        if held is None or held.cluster_id:
            return
        (peer,) = await ask_peers([self._settings.peer], tls_context(self._settings))
        if peer.cluster_id:
            files.write_identity(msgspec.structs.replace(held, cluster_id=peer.cluster_id))

    async def _watch_removal(self, files: MemberFiles, process: EtcdProcess) -> None:
        await process.removed.wait()
        await asyncio.to_thread(files.mark_removed)

    # ---------------------------------------------------------------- ports

    async def _until_ports_are_free(self) -> None:
        """Raises ConfigError when another program has them for longer than an etcd takes to end."""
        end = asyncio.get_running_loop().time() + PORT_LIMIT
        for name in ("client", "peer"):
            while (complaint := _port_trouble(name, getattr(self._settings, name))) is not None:
                held = self._files.identity() if self._files is not None else None
                if held is None or asyncio.get_running_loop().time() > end:  # never ran here: it is not ours
                    raise complaint
                await asyncio.sleep(0.2)


def _port_trouble(setting: str, url: str) -> ConfigError | None:
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as error:
        what = (
            f"{host} is no name that this machine knows ({error.strerror}): write an address of this machine"
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"{host}:{port} is taken by another program (Debian's etcd service?): stop it, or use another port"
        elif error.errno == errno.EADDRNOTAVAIL:
            what = f"{host} is no address of this machine: write one of `ip address`"
        else:
            what = f"{host}:{port} can't be listened on: {error.strerror}"
    else:
        return None
    return ConfigError(f"store.member.{setting}: {what}", field=f"store.member.{setting}")


def free_port() -> int:
    """One of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

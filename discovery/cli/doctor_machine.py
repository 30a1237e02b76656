"""What `discovery doctor` looks at on this machine: ports, the store's disk, permissions, certificates, the clock.

Owns the looking; what it makes of what it sees is `findings`'. It changes nothing but for a file of its own beside the
store, for a moment, which the disk is timed with. No node needs to run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from discovery.cli import findings
from discovery.cli.findings import Finding
from discovery.config import Config, parse_address
from discovery.errors import ConfigError, DiscoveryError

FSYNCS = 20
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
CHECKED_STORE = 200 << 20  # bytes: a larger one takes too long to look at here


def ports(config: Config) -> Iterator[Finding]:
    """Whether each address can be listened on, or who has it."""
    wanted = [("dns.listen", text, kind) for text in config.dns.listen for kind in ("UDP", "TCP")]
    wanted += [("dns.tls_listen", text, "TCP") for text in config.dns.tls_listen]
    wanted += [("http.listen", text, "TCP") for text in config.http.listen]
    for setting, text, kind in wanted:
        host, port = parse_address(text)
        if port:
            yield _port(setting, host, port, kind)


def _port(setting: str, host: str, port: int, kind: str) -> Finding:
    what = f"{setting}: {host} port {port} {kind}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "UDP" else socket.SOCK_STREAM) as sock:
        if kind == "TCP":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the node does
        try:
            sock.bind((host, port))
            return Finding("ports", "ok", f"{what} is free")
        except OSError as error:
            number = error.errno
    if number == errno.EACCES:
        do = "start it with CAP_NET_BIND_SERVICE, as the systemd unit does, or use a port above 1023"
        return Finding("ports", "wrong", f"{what} may not be listened on by this user", do)
    if number == errno.EADDRNOTAVAIL:
        return Finding(
            "ports", "wrong", f"{what} is on no address of this machine", "write one of `ip address`"
        )
    if number != errno.EADDRINUSE:
        said = f"{what} can't be listened on: {os.strerror(number or 0)}"
        return Finding("ports", "wrong", said, f"set {setting} to another address")
    return taken(setting, what, _holders(port, kind))


def taken(setting: str, what: str, holders: Mapping[int, Sequence[str]]) -> Finding:
    """A port that is in use, by processes with these command lines. Several hold it where a parent has opened it,
    or where a node has workers."""
    if not holders:
        said = f"{what} is in use; by whom only root can see"
        return Finding("ports", "warning", said, "run `discovery doctor` as root, or `ss -lntup`")
    for pid, words in holders.items():
        if is_node(words):
            return Finding("ports", "ok", f"{what} is a node's (pid {pid})")
    pid = next((pid for pid in holders if pid != 1), 1)
    program = Path(holders[pid][0]).name if holders[pid] else "?"
    if pid == 1 and program in ("systemd", "init"):
        return Finding("ports", "ok", f"{what} is held by systemd for discovery.socket")
    do = f"stop it, or set {setting} to another address"
    if "systemd-resolve" in program:
        do = "listen on addresses of this machine rather than on all, or set DNSStubListener=no in resolved.conf"
    return Finding("ports", "wrong", f"{what} is taken by {program} (pid {pid})", do)


def is_node(words: Sequence[str]) -> bool:
    """Whether a process with this command line is a node of ours."""
    return "serve" in words and any(Path(word).name == "discovery" for word in words)


def _holders(port: int, kind: str) -> dict[int, list[str]]:
    """The processes that hold a port of any address, by pid from the least, and their commands; none: they can't
    be seen."""
    inodes = set()
    for family in ("", "6"):
        try:
            lines = Path(f"/proc/net/{kind.lower()}{family}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if int(columns[1].rpartition(":")[2], 16) == port and columns[3] in ("0A", "07"):
                inodes.add(f"socket:[{columns[9]}]")
    holders = {}
    for pid in sorted(int(folder.name) for folder in Path("/proc").glob("[0-9]*")):
        folder = Path(f"/proc/{pid}")
        try:
            if any(os.readlink(each) in inodes for each in (folder / "fd").iterdir()):
                holders[pid] = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
    return holders


def disk(config: Config) -> Iterator[Finding]:
    """Where the store is, or will be: its file system, the room, the time of a durable write."""
    wanted = Path(config.store.path).absolute()
    path = wanted
    while not path.exists():
        path = path.parent
    try:
        found = os.statvfs(path)
        yield findings.space(str(path), found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
        if odd := findings.file_system(str(path), _file_system(path)):
            yield odd
        if path != wanted:
            said = f"store.path: {wanted} is not there yet"
            if os.access(path, os.W_OK):
                yield Finding("disk", "ok", said)
            else:
                do = f"make it for the node's user: this one may not write {path}"
                yield Finding("disk", "wrong", said, do)
        elif not os.access(path, os.W_OK):
            do = "run this as the node's user"
            yield Finding("disk", "skipped", f"store.path: {path} can't be written by this user", do)
        else:
            yield findings.fsync(str(path), _fsyncs(path))
    except OSError as error:
        yield Finding(
            "disk", "wrong", f"{path}: {error.strerror}", "mend the disk, or set store.path to another"
        )


def _fsyncs(path: Path) -> list[float]:
    taken = []
    with tempfile.TemporaryFile(dir=path, prefix=".discovery-doctor-") as file:
        for _ in range(FSYNCS):
            file.write(bytes(4096))
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return taken


def _file_system(path: Path) -> str:
    """Its kind, as mount(8) names it; "" when it can't be told."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    for line in mounts:
        columns = line.split()
        point = columns[1].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, columns[2]
    return kind


def permissions(config: Config, token_file: str | None) -> Iterator[Finding]:
    """Who may read and write the store's folder, keys and tokens."""
    wanted = [("store.path", config.store.path, True)]
    keys = (("dns.tls", config.dns.tls), ("http.tls", config.http.tls), ("store.member", config.store.member))
    for setting, section in keys:
        wanted.append((f"{setting}.key", section.key or section.cert, True))
        wanted.append((f"{setting}.cert", section.cert, False))
    wanted.append(("the token's file", token_file or "", True))
    seen = set()
    for what, path, secret in wanted:
        if not path or path in seen:
            continue
        seen.add(path)
        try:
            yield findings.mode(what, path, stat.S_IMODE(Path(path).stat().st_mode), secret=secret)
        except FileNotFoundError:
            if what != "store.path":
                yield Finding(
                    "permissions",
                    "wrong",
                    f"{what}: there is no file {path}",
                    "copy it there, or correct the path",
                )
        except OSError as error:
            do = "run this as the node's user"
            yield Finding(
                "permissions", "skipped", f"{what}: {path} can't be looked at: {error.strerror}", do
            )


def certificates(config: Config, now: float) -> Iterator[Finding]:
    """When each ends."""
    sections = (
        ("dns.tls", config.dns.tls),
        ("http.tls", config.http.tls),
        ("store.member", config.store.member),
    )
    files = [(f"{setting}.cert", section.cert) for setting, section in sections if section.cert]
    if not files:
        return
    try:
        from cryptography import x509
    except ImportError:
        do = "install discovery-dns[etcd]"
        yield Finding(
            "certificates", "skipped", "certificates can't be read without the package cryptography", do
        )
        return
    for setting, path in files:
        try:
            ends = x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
            yield findings.certificate(setting, path, ends.timestamp() - now)
        except OSError as error:
            yield Finding(
                "certificates",
                "wrong",
                f"{setting}: {path} can't be read: {error.strerror}",
                "correct the path",
            )
        except ValueError as error:
            yield Finding(
                "certificates",
                "wrong",
                f"{setting}: {path} is no certificate in PEM: {error}",
                "copy it anew",
            )


def own_clock() -> Finding:
    """Whether the kernel says that something keeps this machine's clock."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except AttributeError:
        state = -1
    if state < 0:
        return Finding("clock", "skipped", "this machine does not say whether its clock is kept")
    if state == TIME_ERROR:
        do = "timedatectl set-ntp true; in a container it is the host's to do"
        return Finding("clock", "warning", "nothing keeps this machine's clock by NTP", do)
    return Finding("clock", "ok", "this machine's clock is kept")


def stopped_store(config: Config) -> Iterator[Finding]:
    """The embedded store of a node that does not run."""
    from discovery.kv import offline
    from discovery.kv.sqlite_file import FILE_NAME

    directory = Path(config.store.path)
    if config.store.engine != "embedded" or not (file := directory / FILE_NAME).is_file():
        return
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        yield Finding("store", "skipped", f"{directory} is open to others", "mend that first")
        return
    if file.stat().st_size > CHECKED_STORE:
        yield Finding("store", "skipped", f"{file} is large", "`discovery store check` reads all of it")
        return
    try:
        with offline.store_file(directory):
            found = offline.check(file)
        said = f"{file} is whole: {found.keys} keys, {found.leases} leases, revision {found.revision}"
        yield Finding("store", "ok", said)
    except ConfigError as error:  # another program has it open, or wrote it with a newer version
        yield Finding("store", "skipped", error.detail)
    except DiscoveryError as error:
        do = "see deploy/store.md: restore a snapshot when it is damaged"
        yield Finding("store", "wrong", error.detail, do)

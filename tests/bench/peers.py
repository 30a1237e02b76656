"""DNS servers of others with the same records, each in one process on one free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.node import wait_for

ZONE = "discovery.internal."


class Instance(NamedTuple):
    service: str
    label: str
    host: str


class Server(NamedTuple):
    name: str
    port: int
    pid: int


def zone_file(instances: Iterable[Instance], each: int) -> str:
    lines = [
        f"$ORIGIN {ZONE}",
        "$TTL 5",
        "@ SOA ns.dns hostmaster 1 3600 600 604800 2",
        "@ NS ns.dns",
        "ns.dns A 192.0.2.1",
    ]
    for service, label, host in instances:
        lines += [
            f"{service} SRV 10 {100 // each} 8080 {label}.{service}",
            f"{service} A {host}",
            f"{label}.{service} A {host}",
            f"{label}.{service} SRV 10 100 8080 {label}.{service}",
        ]
    return "\n".join(lines) + "\n"


@contextmanager
def nsd(directory: Path, zone: str) -> Iterator[Server]:
    port = free_port()
    (directory / "nsd.zone").write_text(zone)
    (directory / "nsd.conf").write_text(
        f"""server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  zonelistfile: "{directory}/zones.list"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  logfile: "{directory}/nsd.log"
  rrl-ratelimit: 0
  tcp-count: 100
  tcp-query-count: 0
remote-control:
  control-enable: no
zone:
  name: {ZONE}
  zonefile: nsd.zone
"""
    )
    with _running(program("nsd"), "-d", "-c", str(directory / "nsd.conf")) as pid:
        yield _answering("nsd", port, pid)


@contextmanager
def knot(directory: Path, zone: str) -> Iterator[Server]:
    port = free_port()
    (directory / "knot.zone").write_text(zone)
    (directory / "knot.conf").write_text(
        f"""server:
  rundir: "{directory}"
  listen: 127.0.0.1@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{directory}"
log:
- target: "{directory}/knot.log"
  any: warning
zone:
- domain: {ZONE}
  storage: "{directory}"
  file: knot.zone
  zonefile-sync: -1
  journal-content: none
"""
    )
    with _running(program("knotd"), "-c", str(directory / "knot.conf")) as pid:
        yield _answering("knot", port, pid)


@contextmanager
def dnsmasq(directory: Path, instances: Iterable[Instance]) -> Iterator[Server]:
    """It keeps no weights of a service's own records, and no priority but what is written."""
    port = free_port()
    lines = ["no-resolv", "no-hosts", "bind-interfaces", "listen-address=127.0.0.1", f"port={port}"]
    lines += [f"local=/{ZONE[:-1]}/", "local-ttl=5", "user=root", "group=root", "pid-file"]
    lines += [f"host-record={ZONE[:-1]},192.0.2.1"]
    for service, label, host in instances:
        name = f"{service}.{ZONE[:-1]}"
        lines += [f"host-record={label}.{name},{host}", f"host-record={name},{host}"]
        lines += [f"srv-host={name},{label}.{name},8080,10,33"]
        lines += [f"srv-host={label}.{name},{label}.{name},8080,10,100"]
    (directory / "dnsmasq.conf").write_text("\n".join(lines) + "\n")
    with _running(program("dnsmasq"), "--keep-in-foreground", "-C", str(directory / "dnsmasq.conf")) as pid:
        yield _answering("dnsmasq", port, pid)


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if found is None:
        sys.exit(f"{name} is missing: apt-get install it (make bench does so as root)")
    return found


def free_port() -> int:
    """One that is free for both UDP and TCP just now."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def _running(*command: str) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _answering(name: str, port: int, pid: int) -> Server:
    wait_for(lambda: answers(port), 30, f"{name} answers")
    return Server(name, port, pid)


def answers(port: int) -> bool:
    """Whether the zone's apex is answered without an error."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(b"\1\2\1\0\0\1\0\0\0\0\0\0\x09discovery\x08internal\0\0\1\0\1")
            return sock.recv(512)[3] & 15 == 0
        except OSError:
            return False

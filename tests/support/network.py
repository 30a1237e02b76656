"""A network of hosts for tests: each a network namespace with an address, all on one bridge, and ways to cut them.

The network belongs to the thread that makes it and to all it starts there; addresses are the same in every run and
in the way of none. A cut is a false hardware address in the sender's table of neighbours: packets of that one
direction go out and reach nobody, without an error, as on a line that is cut. It needs `ip` (iproute2), `unshare` and
`nsenter`, and root or a user namespace: `unshare --map-root-user COMMAND`. Nothing is left when the process has ended.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.node import wait_for

CLONE_NEWNET = 0x40000000
NOBODY = "02:00:00:00:ff:ff"
OWN = 254  # the last byte of this thread's own address

_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """`address` is 10.0.0.NUMBER. What runs in it is started with `enter` before its command, and ends with us."""

    def __init__(self, name: str, number: int, holder: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.number = number
        self.address = f"10.0.0.{number}"
        self.pid = holder.pid
        self.enter = ("setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/proc/{holder.pid}/ns/net")

    def ip(self, *arguments: str) -> None:
        run(*self.enter, "ip", *arguments)

    def moves(self, number: int) -> None:
        """Its address is 10.0.0.NUMBER from now on, as when it was made anew; the old one is nobody's."""
        self.ip("address", "del", f"{self.address}/24", "dev", "eth0")
        self.ip("address", "add", f"10.0.0.{number}/24", "dev", "eth0")
        self.address = f"10.0.0.{number}"

    def reaches(self, other: Host, *, well: bool) -> None:
        """From now on what this host sends to the other comes there, or not."""
        known = hardware(other.number) if well else NOBODY
        self.ip("neigh", "replace", other.address, "lladdr", known, "dev", "eth0", "nud", "permanent")


class Network:
    """`hosts` by name."""

    def __init__(self, hosts: dict[str, Host]) -> None:
        self.hosts = hosts

    def cut(self, sender: str, receiver: str) -> None:
        """One direction."""
        self.hosts[sender].reaches(self.hosts[receiver], well=False)

    def mend(self, sender: str, receiver: str) -> None:
        self.hosts[sender].reaches(self.hosts[receiver], well=True)


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """The thread is in a network namespace of its own until the end, which reaches all hosts and nothing else."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if _libc.unshare(CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise AssertionError(
                f"no network namespace ({reason}): be root, or go under unshare --map-root-user"
            )
        with ExitStack() as stack:
            yield Network(_hosts(names, stack))
    finally:
        _libc.setns(before, CLONE_NEWNET)
        os.close(before)


def _hosts(names: Sequence[str], stack: ExitStack) -> dict[str, Host]:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "bridge", "address", hardware(OWN), "type", "bridge")
    run("ip", "address", "add", f"10.0.0.{OWN}/24", "dev", "bridge")
    run("ip", "link", "set", "bridge", "up")
    hosts = {}
    for number, name in enumerate(names, 1):
        holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE
        )  # ends with this process
        stack.callback(_end, holder)
        link, own = Path(f"/proc/{holder.pid}/ns/net"), Path("/proc/thread-self/ns/net").readlink()
        wait_for(lambda link=link, own=own: link.readlink() != own, 30, "a network namespace")  # type: ignore[misc]
        hosts[name] = Host(name, number, holder)
    for host in hosts.values():
        near = f"to-{host.name}"
        run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        run("ip", "link", "set", near, "master", "bridge", "up")
        host.ip("link", "set", "lo", "up")
        host.ip("link", "set", "eth0", "address", hardware(host.number), "up")
        host.ip("address", "add", f"{host.address}/24", "dev", "eth0")
        for other in hosts.values():
            if other is not host:
                host.reaches(other, well=True)
    return hosts


def _end(holder: subprocess.Popen[bytes]) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    holder.wait()


def hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"

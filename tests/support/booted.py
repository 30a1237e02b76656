"""A machine of the test's own with a real systemd: this one's files under an overlay, booted in namespaces.

What is written there is in memory and gone at the end; its network is a loopback of its own. Owns the boot and the way
in. Nothing of this machine's services runs there: their wants are taken away. It needs root, `unshare`, `nsenter` and
systemd.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.node import ROOT, environment, wait_for

BOOT_LIMIT = 120.0  # seconds
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind -o ro proc/sys proc/sys   # the kernel's settings are those of the machine around
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for each in run tmp dev; do mount -t tmpfs -o mode=1777 tmpfs "$each"; done
chmod 755 run dev
mkdir -p "./$2" && mount --bind "$2" "./$2" && mount -o remount,ro,bind "./$2"   # wherever the checkout is
for each in null zero full random urandom tty; do touch "dev/$each"; mount --bind "/dev/$each" "dev/$each"; done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
rm -rf etc/systemd/system/*.wants usr/local/lib/systemd opt/discovery etc/discovery var/lib/discovery
mkdir -p etc/systemd/system run/booted var/log/journal
for each in getty.target timers.target systemd-sysctl.service systemd-timesyncd.service; do
    ln -sf /dev/null "etc/systemd/system/$each"
done
ip link set lo up
pivot_root . run/booted
umount -l run/booted
exec env -i container=test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --show-status=0
"""


class Booted:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._holder = process
        self.log = log
        self.pid = 0

    def has_started(self) -> bool:
        """systemd is the first process of the namespaces, a child of `unshare`."""
        assert self._holder.poll() is None, self.log.read_text()
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return False
        self.pid = int(children[0])
        return self.run("systemctl", "is-active", "--quiet", "basic.target", check=False).returncode == 0

    def enter(self, *command: str) -> Sequence[str]:
        return ["nsenter", "--target", str(self.pid), "--all", "--root", "--wd", *command]

    def run(self, *command: str, check: bool = True, typed: str = "") -> subprocess.CompletedProcess[str]:
        """`typed`: what its standard input has."""
        done = subprocess.run(
            self.enter(*command),
            input=typed,
            capture_output=True,
            text=True,
            timeout=180,
            env=environment() | {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def copy(self, source: Path, target: str) -> None:
        """A folder of this machine, to a place in the memory of that one."""
        self.run("mkdir", "-p", target)
        with subprocess.Popen(["tar", "-C", str(source), "-c", "."], stdout=subprocess.PIPE) as pack:
            subprocess.run(
                self.enter("tar", "-C", target, "--keep-directory-symlink", "-x"),
                stdin=pack.stdout,
                check=True,
            )

    def write(self, file: str, text: str) -> None:
        self.run("mkdir", "-p", os.path.dirname(file))
        self.run("tee", file, typed=text)

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "-u", unit, check=False).stdout


@contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """`folder`: an empty one."""
    space = folder / "machine"
    space.mkdir()
    log = folder / "boot.log"
    flags = ["--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--net", "--kill-child"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                *flags,
                "bash",
                "-c",
                BOOT,
                "boot",
                str(space),
                str(ROOT),
            ],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    machine = Booted(process, log)
    try:
        wait_for(machine.has_started, BOOT_LIMIT, f"systemd runs: {log}")
        yield machine
    finally:
        process.kill()
        process.wait()

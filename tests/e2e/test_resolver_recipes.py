"""deploy/resolvers.md: each recipe as it stands there, in its place on a booted machine, with the real program.

What resolvers make of our answers in all else is `test_resolvers`'.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.booted import Booted, booted
from tests.support.node import ROOT, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGE = (ROOT / "deploy" / "resolvers.md").read_text()
UNPACKED = (
    Path(sys.prefix) / "systemd-resolved"
)  # `make` puts the package's files there, and installs it nowhere
LIMIT = 90.0  # seconds
NODE = [sys.executable, "-m", "discovery"]


def recipe(heading: str) -> list[tuple[str, str]]:
    """The blocks below a heading that are no console's: each with the file that is named before it, or ""."""
    text = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)[0]
    found = re.findall(r"(?:^`(/etc/\S+)`.*:\n\n|^)```(\w*)\n(.*?)^```$", text, re.M | re.S)
    blocks = [(file, body) for file, kind, body in found if kind != "console"]
    assert blocks[0][0]
    return blocks


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with booted(tmp_path_factory.mktemp("booted")) as made:
        settings = ["store.path=/var/lib/node", "reverse_zones=[10.0.0.0/8]"]
        sets = [word for each in settings for word in ("--set", each)]
        made.run(
            "systemd-run", "--quiet", "--unit=node", f"--working-directory={ROOT}", *NODE, "serve", *sets
        )
        fields = ["--host", "10.0.0.7", "--port", "80", "--lease-ttl", "3600"]
        register = [*NODE, "register", "web.prod", "i1", *fields]
        here = ["env", "-C", str(ROOT)]
        wait_for(
            lambda: made.run(*here, *register, check=False).returncode == 0, LIMIT, "the node takes writes"
        )
        yield made


def dig(machine: Booted, server: str, *words: str) -> str:
    return machine.run("dig", f"@{server}", "+time=2", "+tries=1", *words, check=False).stdout


def check(machine: Booted, server: str, unit: str) -> None:
    """The names are found there; a missing one is missing for no longer than we say."""
    name = "web.prod.discovery.internal"
    try:
        wait_for(lambda: dig(machine, server, name, "A", "+short") == "10.0.0.7\n", LIMIT, "an address")
        assert dig(machine, server, name, "SRV", "+short") == f"10 100 80 i1.{name}.\n"
        (ttl,) = re.findall(rf"^{name}\.\s+(\d+)\s+IN\s+A\s", dig(machine, server, name, "A"), re.M)
        assert int(ttl) <= 5
        missing = f"{unit}.late.discovery.internal"
        assert "status: NXDOMAIN" in dig(machine, server, missing, "A")
        register = [*NODE, "register", f"{unit}.late", "i1", "--host", "10.0.0.8", "--lease-ttl", "3600"]
        machine.run("env", "-C", str(ROOT), *register)
        wait_for(
            lambda: dig(machine, server, missing, "A", "+short") == "10.0.0.8\n", LIMIT, "it is found now"
        )
    except AssertionError as error:
        raise AssertionError(f"{error}\n{machine.journal(unit)[-3000:]}") from None


def check_reverse(machine: Booted, server: str) -> None:
    said = dig(machine, server, "-x", "10.0.0.7")
    assert re.search(r"\sPTR\s+i1\.web\.prod\.discovery\.internal\.$", said, re.M), said


@contextmanager
def started(machine: Booted, unit: str, *command: str) -> Iterator[None]:
    """A unit of the machine's, or a command as one."""
    if command:
        machine.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", *command)
    else:
        machine.run("systemctl", "start", unit)
    try:
        yield
    finally:
        machine.run("systemctl", "stop", unit, check=False)


def put(machine: Booted, heading: str) -> list[str]:
    """Its first file in its place; the other blocks."""
    (file, body), *others = recipe(heading)
    machine.write(file, body)
    return [body for _, body in others]


def test_unbound(machine: Booted) -> None:
    put(machine, "unbound")
    with started(machine, "unbound"):
        check(machine, "127.0.0.1", "unbound")
        check_reverse(machine, "127.0.0.1")


def test_dnsmasq(machine: Booted) -> None:
    put(machine, "dnsmasq")
    flags = ["--keep-in-foreground", "--conf-file=/dev/null", "--conf-dir=/etc/dnsmasq.d", "--no-resolv"]
    own = ["--listen-address=127.0.0.1", "--bind-interfaces", "--stop-dns-rebind"]
    with started(
        machine, "recipe-dnsmasq", shutil.which("dnsmasq", path="/usr/sbin:/usr/bin") or "", *flags, *own
    ):
        check(machine, "127.0.0.1", "recipe-dnsmasq")
        check_reverse(machine, "127.0.0.1")


def test_bind9(machine: Booted) -> None:
    (options,) = put(machine, "bind9")
    file = "/etc/bind/named.conf.options"
    held = machine.run("cat", file).stdout
    machine.write(file, re.sub(r"^\};\s*\Z", f"{options}}};\n", held, flags=re.M))
    with started(machine, "named"):
        check(machine, "127.0.0.1", "named")
        check_reverse(machine, "127.0.0.1")


def test_systemd_resolved(machine: Booted) -> None:
    if UNPACKED.is_dir():
        machine.copy(UNPACKED, "/")
    assert machine.run("systemctl", "cat", "systemd-resolved", check=False).returncode == 0, (
        "systemd-resolved is missing: `make test` unpacks it"
    )
    machine.run("systemd-sysusers")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "dbus")
    machine.run("systemctl", "reload", "dbus")
    put(machine, "systemd-resolved")
    # It asks nobody while no network is there.
    machine.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "beyond")
    machine.run("ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
    machine.run("ip", "link", "set", "eth0", "up")
    machine.run("ip", "link", "set", "beyond", "up")
    with started(machine, "systemd-resolved"):
        check(machine, "127.0.0.53", "systemd-resolved")
        (query,) = re.findall(r"^\$ (resolvectl .*)$", PAGE, re.M)
        assert "10.0.0.7" in machine.run(*query.split()).stdout

"""Our wheel on a booted machine: built once, installed as deploy/install.sh does, with nothing fetched.

Owns what stands in for the network there: the packages that pip would fetch are this machine's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.booted import Booted, booted
from tests.support.node import ROOT

PLACE = "/srv/deploy"  # where the machine finds what a release has in deploy/
PACKAGES = "/srv/packages"
OFFLINE = ("PIP_NO_DEPS=1", "PIP_NO_INDEX=1", "PIP_DISABLE_PIP_VERSION_CHECK=1")
PYTHON = os.path.realpath(sys.executable)


def build_wheel(
    folder: Path, version: str = "", changes: Mapping[str, tuple[str, str]] | None = None
) -> Path:
    """Of this tree; `version`: what it says of itself in place of its own; `changes`: by file, a text and another."""
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "*.so", "build", "__pycache__", "tests", "*.egg-info")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    if version:
        project = source / "pyproject.toml"
        own = next(line for line in project.read_text().splitlines() if line.startswith("version = "))
        project.write_text(project.read_text().replace(own, f'version = "{version}"'))
    for file, (old, new) in (changes or {}).items():
        text = (source / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        (source / file).write_text(text.replace(old, new))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(source)], check=True)
    (built,) = folder.glob("*.whl")
    shutil.rmtree(source)
    return built


def fetch_builder(folder: Path) -> None:
    """What builds a wheel of ours, as wheels, beside the one that is there."""
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest"]
    subprocess.run([*command, str(folder), *required], check=True)


def environment_of(folder: Path, wheel: Path) -> Path:
    """The command of an installation of its own, made in `folder`, that shares this one's packages."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [
        str(folder / "bin" / "pip"),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "discovery"


@contextmanager
def equipped(folder: Path, wheel: Path) -> Iterator[Booted]:
    """A booted machine that has deploy/, the wheel and the packages."""
    with booted(folder) as made:
        made.copy(ROOT / "deploy", PLACE)
        made.copy(wheel.parent, "/srv/wheels")
        made.copy(Path(sysconfig.get_path("purelib")), PACKAGES)
        if sys.base_prefix.startswith(("/root/", "/home/")):  # where the units would not find this Python
            made.run("chmod", "a+x", "/root", "/home")
            for unit in ("discovery", "discovery-agent"):
                made.write(f"/run/systemd/system/{unit}.service.d/here.conf", "[Service]\nProtectHome=no\n")
        made.run("sh", "-c", f"rm -rf {PACKAGES}/__editable__* {PACKAGES}/discovery_dns*")
        yield made


def install(machine: Booted, wheel: Path, *arguments: str) -> str:
    """deploy/install.sh with this wheel, by a root with a narrow umask; what it said."""
    words = [
        *("sh", "-c", 'umask 077; exec "$@"', "sh"),
        "env",
        *OFFLINE,
        f"PYTHON={PYTHON}",
        f"{PLACE}/install.sh",
        *arguments,
        f"/srv/wheels/{wheel.name}",
    ]
    said = machine.run(*words).stdout
    if "--dry-run" not in arguments:
        put_beside(machine)
    return said


def install_checkout(machine: Booted) -> str:
    """deploy/install.sh of this checkout, which cannot be written to there, with what `fetch_builder` fetched."""
    words = ["env", *OFFLINE, "PIP_FIND_LINKS=/srv/wheels", f"PYTHON={PYTHON}", f"{ROOT}/deploy/install.sh"]
    return machine.run(*words).stdout


def put_beside(machine: Booted) -> None:
    """The packages, to the Python in /opt/discovery."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    machine.write(f"/opt/discovery/lib/{version}/site-packages/beside.pth", PACKAGES + "\n")

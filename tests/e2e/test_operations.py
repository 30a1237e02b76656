"""deploy/operations.md, typed as it stands on a machine with a real systemd, as its disasters would have it.

A reader waits for `discovery health`; so does this. In the place of a release's folder is a wheel: an older one where
it is installed, this one's where it is upgraded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.booted import Booted
from tests.support.installed import build_wheel, equipped, install
from tests.support.node import ROOT, wait_for
from tests.support.typed import Line, blocks_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGE = (ROOT / "deploy" / "operations.md").read_text()
LIMIT = 120.0  # seconds
TYPED = ["Installing", "Backing up", "Restoring", "Upgrading"]


def lines(heading: str) -> list[Line]:
    return [line for block in blocks_of(PAGE, heading) for line in block.lines]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By version; all in one folder."""
    folder = tmp_path_factory.mktemp("wheels")
    found = {}
    for version in ("0.0.1", ""):
        built = build_wheel(tmp_path_factory.mktemp("wheel"), version)
        found[version] = built.rename(folder / built.name)
    return found


@pytest.fixture(scope="module")
def machine(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with equipped(tmp_path_factory.mktemp("booted"), wheels[""]) as made:
        yield made


def type_all(machine: Booted, heading: str, wheel: Path) -> None:
    for line in lines(heading):
        words = line.command.split()
        if words[0] == "deploy/install.sh":
            install(machine, wheel, *words[1:])
        elif words[:2] == ["discovery", "health"]:
            command = partial(machine.run, *words, check=False)
            wait_for(lambda: command().returncode == 0, LIMIT, heading)  # noqa: B023
        else:
            machine.run("sh", "-c", line.command)


def register(machine: Booted, service: str) -> None:
    machine.run("discovery", "register", service, "i1", "--host", "192.0.2.1", "--lease-ttl", "3600")


def found(machine: Booted, service: str) -> str:
    name = f"{service}.discovery.internal"
    return machine.run("dig", "@127.0.0.1", name, "A", "+short", "+timeout=20").stdout.strip()


def test_each_block_is_typed_below() -> None:
    with_blocks = [heading for heading in re.findall(r"^## (.*)$", PAGE, re.M) if lines(heading)]
    assert with_blocks == TYPED


def test_installed_backed_up_restored_and_upgraded(machine: Booted, wheels: dict[str, Path]) -> None:
    type_all(machine, "Installing", wheels["0.0.1"])
    assert "0.0.1" in machine.run("discovery", "--version").stdout
    register(machine, "web.prod")

    type_all(machine, "Backing up", wheels["0.0.1"])
    register(machine, "late.prod")
    assert found(machine, "late.prod") == "192.0.2.1"
    type_all(machine, "Restoring", wheels["0.0.1"])
    assert (found(machine, "web.prod"), found(machine, "late.prod")) == ("192.0.2.1", "")

    type_all(machine, "Upgrading", wheels[""])
    assert "0.0.1" not in machine.run("discovery", "--version").stdout
    assert found(machine, "web.prod") == "192.0.2.1"
    machine.run("discovery", "heartbeat", "web.prod", "i1")
    assert "Traceback" not in machine.journal("discovery")


def test_the_exposure_it_tells_is_the_one_that_is_held() -> None:
    assert re.findall(r"exposure of ([0-9.]+) of 10 .*the agent's ([0-9.]+)\.", PAGE) == [("1.6", "1.9")]


@pytest.mark.parametrize("page", sorted((ROOT / "deploy").glob("*.md")), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if target.startswith(("http:", "https:")):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {link}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text()), f"{page.name}: {link}"


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", each).lower()).replace(" ", "-") for each in headings}

"""deploy/cluster.md, typed as it stands on machines that the page's disasters have befallen."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.node import ROOT, wait_for
from tests.support.typed import Machines, blocks_of, machines

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.e2e]

PAGE = (ROOT / "deploy" / "cluster.md").read_text()
NAME = "db.prod.discovery.internal."
ONE = "/v1/services/db.prod/d1"
INSTANCE = '{"host": "192.0.2.1", "port": 5432, "lease_ttl": 3600}'


@contextmanager
def three(folder: Path) -> Iterator[tuple[Machines, str]]:
    """The page's three machines, started as it says, and a lease that holds an instance."""
    with machines(folder) as made:
        write_first(made)
        made.do(blocks_of(PAGE, "Starting"))
        yield made, register(made)


def write_first(made: Machines) -> None:
    ((_, settings),) = blocks_of(PAGE, "")
    for name in ("n1", "n2", "n3"):
        own = re.sub(r"name: n1", f"name: {name}", settings)
        own = re.sub(
            r'(listen: \["|client: http://|peer: http://)10\.0\.0\.1', rf"\g<1>10.0.0.{name[1]}", own
        )
        made[name].configure(made.here(own, made[name]))


def register(made: Machines) -> str:
    status, answer = made.call("n1", "PUT", ONE, INSTANCE)
    assert status == 201, answer
    made.is_everywhere(NAME, ["192.0.2.1"], *made)
    return str(answer["lease"])


def check_kept(made: Machines, lease: str, *names: str) -> None:
    """DNS answers on all of these, the lease is the one of before, and each takes writes."""
    made.is_everywhere(NAME, ["192.0.2.1"], *names)
    for name in names:
        status, answer = made.call(name, "POST", f"{ONE}/heartbeat")
        assert (status, answer["lease"], answer["lease_ttl"]) == (200, lease, 3600)
        status, answer = made.call(name, "PUT", f"/v1/services/after.prod/{name}", '{"host": "192.0.2.9"}')
        assert status in (200, 201), answer


def fill(made: Machines) -> None:
    """One instance, changed again and again: nearly all is history."""
    for number in range(200):
        text = (str(number) * 20_000)[:50_000]
        status, answer = made.call("n1", "PUT", "/v1/services/big/b1", json.dumps({"host": "", "text": text}))
        if status == 503:
            assert answer["type"] == "/problems/no-space"
            return
    raise AssertionError("the quota was never used up")


def fill_up(ballast: Path) -> None:
    """Takes the last byte of the disk."""
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


def members(made: Machines, name: str) -> list[str]:
    listed = made.call(name, "GET", "/v1/cluster")[1]["store"]["members"]
    return sorted(member["name"].partition("-")[0] for member in listed)


def peer_of(made: Machines, name: str) -> str:
    return f"http://{made[name].address}:2380"


def revision(made: Machines, name: str) -> int:
    return int(made.call(name, "GET", "/v1/store")[1]["revision"])


def test_a_fourth_joins_and_one_that_is_lost_is_replaced(tmp_path: Path) -> None:
    with three(tmp_path) as (made, lease):
        made["n3"].stop(signal.SIGKILL)
        growing = blocks_of(PAGE, "Growing")
        made.do(growing[:1])  # n4's configuration
        made.do(blocks_of(PAGE, "One machine is lost for good"))
        assert members(made, "n1") == ["n1", "n2", "n4"]
        check_kept(made, lease, "n1", "n2", "n4")
        for name in ("n1", "n2"):  # with the initial_cluster that still names n3
            made[name].stop()
            made[name].start()
            made.until_well(made["n1" if name == "n2" else "n2"])


def test_a_fourth_beside_three_and_away_again(tmp_path: Path) -> None:
    with three(tmp_path) as (made, lease):
        growing = blocks_of(PAGE, "Growing")
        keep_seat = re.findall(r"`(discovery cluster add \S+)`", PAGE)[0]
        wait_for(lambda: made.run(made["n1"], keep_seat).returncode == 0, 60, "all are connected for 5 s")
        status, answer = made.call(
            "n1", "POST", "/v1/cluster/members", json.dumps({"peer": peer_of(made, "n4")})
        )
        assert (status, answer["type"]) == (409, "/problems/conflict")
        assert "is there already: start its node with store.member.join" in answer["detail"]
        status, answer = made.call("n1", "DELETE", "/v1/cluster/members/n9")
        assert (status, answer["type"]) == (404, "/problems/not-found")
        assert answer["detail"].startswith("the cluster has no member n9: it has ")
        made.do(growing)
        assert members(made, "n1") == ["n1", "n2", "n3", "n4"]
        check_kept(made, lease, "n1", "n2", "n3", "n4")
        said = re.findall(r"`(discovery cluster remove n4)`", PAGE)[0]
        (own_name,) = [
            member["name"]
            for member in made.call("n1", "GET", "/v1/cluster")[1]["store"]["members"]
            if member["name"].startswith("n4")
        ]
        done = made.run(made["n1"], said.replace("n4", own_name))
        assert done.returncode == 0, done.stderr
        assert members(made, "n1") == ["n1", "n2", "n3"]
        wait_for(lambda: (made["n4"].lib / "etcd" / "removed").exists(), 60, "n4's etcd has ended")
        check_kept(made, lease, "n1", "n2", "n3", "n4")


def test_a_deleted_data_directory(tmp_path: Path) -> None:
    with three(tmp_path) as (made, lease):
        made["n2"].stop(signal.SIGKILL)
        shutil.rmtree(made["n2"].lib)
        made["n2"].lib.mkdir()
        made["n2"].start()  # as it was: it does not start, and says what to do
        wait_for(
            lambda: b"has lost its data: set store.member.join" in made["n2"].log.read_bytes(), 20, "told"
        )
        made["n2"].stop()
        made.do(blocks_of(PAGE, "One data directory is deleted"))
        assert members(made, "n2") == ["n1", "n2", "n3"]
        check_kept(made, lease, "n1", "n2", "n3")


def test_a_corrupt_file(tmp_path: Path) -> None:
    with three(tmp_path) as (made, lease):
        database = made["n2"].lib / "etcd" / "data" / "member" / "snap" / "db"
        with database.open("r+b") as file:
            file.write(os.urandom(64 << 10))
        os.kill(made["n2"].etcd(), signal.SIGKILL)
        wait_for(lambda: made["n2"].log.read_bytes().count(b"etcd ended") > 1, 60, "it ends at every start")
        made.is_everywhere(NAME, ["192.0.2.1"], "n2")
        assert made.run(made["n2"], "discovery cluster status").returncode == 1
        made.do(blocks_of(PAGE, "A file is corrupt"))
        assert members(made, "n2") == ["n1", "n2", "n3"]
        assert (made["n2"].lib / "etcd.damaged" / "data").is_dir()
        check_kept(made, lease, "n1", "n2", "n3")


def test_a_full_quota(tmp_path: Path) -> None:
    small = tmp_path / "etcd"
    small.write_text(f'#!/bin/sh\nexec {shutil.which("etcd")} "$@" --quota-backend-bytes={4 << 20}\n')
    small.chmod(0o755)
    with machines(tmp_path) as made:
        write_first(made)
        for name in ("n1", "n2", "n3"):
            file = made[name].file
            file.write_text(file.read_text().replace("  member:\n", f"  member:\n    binary: {small}\n"))
        made.do(blocks_of(PAGE, "Starting"))
        lease = register(made)
        fill(made)
        done = made.run(made["n2"], "discovery cluster status")
        assert done.returncode == 1
        assert (
            "the quota is used up, writes are refused: `discovery cluster defrag` gives room" in done.stdout
        )
        made.is_everywhere(NAME, ["192.0.2.1"], "n1", "n2", "n3")
        made.do(blocks_of(PAGE, "The quota is full"))
        check_kept(made, lease, "n1", "n2", "n3")


def test_a_lost_quorum(tmp_path: Path) -> None:
    with three(tmp_path) as (made, lease):
        before = revision(made, "n1")
        for name in ("n2", "n3"):
            made[name].stop(signal.SIGKILL)
        wait_for(lambda: made.call("n1", "GET", "/readyz?writes")[0] == 503, 60, "no writes")
        made.is_everywhere(NAME, ["192.0.2.1"], "n1")
        alone, *others = blocks_of(PAGE, "The quorum is lost for good")
        made.do([alone])
        assert members(made, "n1") == ["n1"]
        check_kept(made, lease, "n1")
        assert revision(made, "n1") > before + 1_000_000_000
        made["n3"].start()  # with the data of the old cluster: it does not start
        wait_for(lambda: b"move the data away and join" in made["n3"].log.read_bytes(), 60, "told")
        made["n3"].stop()
        made.do(others)
        assert members(made, "n2") == ["n1", "n2"]
        check_kept(made, lease, "n1", "n2")
        (kept,) = (made["n1"].lib / "etcd").glob("data-*")
        assert (kept / "member" / "wal").is_dir()


def test_a_snapshot_on_new_machines(tmp_path: Path) -> None:
    with three(tmp_path) as (made, lease):
        save, *others = blocks_of(PAGE, "A snapshot on new machines")
        made.do([save])
        assert made.call("n1", "PUT", "/v1/services/late.prod/l1", '{"host": "192.0.2.2"}')[0] == 201
        before = revision(made, "n1")
        for name in ("n1", "n2", "n3"):
            made[name].stop(signal.SIGKILL)
        made.do(others)
        check_kept(made, lease, "n5")
        assert made["n5"].answers("late.prod.discovery.internal.", "A") == []
        assert revision(made, "n5") > before
        joining = blocks_of(PAGE, "Growing")[0].settings.replace(
            "join: http://10.0.0.1", "join: http://10.0.0.5"
        )
        made["n4"].configure(made.here(joining, made["n4"]))
        made["n4"].start()
        made.until_well(made["n4"])
        check_kept(made, lease, "n4", "n5")
        said = re.findall(r"`(discovery cluster recover --from \S+)`", PAGE)[0]
        for name in ("n4", "n5"):
            made[name].stop()
        done = made.run(made["n5"], said)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 3
        made["n5"].start()
        made.until_well(made["n5"])
        check_kept(made, lease, "n5")


def test_a_full_disk(tmp_path: Path) -> None:
    """n2's store is on a tmpfs of its own, which is filled to the last byte by what the page has the reader delete."""
    with machines(tmp_path) as made:
        write_first(made)
        disk = made["n2"].lib
        mount = f'mount -t tmpfs -o size=200m tmpfs {disk} && exec "$@"'
        made["n2"].under = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
        made.do(blocks_of(PAGE, "Starting"))
        lease = register(made)
        made.until_well(made["n2"])  # from then on it knows the addresses of the others' members
        inside = Path(made.here("/var/lib/discovery", made["n2"]))
        (inside / "etcd.damaged").mkdir()
        body = json.dumps({"host": "", "text": "x" * 50_000})
        written = 0

        def is_lost() -> bool:
            """The disk is full again, whatever etcd has given back when it ended, and etcd has to take more of it."""
            nonlocal written
            fill_up(inside / "etcd.damaged" / "ballast")
            for _ in range(20):
                made.call("n1", "PUT", f"/v1/services/big.prod/b{written}", body)
                written += 1
            return made.run(made["n1"], "discovery cluster status").returncode == 1

        wait_for(is_lost, 60, "status says that a member is lost")
        assert b"no space left on device" in made["n2"].log.read_bytes()
        made.is_everywhere(NAME, ["192.0.2.1"], "n2")
        beat = ("n2", "POST", f"{ONE}/heartbeat")
        wait_for(lambda: made.call(*beat)[0] == 200, 60, "it takes a heartbeat through the others")
        made.do(blocks_of(PAGE, "A disk is full"))
        check_kept(made, lease, "n1", "n2", "n3")


def test_one_machine_after_the_other(tmp_path: Path) -> None:
    with three(tmp_path) as (made, lease):
        made.do(blocks_of(PAGE, "Upgrading"))
        check_kept(made, lease, "n1", "n2", "n3")

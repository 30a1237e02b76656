"""The move of an embedded store into a managed cluster, with a real etcd."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from discovery.kv.contract import Put
from discovery.kv.embedded import EmbeddedStore
from tests.conftest import SEED
from tests.support.etcd import etcd_cluster, free_ports
from tests.support.node import DISCOVERY, ROOT, environment, run_discovery, running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LIMIT = 60.0  # seconds for a move on a busy machine
COUNT = 300
SERVICE = {"host": "10.0.0.1", "port": 80, "lease_ttl": 5}


async def fill(directory: Path, ttl: int) -> None:
    store = EmbeddedStore(directory, clock=lambda: 0.0)
    await store.start()
    for number in range(COUNT):
        await store.lease_grant(ttl + number % 3, 1 + number)
    await store.txn([], [Put(key_of(n), b'{"host": "10.0.0.%d"}' % (n % 250), 1 + n) for n in range(COUNT)])
    await store.put(b"/discovery/secret", b"\xff\0")
    await store.close()


def key_of(number: int) -> bytes:
    return b"/skydns/internal/discovery/prod/web/i%d" % number


def filled(directory: Path, ttl: int = 5) -> Path:
    asyncio.run(fill(directory, ttl))
    return directory


def settings(directory: Path, ports: Sequence[int]) -> list[str]:
    client, peer = ports
    return [
        f"store.path={directory}",
        "store.engine=managed-etcd",
        f"store.member.client=http://127.0.0.1:{client}",
        f"store.member.peer=http://127.0.0.1:{peer}",
    ]


def init_command(sets: Sequence[str]) -> list[str]:
    return ["cluster", "init", *(word for each in sets for word in ("--set", each))]


def init(sets: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return run_discovery(*init_command(sets), timeout=LIMIT)


def check_whole(directory: Path, ports: Sequence[int]) -> None:
    """A node on what was moved has every instance, its leases with their ids and TTLs, and revisions above."""
    with running_node(directory, settings(directory, ports)) as node:
        wait_for(lambda: node.call("GET", "/readyz?writes")[0] == 200, LIMIT, "it takes writes")
        status, listed = node.call("GET", "/v1/services/web.prod?leases=true")
        assert status == 200
        found = {each["instance"]: each["lease"] for each in listed["instances"]}
        assert found == {f"i{n}": f"{1 + n:016x}" for n in range(COUNT)}
        assert listed["revision"] > 1_000_000_000
        assert node.call("POST", "/v1/heartbeats", {"leases": list(found.values())}) == (
            200,
            {"renewed": COUNT, "missing": []},
        )
        assert {node.call("GET", f"/v1/leases/{1 + n:016x}")[1]["ttl"] for n in range(3)} == {5, 6, 7}


def test_a_store_is_moved_once_and_kept(tmp_path: Path) -> None:
    directory, ports = filled(tmp_path / "s"), free_ports(2)
    sets = settings(directory, ports)
    refused = run_discovery("serve", *(word for each in sets for word in ("--set", each)))
    assert (refused.returncode, "discovery cluster init" in refused.stderr) == (2, True)
    done = init(sets)
    assert done.returncode == 0, done.stderr
    assert f"{COUNT + 1} keys and {COUNT} leases are in the cluster" in done.stdout
    assert (directory / "store.db.moved").exists()
    assert not (directory / "etcd.moving").exists()
    again = init(sets)
    assert (again.returncode, "was moved already" in again.stderr) == (1, True)
    check_whole(directory, ports)
    back = run_discovery("serve", "--set", f"store.path={directory}")
    assert (back.returncode, "was moved into the cluster" in back.stderr) == (2, True)


@pytest.mark.parametrize("moment", range(4))
def test_a_kill_at_any_moment_leaves_the_old_store_or_the_whole_cluster(tmp_path: Path, moment: int) -> None:
    directory, ports = filled(tmp_path / "s"), free_ports(2)
    sets = settings(directory, ports)
    with subprocess.Popen(
        [*DISCOVERY, *init_command(sets)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_for(lambda: (directory / "etcd.moving").exists(), LIMIT, "the move has begun")
        select.select([], [], [], random.Random(SEED + moment).uniform(0.0, 1.5))
        process.kill()
    if (directory / "store.db").exists():
        done = init(sets)
        assert done.returncode == 0, done.stderr
    check_whole(directory, ports)


def test_a_kill_before_the_last_step_leaves_only_that(tmp_path: Path) -> None:
    directory, ports = filled(tmp_path / "s"), free_ports(2)
    sets = settings(directory, ports)
    assert init(sets).returncode == 0
    (directory / "store.db.moved").rename(directory / "store.db")
    assert init(sets).returncode == 0
    check_whole(directory, ports)


def test_a_store_that_was_used_after_such_a_kill_is_not_given_up(tmp_path: Path) -> None:
    directory, ports = filled(tmp_path / "s"), free_ports(2)
    sets = settings(directory, ports)
    assert init(sets).returncode == 0
    (directory / "store.db.moved").rename(directory / "store.db")
    with running_node(directory) as node:
        assert node.call("PUT", "/v1/services/new.prod/i1", SERVICE)[0] == 201
    refused = init(sets)
    assert (refused.returncode, "move that folder away" in refused.stderr) == (1, True)
    assert (directory / "store.db").exists()


def test_what_can_not_be_moved_is_refused_in_a_line(tmp_path: Path) -> None:
    directory, ports = filled(tmp_path / "s"), free_ports(2)
    sets = settings(directory, ports)
    for wrong, complaint in (
        (["store.engine=embedded"], "set managed-etcd"),
        (["store.member.join=http://127.0.0.1:1"], "leave out join here"),
        ([f"store.path={tmp_path / 'nothing'}"], "holds no embedded store"),
    ):
        refused = init([*sets, *wrong])
        assert refused.returncode in (1, 2)
        assert complaint in refused.stderr, refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    (directory / "etcd" / "data" / "member").mkdir(parents=True)
    refused = init(sets)
    assert "holds a member already" in refused.stderr
    assert (directory / "store.db").exists()


def test_an_interrupted_move_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    directory, ports = filled(tmp_path / "s"), free_ports(2)
    sets = settings(directory, ports)
    with (
        running_node(directory) as node,
        subprocess.Popen(
            [*DISCOVERY, *init_command(sets)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        assert "Restart the node now" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130
        assert node.call("PUT", "/v1/services/new.prod/i1", SERVICE)[0] == 201
    assert {each.name for each in directory.iterdir()} == {"lock", "store.db"}
    assert init(sets).returncode == 0
    note = json.loads((directory / "etcd" / "moved.json").read_text())
    assert note["least"] > note["revision"] + 1_000_000_000 - 1


def test_one_move_at_a_time(tmp_path: Path) -> None:
    directory, ports = filled(tmp_path / "s"), free_ports(2)
    sets = settings(directory, ports)
    with (
        running_node(directory),
        subprocess.Popen(
            [*DISCOVERY, *init_command(sets)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        second = init(sets)
        assert (second.returncode, f"pid {process.pid}" in second.stderr) == (2, True), second.stderr
        os.kill(process.pid, signal.SIGTERM)


def test_an_import_goes_into_the_cluster_that_is_configured(tmp_path: Path) -> None:
    directory, lines = filled(tmp_path / "s", ttl=600), tmp_path / "lines"
    assert run_discovery("store", "export", str(lines), "--path", str(directory)).returncode == 0
    with etcd_cluster(tmp_path / "cluster") as cluster:  # its limits are etcd's own
        configured = ["store.engine=etcd", f"store.etcd.endpoints={cluster.endpoints}"]
        words = ["store", "import", str(lines), *(word for each in configured for word in ("--set", each))]
        done = run_discovery(*words, timeout=LIMIT)
        assert (done.returncode, done.stdout) == (
            0,
            f"the etcd cluster: {COUNT + 1} keys and {COUNT} leases imported from {lines}\n",
        ), done.stderr
        assert cluster.ctl("get", "--print-value-only", key_of(7).decode()) == '{"host": "10.0.0.7"}\n'
        again = run_discovery(*words, timeout=LIMIT)
        assert (again.returncode, "--overwrite" in again.stderr) == (1, True)


def test_an_import_makes_no_new_store_where_one_was_moved_away(tmp_path: Path) -> None:
    (tmp_path / "etcd").mkdir()
    (tmp_path / "etcd" / "moved.json").touch()
    (tmp_path / "lines").touch()
    done = run_discovery("store", "import", str(tmp_path / "lines"), "--path", str(tmp_path))
    assert (done.returncode, "was moved into the cluster" in done.stderr) == (2, True)

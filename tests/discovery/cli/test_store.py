"""`discovery store` on real directories: nothing is overwritten, what is wrong is one line."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from discovery.kv.embedded import EmbeddedStore
from discovery.kv.snapshot import BUMP, write_snapshot
from discovery.kv.sqlite_file import DirectoryLock
from tests.discovery.cli.conftest import Run
from tests.support.node import DISCOVERY, ROOT, environment


def make_store(path: Path, keys: int = 3) -> Path:
    async def fill() -> None:
        store = EmbeddedStore(path)
        await store.start()
        lease = await store.lease_grant(60, 0xABC)
        await store.put(b"/skydns/leased", b"1", lease=lease.id)
        for number in range(1, keys):
            await store.put(b"/skydns/%d" % number, b"\xff")
        await store.close()

    asyncio.run(fill())
    return path


def test_a_snapshot_is_restored_checked_and_shown(run: Run, tmp_path: Path) -> None:
    store, new, backup = make_store(tmp_path / "store"), tmp_path / "new", tmp_path / "backup.db"
    assert write_snapshot(store / "store.db", backup) == 4
    status, out, err = run("store", "check", str(backup))
    assert (status, out, err) == (0, f"{backup}: whole; 3 keys and 1 leases at revision 4\n", "")
    whole = json.loads(run("store", "check", str(backup), "-o", "json").out)
    assert (whole["whole"], whole["keys"], whole["revision"]) == (True, 3, 4)
    status, out, err = run("store", "restore", str(backup), "--path", str(new))
    begin = int(out.split()[-1])
    assert begin >= 4 + BUMP
    assert (status, out, err) == (0, f"{new}: restored from {backup}; it begins at revision {begin}\n", "")
    whole = json.loads(run("store", "check", str(backup), "-o", "json").out)
    assert (whole["whole"], whole["keys"], whole["revision"]) == (True, 3, 4)
    status, out, err = run("store", "restore", str(backup), "--path", str(new))
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert "holds store.db of a store already" in err
    status, out, err = run("store", "check", "--path", str(new))
    assert (status, out) == (0, f"{new / 'store.db'}: whole; 3 keys and 1 leases at revision {begin}\n")
    status, out, _ = run("store", "stats", "--path", str(new), "--json")
    told = json.loads(out)
    assert (told["revision"], told["compact_revision"], told["keys"], told["changes"]) == (
        begin,
        begin,
        3,
        0,
    )


def test_the_configured_path_is_the_default(run: Run, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    status, out, _ = run("store", "compact", "--set", f"store.path={store}")
    assert status == 0
    assert out.endswith("history below revision 4 is dropped\n")
    status, out, _ = run("store", "stats", "--set", f"store.path={store}")
    assert "changes           1" in out


def test_everything_goes_out_and_in(run: Run, tmp_path: Path) -> None:
    store, new, lines = make_store(tmp_path / "store"), tmp_path / "new", tmp_path / "lines"
    assert run("store", "export", str(lines), "--path", str(store))[:2] == (0, f"{lines}: 3 keys\n")
    assert len(lines.read_text().splitlines()) == 5
    status, _, err = run("store", "export", str(lines), "--path", str(store))
    assert status == 1
    assert "exists already" in err
    status, out, err = run("store", "import", str(lines), "--path", str(new))
    assert (status, out, err) == (0, f"{new}: 3 keys and 1 leases imported from {lines}\n", "")
    status, out, err = run("store", "import", str(lines), "--path", str(new))
    assert (status, len(err.splitlines())) == (1, 1)
    assert "--overwrite" in err
    assert run("store", "import", str(lines), "--path", str(new), "--overwrite")[0] == 0
    command = [*DISCOVERY, "store", "export", "-", "--path", str(new)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == lines.read_text().splitlines()[1:]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("restore", "nothing.db"), "does not exist"),
        (("restore", "noise"), "damaged"),
        (("check", "noise"), "corrupt"),
        (("check",), "holds no store"),
        (("compact",), "holds no store"),
        (("stats",), "holds no store"),
        (("export", "out"), "holds no store"),
        (("import", "nothing"), "cannot be read"),
        (("import", "noise"), "line 1"),
        (("snapshot", "noise"), "exists already"),
        (("snapshot", "new", "--node", "http://127.0.0.1:1"), "no "),
        (("stats", "--node", "http://127.0.0.1:1"), "no node answers"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "noise").write_bytes(b"\xa5" * 5_000)
    names = ("noise", "nothing", "nothing.db", "out", "new")
    files = [str(tmp_path / word) if word in names else word for word in arguments]
    where = () if arguments[0] == "snapshot" or "--node" in arguments else ("--path", str(tmp_path / "store"))
    status, out, err = run("store", *files, *where)
    assert (status in (1, 2), out, len(err.splitlines())) == (True, "", 1)
    assert said in err
    assert not (tmp_path / "store" / "store.db").exists() or arguments[0] == "import"
    assert {path.name for path in tmp_path.iterdir()} <= {"noise", "store"}


def test_a_store_in_use_is_left_alone(run: Run, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    lock = DirectoryLock(store)
    for arguments in (("check",), ("compact",), ("stats",), ("export", str(tmp_path / "out"))):
        status, _, err = run("store", *arguments, "--path", str(store))
        assert (status, len(err.splitlines())) == (2, 1)
        assert f"in use by another process (pid {os.getpid()})" in err
    lock.release()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_progress_is_drawn_on_a_terminal_only(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 30)
    backup = tmp_path / "backup.db"
    write_snapshot(store / "store.db", backup)
    leader, follower = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "discovery",
        "store",
        "restore",
        str(backup),
        "--path",
        str(tmp_path / "new"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=follower
    ) as child:
        os.close(follower)
        drawn = b""
        try:
            while select.select([leader], [], [], 20)[0] and (part := os.read(leader, 4096)):
                drawn += part
        except OSError:
            pass  # EIO: the other end is closed
        assert child.stdout is not None
        assert child.stdout.read().startswith(f"{tmp_path / 'new'}: restored from".encode())
    os.close(leader)
    assert child.returncode == 0
    assert b"copying" in drawn or b"checking" in drawn or b"waiting" in drawn

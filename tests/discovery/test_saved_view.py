"""The last view on disk: what comes back, what is thrown away, and what a node survives on the way."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from discovery import saved_view
from discovery.errors import ConfigError
from discovery.kv.contract import KV, Event
from discovery.saved_view import FILE_NAME, Saved, SavedView
from tests.support.node import ROOT, wait_for

KVS = [KV(b"/skydns/%04d" % n, b"v%d" % n, 5 + n, 6 + n, 2, n % 3) for n in range(500)]
LAST = (1 << 63) - 1


class Wall:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    directory: Path, prefix: str = "/skydns", wall: Wall | None = None
) -> AsyncIterator[SavedView]:
    saved = SavedView(directory, prefix, now=wall or Wall())
    await saved.open()
    try:
        yield saved
    finally:
        await saved.close()


async def loaded(directory: Path, prefix: str = "/skydns", wall: Wall | None = None) -> Saved | None:
    async with opened(directory, prefix, wall) as saved:
        return await saved.load()


async def save(directory: Path) -> None:
    async with opened(directory) as saved:
        saved.restore(KVS, 600)


# ---------------------------------------------------------------- what comes back


async def test_nothing_was_saved_yet(tmp_path: Path) -> None:
    assert await loaded(tmp_path / "new") is None
    assert await loaded(tmp_path / "new") is None
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_a_view_comes_back_whole(tmp_path: Path) -> None:
    await save(tmp_path)
    assert await loaded(tmp_path) == Saved(KVS, 600, 0.0)
    odd = [KV(bytes(range(256)), bytes(range(256)), LAST, LAST, LAST, LAST), KV(b"/skydns/a", b"", 1, 1, 1)]
    async with opened(tmp_path) as saved:
        saved.restore(odd, LAST)
    assert await loaded(tmp_path) == Saved(odd, LAST, 0.0)


async def test_changes_come_back_in_their_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as saved:
        saved.restore(KVS[:3], 10)
        saved.apply([Event(KV(b"/skydns/0001", b"new", 6, 11, 3))], 11)
        saved.apply([Event(KV(b"/skydns/0000", b"", 0, 12, 0), True)], 12)
        saved.apply([Event(KV(b"/skydns/0002", b"", 0, 13, 0), True)], 13)
        saved.apply([Event(KV(b"/skydns/0002", b"back", 14, 14, 1))], 14)
    back = [KV(b"/skydns/0001", b"new", 6, 11, 3), KV(b"/skydns/0002", b"back", 14, 14, 1)]
    assert await loaded(tmp_path) == Saved(back, 14, 0.0)
    async with opened(tmp_path) as saved:  # changes alone, on what was there
        saved.apply([Event(KV(b"/skydns/0001", b"", 0, 15, 0), True)], 15)
    found = await loaded(tmp_path)
    assert found is not None
    assert (found.kvs, found.revision) == (back[1:], 15)


async def test_what_was_loaded_anew_replaces_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as saved:
        saved.restore(KVS, 600)
        saved.apply([Event(KV(b"/skydns/x", b"x", 601, 601, 1))], 601)
    async with opened(tmp_path) as saved:
        saved.apply([Event(KV(b"/skydns/y", b"y", 602, 602, 1))], 602)
        saved.restore(KVS[7:9], 700)
    assert await loaded(tmp_path) == Saved(KVS[7:9], 700, 0.0)


async def test_the_age_counts_from_the_last_time_the_view_was_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall()
    async with opened(tmp_path, wall=wall) as saved:
        saved.restore(KVS, 600)
    async with opened(tmp_path, wall=wall) as saved:
        await saved.load()
        wall.now += 30
        saved.confirm()  # nothing has changed, which is noted but seldom
        wall.now += 70
        saved.confirm()
        wall.now += 5
    found = await loaded(tmp_path, wall=wall)
    assert found is not None
    assert (found.age, found.revision, len(found.kvs)) == (5.0, 600, 500)
    wall.now -= 1000  # a clock that was set back
    found = await loaded(tmp_path, wall=wall)
    assert found is not None
    assert found.age == 0.0


async def test_all_but_the_last_second_is_on_disk_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_view, "SAVE_EVERY", 0.01)
    async with opened(tmp_path / "one") as saved:
        saved.restore(KVS, 600)
        await on_disk(tmp_path, b"/skydns/0499")
        saved.apply([Event(KV(b"/skydns/x", b"x", 601, 601, 1))], 601)
        await on_disk(tmp_path, b"/skydns/x")


async def on_disk(tmp_path: Path, key: bytes) -> None:
    """Looks at a copy of the files, as another node would find them after a crash."""
    end = time.monotonic() + 10
    while True:
        assert time.monotonic() < end
        copy = tmp_path / f"copy{time.monotonic_ns()}"
        copy.mkdir()
        for path in (tmp_path / "one").iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        with closing(sqlite3.connect(copy / FILE_NAME)) as connection:
            if connection.execute("SELECT count(*) FROM kv WHERE key = ?", (key,)).fetchone() == (1,):
                return
        await asyncio.sleep(0.01)


# ---------------------------------------------------------------- what is thrown away


async def test_a_view_of_another_prefix_is_thrown_away(tmp_path: Path) -> None:
    await save(tmp_path)
    assert await loaded(tmp_path, "/other") is None
    assert await loaded(tmp_path) is None  # it was begun anew


async def test_a_file_of_another_format_is_begun_anew(tmp_path: Path) -> None:
    await save(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version=99")
    assert await loaded(tmp_path) is None
    await save(tmp_path)
    assert await loaded(tmp_path) == Saved(KVS, 600, 0.0)


@pytest.mark.parametrize("damage", ["head", "middle", "short"])
async def test_a_damaged_file_is_begun_anew_and_told(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    await save(tmp_path)
    file = tmp_path / FILE_NAME
    content = bytearray(file.read_bytes())
    assert len(content) > 5 * 4096
    if damage == "head":
        content[:100] = b"?" * 100
    elif damage == "middle":
        content[3 * 4096 :] = b"?" * (len(content) - 3 * 4096)
    else:
        del content[3 * 4096 :]
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert await loaded(tmp_path) is None
    assert str(file) in caplog.text
    await save(tmp_path)
    assert await loaded(tmp_path) == Saved(KVS, 600, 0.0)


# ---------------------------------------------------------------- what a node survives


@pytest.mark.slow
async def test_closing_in_the_middle_of_a_save_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saved_view, "SAVE_EVERY", 0.0)
    many = [KV(b"/skydns/%06d" % n, bytes(100), 1, 1, 1) for n in range(20_000)]
    for turns in range(1, 6):
        async with opened(tmp_path) as saved:
            saved.restore(many, 100 + turns)
            for _ in range(turns):
                await asyncio.sleep(0)  # by and by into the writing of it
            saved.apply([Event(KV(b"/skydns/x", b"%d" % turns, 1, 200 + turns, 1))], 200 + turns)
        found = await loaded(tmp_path)
        assert found is not None
        assert (found.revision, len(found.kvs)) == (200 + turns, 20_001)
        assert found.kvs[-1].value == b"%d" % turns
    assert not caplog.records


async def test_closing_twice_is_allowed(tmp_path: Path) -> None:
    async with opened(tmp_path) as saved:
        await saved.close()


async def test_a_full_disk_is_told_once_and_what_was_missed_is_saved_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saved_view, "SAVE_EVERY", 0.005)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = [KV(b"/skydns/big%d" % n, bytes(100_000), 1, 1, 1) for n in range(20)]
    async with opened(tmp_path) as saved:
        saved.restore(KVS[:1], 10)
        with caplog.at_level(logging.INFO):
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # no file may be larger
            try:
                saved.restore(big, 20)
                await said(caplog, "can't be kept")
                saved.apply([Event(KV(b"/skydns/x", b"x", 21, 21, 1))], 21)
                await asyncio.sleep(0.05)  # it is tried again and again
                assert caplog.text.count("can't be kept") == 1
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await said(caplog, "is kept again")
    found = await loaded(tmp_path)
    assert found is not None
    assert (found.revision, len(found.kvs)) == (21, 21)


async def said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    end = time.monotonic() + 10
    while words not in caplog.text:
        assert time.monotonic() < end, f"nobody said {words!r}"
        await asyncio.sleep(0.005)


async def test_a_folder_that_cannot_be_is_told_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose another folder") as refused:
        await loaded(tmp_path / "file")
    assert refused.value.field == "store.path"


@pytest.mark.slow
async def test_two_nodes_on_one_folder_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(ConfigError, match="a folder of its own"):
            await loaded(tmp_path)
    assert await loaded(tmp_path) is None


CHILD = """
import asyncio, sys
from pathlib import Path
from discovery.kv.contract import KV, Event
from discovery.saved_view import SavedView

async def main():
    saved = SavedView(Path(sys.argv[1]), "/skydns")
    await saved.open()
    kvs = lambda n: [KV(b"/skydns/%04d" % key, b"%d" % n, 1, n, 1) for key in range(2000)]
    saved.restore(kvs(1), 1)
    n = 1
    while True:
        n += 1
        saved.apply(map(Event, kvs(n)), n)
        print(n, flush=True)
        await asyncio.sleep(0.02)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1.7, 2.0, 2.4])
def test_killed_in_the_middle_it_is_whole_and_but_a_moment_old(tmp_path: Path, moment: float) -> None:
    """Each revision gives all keys its number, so that a torn state would show."""
    log = tmp_path / "said"
    with log.open("wb") as out:
        command = [sys.executable, "-c", CHILD, str(tmp_path / "view")]
        child = subprocess.Popen(command, stdout=out, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: log.stat().st_size > 0, 60, "it runs")
        time.sleep(moment)
        early = log.read_text().split()[-1]
        time.sleep(1.5)
    finally:
        child.kill()
        child.wait()
    found = asyncio.run(loaded(tmp_path / "view"))
    assert found is not None
    assert {kv.value for kv in found.kvs} == {b"%d" % found.revision}
    assert len(found.kvs) == 2000
    assert int(early) <= found.revision <= int(log.read_text().split()[-1])

"""The child of a managed member, with programs in etcd's place that do what it does when things go wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv import member_process
from discovery.kv.member_process import REMOVED, EtcdProcess, Line, find_binary, read_line, version_said
from tests.support.node import ROOT, wait_for

LIMIT = 60.0  # seconds


def program(folder: Path, script: str) -> str:
    file = folder / "etcd"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


@asynccontextmanager
async def running(script: str) -> AsyncIterator[EtcdProcess]:
    process = EtcdProcess(lambda: ["/bin/sh", "-c", script])
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110  # what is waited for is another process's
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------- its log


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (
            b'{"level":"info","ts":"2026-01-01T00:00:00Z","caller":"a.go:1","msg":"ready","raft-term":2}\n',
            Line(logging.DEBUG, "ready raft-term=2"),
        ),
        (b'{"level":"warn","msg":"slow","took":"1s"}', Line(logging.INFO, "slow took=1s")),
        (b'{"level":"error","msg":"no room","stacktrace":"x"}', Line(logging.ERROR, "no room")),
        (b'{"level":"fatal","msg":"gone","error":"panic"}', Line(logging.ERROR, "gone error=panic")),
        (b'{"msg":7}', Line(logging.ERROR, "7")),
        (
            b"panic: tocommit(8) is out of range\n",
            Line(logging.INFO, "panic: tocommit(8) is out of range", is_plain=True),
        ),
        (b"[1,2]\n", Line(logging.INFO, "[1,2]", is_plain=True)),
        (b"\xff\xfe\n", Line(logging.INFO, "\ufffd\ufffd", is_plain=True)),
        (b"\n", Line(logging.INFO, "", is_plain=True)),
    ],
)
def test_lines_of_its_log_are_json_or_as_its_libraries_print_them(raw: bytes, line: Line) -> None:
    assert read_line(raw) == line


async def test_what_it_thinks_of_its_flags_is_its_last_word() -> None:
    async with running("echo 'error verifying flags' >&2; echo 'usage' >&2; exit 2") as process:
        await until(process.ended.is_set)
        assert process.last_words == "error verifying flags"


async def test_its_lines_are_in_our_log_at_our_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "discovery.etcd")
    script = """echo '{"level":"info","msg":"one"}' >&2; echo two >&2; echo '{"level":"error","msg":"three"}' >&2"""
    async with running(f"{script}; exec sleep 60"):
        await until(lambda: len(caplog.records) >= 3)
    assert [(each.levelname, each.message) for each in caplog.records[:3]] == [
        ("DEBUG", "one"),
        ("INFO", "two"),
        ("ERROR", "three"),
    ]


async def test_a_line_without_end_is_left_out_and_the_next_ones_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "discovery.etcd")
    async with running("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo after >&2; exec sleep 60"):
        await until(lambda: "after" in caplog.messages)


# ---------------------------------------------------------------- the program


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for binary in ("no-such-etcd", str(tmp_path / "text"), str(tmp_path)):
        with pytest.raises(
            ConfigError, match=rf"store\.member\.binary: there is no program {binary}: install etcd"
        ):
            find_binary(binary)
    assert find_binary("sh").endswith("/sh")


async def test_what_it_says_of_its_version(tmp_path: Path) -> None:
    assert await version_said(program(tmp_path, 'echo "etcd Version: 3.4.23"')) == "etcd Version: 3.4.23\n"
    (tmp_path / "etcd").write_bytes(b"\x7fELF broken")
    with pytest.raises(ConfigError, match=r"etcd can't be run: Exec format error"):
        await version_said(str(tmp_path / "etcd"))


# ---------------------------------------------------------------- its life


async def test_settings_of_another_etcd_do_not_reach_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "discovery.etcd")
    monkeypatch.setenv("ETCD_DATA_DIR", "/var/lib/etcd")
    monkeypatch.setenv("ETCDX", "1")
    async with running("env >&2; echo done >&2; exec sleep 60"):
        await until(lambda: "done" in caplog.messages)
    assert not [line for line in caplog.messages if line.startswith("ETCD_")]
    assert "ETCDX=1" in caplog.messages


async def test_an_interrupt_on_the_terminal_is_not_for_it() -> None:
    async with running("exec sleep 60") as process:
        assert os.getsid(process.pid) == process.pid != os.getsid(0)


async def test_it_is_asked_to_end_and_ends_before_stop_returns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "discovery.etcd")
    mark = tmp_path / "ended"
    script = f"trap 'echo > {mark}; exit 0' TERM; echo up >&2; while :; do sleep 0.01; done"
    async with running(script) as process:
        pid = process.pid
        await until(lambda: "up" in caplog.messages)
        await process.stop()
        assert process.pid == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert mark.exists()
    await process.stop()


async def test_what_the_cluster_removed_is_not_started_again(caplog: pytest.LogCaptureFixture) -> None:
    said = f'{{"level":"error","msg":"the member has been {REMOVED}"}}'
    async with running(f"echo '{said}' >&2") as process:
        await until(process.removed.is_set)
        await until(process.ended.is_set)
        assert process._keeping is not None
        await process._keeping
        assert process.restarts == 0
    assert not [each for each in caplog.messages if "started again" in each]


@pytest.mark.slow
async def test_one_that_ends_is_started_again_later_and_later_with_its_last_words_in_our_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running("""echo '{"level":"fatal","msg":"disk is gone"}' >&2; exit 7""") as process:
        await until(lambda: process.restarts >= 2)
        assert process.ended.is_set()
        assert process.last_words == "disk is gone"
    told = [each for each in caplog.messages if "started again" in each]
    assert told[0] == "etcd ended (7) and is started again in 0.5 s: disk is gone"
    assert told[1] == "etcd ended (7) and is started again in 1.0 s: disk is gone"


@pytest.mark.slow
async def test_one_whose_program_has_gone_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    binary = program(tmp_path, "exec sleep 60")
    process = EtcdProcess(lambda: [binary])
    await process.start()
    os.unlink(binary)
    os.kill(process.pid, signal.SIGKILL)
    # with setpriv the child starts and ends at once; without it can't be started: told either way, and tried again
    await until(lambda: process.restarts >= 2)
    program(tmp_path, "exec sleep 60")
    await until(
        lambda: process.pid != 0 and Path(f"/proc/{process.pid}/comm").read_text() in ("sleep\n", "etcd\n")
    )
    await process.stop()
    assert "etcd ended (-9) and is started again in 0.5 s: it said nothing" in caplog.messages


@pytest.mark.slow
def test_it_ends_with_us_however_we_end(tmp_path: Path) -> None:
    script = (
        "import asyncio\n"
        "from discovery.kv.member_process import EtcdProcess\n"
        "async def main():\n"
        "    process = EtcdProcess(lambda: ['sleep', '600'])\n"
        "    await process.start()\n"
        "    print(process.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", LIMIT, "the child runs")
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def is_gone() -> bool:
        try:
            return " Z " in Path(f"/proc/{child}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_for(is_gone, LIMIT, "the child ends with its parent")


async def test_one_that_does_not_end_is_killed_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "discovery.etcd")
    monkeypatch.setattr(member_process, "STOP_LIMIT", 0.2)
    async with running("trap '' TERM; echo up >&2; while :; do sleep 0.01; done") as process:
        await until(lambda: "up" in caplog.messages)
        pid = process.pid
        await process.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [each for each in caplog.messages if "did not end within" in each]


async def test_without_setpriv_it_runs_and_what_is_lost_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with running("while :; do :; done") as process:
        assert process.pid
    assert "there is no setpriv (util-linux): if this node is killed, its etcd goes on" in caplog.messages

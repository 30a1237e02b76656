"""What a group reads at once and writes at once is what it would have read and written one by one."""

from __future__ import annotations

import random
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from discovery.kv.bulk import SIZES, chunks
from discovery.kv.group import Write, WriteGroup
from discovery.kv.pending import Pending
from discovery.kv.sqlite_file import close_writer, connect_writer
from discovery.kv.writer import Writer


def test_chunks_are_as_large_as_a_statement_takes() -> None:
    assert [len(chunk) for chunk in chunks(range(SIZES[-1] * 2 + 5))] == [SIZES[-1], SIZES[-1], 5]
    assert list(chunks([])) == []


@pytest.mark.parametrize("count", [1, 2, 4, 5, 17, 64, 255, 256, 257, 600])
def test_any_number_of_rows_goes_in_and_comes_out(tmp_path: Path, count: int) -> None:
    connection = connect_writer(tmp_path / "store.db")
    keys = [bytes([n % 256, n // 256, 0, 0x2C, 0x20]) for n in range(count)]
    first = Pending(connection)
    for n, key in enumerate(keys):
        first.put((key, n + 1, n + 2, n + 3, n, b"v%d" % n))
        first.log((n + 2, 0, key, n + 1, n + 3, n, b"" if n % 2 else None))
        first.grant(n + 1, 10)
    first.finish()
    second = Pending(connection)
    second.look([*keys, b"absent"], [*range(1, count + 1), 10**18])
    for n, key in enumerate(keys):
        assert second.state(key) == (n + 1, n + 2, n + 3, n)
        assert second.has_lease(n + 1)
        second.delete(key)
    assert second.state(b"absent") is None
    assert not second.has_lease(10**18)
    second.finish()
    assert connection.execute("SELECT count(*) FROM kv").fetchone() == (0,)
    assert connection.execute("SELECT count(*), sum(value IS NULL) FROM log").fetchone() == (
        count,
        (count + 1) // 2,
    )
    close_writer(connection)


def test_a_group_takes_the_same_few_statements_whatever_it_holds(tmp_path: Path) -> None:
    """Counted, not timed: a statement a row would make writers wait beside a busy event loop."""
    connection = connect_writer(tmp_path / "store.db")
    writer = Writer(connection, tmp_path / "store.db", lambda group: None)
    said: list[str] = []
    connection.set_trace_callback(said.append)

    def write(numbers: range) -> int:
        said.clear()
        puts = [(b"%d" % n, 7 + n % 2) for n in numbers]
        jobs = [
            Write(partial(WriteGroup.put, key=key, value=b"", lease=lease), [key], [lease])
            for key, lease in puts
        ]
        assert not [answer for answer in writer.run(jobs).results if not isinstance(answer, int)]
        return len(said)

    writer.run([lambda group: group.grant(60, 7), lambda group: group.grant(60, 8)])
    assert write(range(16)) == write(range(16)) == write(range(250)) <= 7
    connection.set_trace_callback(None)
    close_writer(connection)


def test_hints_change_nothing(tmp_path: Path, rng: random.Random) -> None:
    """The same random jobs with all hints, with none, and with wrong ones leave the same tables."""
    script = []
    for _ in range(300):
        kind = rng.choice(["put", "put", "delete", "range", "grant", "expire"])
        script.append((kind, b"%d" % rng.randrange(20), rng.randrange(1, 6)))

    def job(kind: str, key: bytes, lease: int) -> Write[object]:
        def run(group: WriteGroup) -> object:
            if kind == "put":
                return group.put(key, b"v", lease)
            if kind == "delete":
                return group.delete(key, b"")
            if kind == "range":
                return group.delete(key, key + b"\xff")
            if kind == "grant":
                return group.grant(60, lease)
            group.expire([lease])
            return None

        return Write(run, [key], [lease])

    def tables(hints: str) -> list[list[tuple[object, ...]]]:
        (tmp_path / hints).mkdir()
        file = tmp_path / hints / "store.db"
        connection = connect_writer(file)
        writer = Writer(connection, file, lambda group: None)
        jobs = [job(*each) for each in script]
        for write in jobs:
            if hints != "all":
                write.keys, write.leases = ((b"other",), (99,)) if hints == "wrong" else ((), ())
        for first in range(0, len(jobs), 37):
            writer.run(jobs[first : first + 37])
        found = [dump(connection, table) for table in ("kv", "log", "lease", "meta")]
        close_writer(connection)
        return found

    assert tables("all") == tables("none") == tables("wrong")


def dump(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()

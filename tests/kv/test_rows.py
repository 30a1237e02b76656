"""What one read transaction shows, and history in pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.kv.contract import KV, Compacted, Corrupt, Delete, Op, Put, Unavailable
from discovery.kv.lane import Lane
from discovery.kv.rows import HISTORY_REVISIONS, HISTORY_ROWS, Reader, ReadView
from discovery.kv.sqlite_file import close_writer, connect_reader, connect_writer
from discovery.kv.writer import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    connection = connect_writer(tmp_path / "store.db")
    yield Writer(connection, tmp_path / "store.db", lambda group: None)
    close_writer(connection)


@pytest.fixture
def connection(writer: Writer, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Opened after the file was made, and closed before it."""
    connection = connect_reader(tmp_path / "store.db")
    yield connection
    connection.close()


def txn(writer: Writer, ops: list[Op], times: int = 1) -> None:
    writer.run([lambda group: group.txn([], ops, [], 0)] * times)


def test_a_page_ends_with_a_whole_revision(writer: Writer, connection: sqlite3.Connection) -> None:
    txn(writer, [Put(b"%d" % number, b"") for number in range(HISTORY_ROWS - 1)], times=3)  # revisions 2 to 4
    view = ReadView(connection)
    batches, following = view.history(b"", b"\0", 1, 5)
    assert [(batch.revision, len(batch.events)) for batch in batches] == [
        (2, HISTORY_ROWS - 1),
        (3, HISTORY_ROWS - 1),
    ]
    assert following == 4
    batches, following = view.history(b"", b"\0", 4, 5)
    assert [batch.revision for batch in batches] == [4]
    assert following == 5


def test_a_page_looks_at_a_bounded_part_of_the_log(writer: Writer, connection: sqlite3.Connection) -> None:
    txn(writer, [Put(b"elsewhere", b"")], times=HISTORY_REVISIONS)
    txn(writer, [Put(b"here", b"")])
    view = ReadView(connection)
    assert view.history(b"here", b"", 1, view.revision + 1) == ([], 1 + HISTORY_REVISIONS)
    batches, following = view.history(b"here", b"", 1 + HISTORY_REVISIONS, view.revision + 1)
    assert ([batch.revision for batch in batches], following) == ([view.revision], view.revision + 1)


def test_compacted_history_is_not_shown_while_its_rows_are_still_there(
    writer: Writer, connection: sqlite3.Connection
) -> None:
    txn(writer, [Put(b"a", b"")], times=5)
    writer.run([lambda group: group.compact(4)])
    with pytest.raises(Compacted):
        ReadView(connection).history(b"a", b"", 3, 7)
    assert [batch.revision for batch in ReadView(connection).history(b"a", b"", 4, 7)[0]] == [4, 5, 6]


def test_a_group_of_reads_sees_one_state(
    tmp_path: Path, writer: Writer, connection: sqlite3.Connection
) -> None:
    txn(writer, [Put(b"a", b"1")])
    reader = Reader(connection, tmp_path / "store.db")

    def write_meanwhile(view: ReadView) -> None:
        txn(writer, [Put(b"a", b"2"), Delete(b"none")])

    answers = reader.run(
        [
            lambda view: view.range(b"a", b"", 0, False),
            write_meanwhile,
            lambda view: view.range(b"a", b"", 0, False),
        ]
    )
    assert answers.results[0] == answers.results[2]
    (later,) = reader.run([lambda view: view.range(b"a", b"", 0, False).kvs]).results
    assert later == [KV(b"a", b"2", 2, 3, 2, 0)]


def test_a_read_that_fails_says_so_in_our_words(tmp_path: Path, connection: sqlite3.Connection) -> None:
    reader = Reader(connection, tmp_path / "store.db")
    wrong = reader.run([lambda view: view.connection.execute("SELECT nothing"), lambda view: view.revision])
    assert isinstance(wrong.results[0], Unavailable)
    assert wrong.results[1] == 1
    with (tmp_path / "store.db").open("r+b") as file:
        file.write(bytes(100))
    (tmp_path / "store.db-wal").write_bytes(b"")
    fresh = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    assert isinstance(
        Reader(fresh, tmp_path / "store.db").run([lambda view: view.revision]).results[0], Corrupt
    )
    fresh.close()


async def test_a_read_that_raises_anything_else_leaves_the_lane_alive(connection: sqlite3.Connection) -> None:
    def broken(view: ReadView) -> int:
        raise ZeroDivisionError("no such thing")

    lane = Lane("reader", Reader(connection, Path("store.db")).run)
    with pytest.raises(Unavailable, match="no such thing"):
        await lane.do(broken)
    assert await lane.do(lambda view: view.revision) == 1
    await lane.close()

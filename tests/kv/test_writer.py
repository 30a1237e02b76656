"""One durable transaction for many writes: refusals, failures and the revision."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from discovery.kv.bulk import SIZES
from discovery.kv.contract import InvalidRequest, Unavailable
from discovery.kv.group import TRIM_ROWS, WriteGroup
from discovery.kv.sqlite_file import close_writer, connect_writer, read_meta
from discovery.kv.writer import Writer


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect_writer(tmp_path / "store.db")
    yield connection
    close_writer(connection)


@pytest.fixture
def published() -> list[WriteGroup]:
    return []


@pytest.fixture
def writer(tmp_path: Path, connection: sqlite3.Connection, published: list[WriteGroup]) -> Writer:
    return Writer(connection, tmp_path / "store.db", published.append)


def count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_group_is_one_transaction_and_each_job_a_revision(
    connection: sqlite3.Connection, writer: Writer, published: list[WriteGroup]
) -> None:
    numbers = range(SIZES[-1] * 2 + 3)
    answers = writer.run([partial(WriteGroup.put, key=b"%d" % n, value=b"", lease=0) for n in numbers])
    assert list(answers.results) == [n + 2 for n in numbers]
    assert answers.publish is not None
    assert not published
    answers.publish()
    assert [batch.revision for batch in published[0].batches] == [n + 2 for n in numbers]
    rows = connection.execute("SELECT rev, sub, key FROM log ORDER BY rev").fetchall()
    assert rows == [(n + 2, 0, b"%d" % n) for n in numbers]
    assert read_meta(connection, "revision") == writer.revision == numbers[-1] + 2


def test_a_fault_in_one_job_takes_the_whole_group_back(
    connection: sqlite3.Connection, writer: Writer
) -> None:
    def fault(group: WriteGroup) -> None:
        group.put(b"half", b"", 0)
        raise ZeroDivisionError

    answers = writer.run(
        [
            lambda group: group.put(b"a", b"", 0),
            lambda group: group.delete(b"x", b"y"),  # what waited goes to SQLite for it
            fault,
            lambda group: group.put(b"b", b"", 0),
        ]
    )
    assert [type(result) for result in answers.results] == [Unavailable] * 4
    assert len({id(result) for result in answers.results}) == 4
    assert answers.publish is None
    assert (writer.revision, count(connection, "kv"), count(connection, "log")) == (1, 0, 0)
    assert "ZeroDivisionError" in writer.failure
    assert list(writer.run([lambda group: group.put(b"a", b"", 0)]).results) == [2]
    assert writer.failure == ""


def test_a_refusal_after_a_change_is_a_fault(connection: sqlite3.Connection, writer: Writer) -> None:
    def wrong(group: WriteGroup) -> None:
        group.put(b"half", b"", 0)
        raise InvalidRequest("too late")

    assert isinstance(writer.run([wrong]).results[0], Unavailable)
    assert count(connection, "kv") == 0


def test_a_failed_commit_fails_all_and_the_revision_goes_back(
    tmp_path: Path, connection: sqlite3.Connection, writer: Writer
) -> None:
    connection.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers = writer.run([lambda group: group.put(b"a", b"", 0)] * 3)
    assert [type(result) for result in answers.results] == [Unavailable] * 3
    assert writer.revision == 1
    other.execute("ROLLBACK")
    other.close()
    assert list(writer.run([lambda group: group.trim()]).results) == [False]
    assert "locked" in writer.failure  # nothing was written, so nothing says that it is over
    assert list(writer.run([lambda group: group.put(b"a", b"", 0)] * 3).results) == [2, 3, 4]
    assert writer.failure == ""


def test_history_is_trimmed_in_pieces_and_no_further_than_compacted(
    connection: sqlite3.Connection, writer: Writer
) -> None:
    writer.run([lambda group: group.put(b"a", b"", 0)] * (TRIM_ROWS + 50))
    writer.run([lambda group: group.compact(TRIM_ROWS + 12)])
    assert count(connection, "log") == TRIM_ROWS + 50
    assert list(writer.run([lambda group: group.trim()]).results) == [True]
    assert count(connection, "log") == 50
    assert list(writer.run([lambda group: group.trim()]).results) == [False]
    assert connection.execute("SELECT min(rev), count(*) FROM log").fetchone() == (TRIM_ROWS + 12, 40)


def test_a_job_that_changes_nothing_makes_no_revision(connection: sqlite3.Connection, writer: Writer) -> None:
    before = connection.total_changes
    assert list(
        writer.run([lambda group: group.delete(b"none", b""), lambda group: group.trim()]).results
    ) == [
        (1, 0),
        False,
    ]
    assert (writer.revision, connection.total_changes) == (1, before)


@pytest.mark.parametrize("below", [TRIM_ROWS - 1, TRIM_ROWS, TRIM_ROWS + 1])
def test_the_revision_compacted_at_is_kept(
    connection: sqlite3.Connection, writer: Writer, below: int
) -> None:
    writer.run([lambda group: group.put(b"a", b"", 0)] * (below + 1))  # revisions from 2 on
    writer.run([lambda group: group.compact(below + 2)])
    while writer.run([lambda group: group.trim()]).results[0]:
        pass
    assert connection.execute("SELECT rev FROM log").fetchall() == [(below + 2,)]


def test_a_job_on_a_range_or_a_lease_sees_what_its_group_did_before(
    connection: sqlite3.Connection, writer: Writer
) -> None:
    answers = writer.run(
        [
            lambda group: group.grant(60, 7),
            lambda group: group.put(b"a", b"", 0),
            lambda group: group.put(b"b", b"", 7),
            lambda group: group.delete(b"a", b"b"),
            lambda group: group.put(b"c", b"", 7),
            lambda group: group.expire([7]),
            lambda group: group.delete(b"a", b"\0"),
            lambda group: group.put(b"b", b"", 0),
        ]
    )
    assert list(answers.results)[1:] == [2, 3, (4, 1), 5, None, (6, 0), 7]
    assert connection.execute("SELECT key, version FROM kv").fetchall() == [(b"b", 1)]
    assert count(connection, "lease") == 0
    log = connection.execute("SELECT rev, key, value IS NULL FROM log ORDER BY rev, sub").fetchall()
    assert log[2:5] == [(4, b"a", 1), (5, b"c", 0), (6, b"b", 1)]

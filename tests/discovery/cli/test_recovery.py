"""`discovery cluster restore` and `recover`: what is refused is one line, before anything is changed.

That they do their work is in tests/kv/test_member_recovery.py and tests/cluster.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.discovery.cli.conftest import Run

MANAGED = ("--set", "store.engine=managed-etcd")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("recover",),
            "store.engine: embedded runs no member here: expected managed-etcd, or use `discovery store",
        ),
        (("restore", "x.db", "--set", "store.engine=etcd"), "etcd runs no member here"),
        (("recover", *MANAGED, "--set", "store.member.join=http://127.0.0.1:3379"), "leave it out here"),
        (
            ("recover", *MANAGED, "--set", "store.member.binary=no-such-etcd"),
            "there is no program no-such-etcd",
        ),
        (("recover", *MANAGED, "--set", "store.member.client=nonsense"), "expected a URL such as"),
    ],
)
def test_what_does_not_fit_is_one_line_and_status_2(
    run: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    status, out, err = run("cluster", *words, "--set", f"store.path={tmp_path / 'store'}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "store").exists()


@pytest.mark.cluster
def test_where_there_is_nothing_it_says_so_in_one_line(run: Run, tmp_path: Path) -> None:
    where = ("--set", f"store.path={tmp_path / 'store'}")
    status, out, err = run("cluster", "recover", *MANAGED, *where)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "holds no member's data: name a snapshot with --from" in err
    status, out, err = run("cluster", "restore", str(tmp_path / "nothing.db"), *MANAGED, *where)
    assert (out, err.count("\n")) == ("", 1)
    assert "nothing.db can't be read (No such file or directory)" in err

"""The folder of a managed etcd: its modes, its lock, and what is written there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from discovery.errors import ConfigError
from discovery.kv.member_files import MemberFiles, votes
from discovery.kv.member_plan import Identity

IDENTITY = Identity("n1", "http://10.0.0.1:2380", {"n1": "http://10.0.0.1:2380"}, "t", "new")


def test_everything_is_for_its_owner_alone_whatever_it_was_before(tmp_path: Path) -> None:
    (tmp_path / "etcd").mkdir(mode=0o755)
    (tmp_path / "etcd" / "data").mkdir(mode=0o755)
    files = MemberFiles(tmp_path)
    files.write_identity(IDENTITY)
    files.mark_removed()
    assert files.folder.stat().st_mode & 0o777 == files.data.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in files.folder.iterdir() if file.is_file()} == {0o600}
    files.close()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    files = MemberFiles(tmp_path)
    assert files.identity() is None
    assert not files.is_removed()
    assert not files.has_data()
    learner = msgspec.structs.replace(IDENTITY, cluster_id="ab", learner=True)
    files.write_identity(learner)
    (files.data / "member").mkdir()
    assert files.has_data()
    files.mark_removed()
    files.close()
    again = MemberFiles(tmp_path)
    assert again.identity() == learner
    assert again.is_removed()
    again.close()


def test_one_process_has_it_and_the_other_is_told_who(tmp_path: Path) -> None:
    files = MemberFiles(tmp_path)
    with pytest.raises(ConfigError, match=r"etcd is in use by another process \(pid \d+\)"):
        MemberFiles(tmp_path)
    files.close()
    MemberFiles(tmp_path).close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": 7}', b"\xff"])
def test_a_damaged_identity_is_one_line_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    files = MemberFiles(tmp_path)
    (files.folder / "member.json").write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"member\.json can't be read: .*move .*etcd away and join the cluster anew"
    ):
        files.identity()
    assert not votes(tmp_path)
    files.close()


def test_a_folder_that_can_t_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^store\.path: .*etcd can't be made \(Not a directory\)"):
        MemberFiles(tmp_path / "file")


def test_a_member_votes_when_it_has_data_and_is_no_learner(tmp_path: Path) -> None:
    assert not votes(tmp_path)
    files = MemberFiles(tmp_path)
    files.write_identity(IDENTITY)
    assert not votes(tmp_path)
    (files.data / "member").mkdir()
    assert votes(tmp_path)
    files.write_identity(msgspec.structs.replace(IDENTITY, learner=True))
    assert not votes(tmp_path)
    files.close()

"""`discovery cluster certs`: what it makes, what it shows, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.discovery.cli.conftest import Run


def test_certificates_are_made_checked_and_not_made_twice(run: Run, tmp_path: Path) -> None:
    folder = str(tmp_path / "certs")
    status, out, err = run("cluster", "certs", folder, "--node", "n1=10.0.0.1, n1.example.net")
    assert (status, err) == (0, "")
    assert [line.split("  ")[-1] for line in out.splitlines()] == [
        "STATE",
        "good for 3650 days; made now (new)",
        "good for 365 days; made now (new)",
    ]
    made = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    assert set(made) == {"ca.pem", "ca-key.pem", "n1.pem", "n1-key.pem"}
    assert run("cluster", "certs", folder)[0] == 0
    assert {file.name: file.read_bytes() for file in Path(folder).iterdir()} == made
    status, out, err = run("cluster", "certs", folder, "--check", "--json")
    assert (status, err) == (0, "")
    authority, node = json.loads(out)
    assert (authority["hosts"], authority["trouble"]) == ([], "")
    assert set(node["hosts"]) == {"10.0.0.1", "n1.example.net", "localhost", "127.0.0.1", "::1"}


def test_a_check_of_what_is_broken_exits_with_1_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    run("cluster", "certs", str(folder), "--node", "n1=10.0.0.1")
    (folder / "n1-key.pem").unlink()
    status, out, err = run("cluster", "certs", str(folder), "--check")
    assert (status, err) == (1, "")
    assert out.splitlines()[-1].endswith("its key is missing or another's")
    assert not (folder / "n1-key.pem").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--check", "--force"], "--check only looks"),
        (["--node", "n1"], "expected NAME=ADDRESS[,ADDRESS], such as n1=10.0.0.1; got 'n1'"),
        (["--node", "n1=10.0.0.1,"], "expected NAME=ADDRESS"),
        (["--node", "n1=10.0.0.1", "--node", "n1=10.0.0.2"], "a node is named twice"),
        (["--node", "n1=10.0.0.256"], "node n1: expected an address or a host name; got '10.0.0.256'"),
        ([], "holds no CA: name the nodes with --node"),
        (["--check"], "ca.pem can't be read (No such file or directory)"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    status, out, err = run("cluster", "certs", str(tmp_path / "certs"), *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert said in err

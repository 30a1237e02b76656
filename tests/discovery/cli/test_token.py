"""`discovery token` without a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discovery import names
from discovery.tokens import Role, configured, hashed
from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode


def test_a_token_for_the_configuration_is_let_in_by_its_line(run: Run) -> None:
    ran = run("token", "make", "web", "--role", "register", "--names", "web.prod", "--offline", "--json")
    assert ran.status == 0
    made = json.loads(ran.out)
    assert made["token"] not in made["entry"]
    found = configured([made["entry"]], names.from_text("discovery.internal.")).tokens[hashed(made["token"])]
    assert found.role is Role.REGISTER
    assert found.may_write(names.from_text("i1.web.prod.discovery.internal."))


def test_the_token_stands_alone_on_standard_output(run: Run) -> None:
    ran = run("token", "make", "admin", "--role", "operate", "--offline")
    assert ran.out.count("\n") == 1
    assert f"operate sha256:{hashed(ran.out.strip())}" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--role", "register"), "needs the names"),
        (("--role", "read", "--names", "web"), "leave them out for read"),
        (("--role", "read", "--days", "3"), "leave --days out"),
        (("--role", "root"), "--role"),
    ],
)
def test_what_makes_no_token_is_refused(run: Run, arguments: tuple[str, ...], says: str) -> None:
    ran = run("token", "make", "x", "--offline", *arguments)
    assert ran.status == 2
    assert says in ran.err


def test_the_token_comes_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    file.write_text("dsc_from-the-file\n")
    with HttpNode() as node:
        run("list", "--node", node.url, "--token-file", str(file))
        assert node.headers[-1]["Authorization"] == "Bearer dsc_from-the-file"
        run("list", "--node", node.url, "--token-file", str(file), "--token", "given")
        assert node.headers[-1]["Authorization"] == "Bearer given"
    ran = run("list", "--node", node.url, "--token-file", str(tmp_path / "none"))
    assert ran.status == 2
    assert "--token-file: " in ran.err


def test_certificates_that_cannot_be_used_are_told(run: Run, tmp_path: Path) -> None:
    ran = run("list", "--ca", str(tmp_path / "none.pem"))
    assert ran.status == 2
    assert "none.pem" in ran.err

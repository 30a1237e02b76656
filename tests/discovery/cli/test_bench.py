"""Whom `discovery bench` may load, and its usage; the load is test_load's, a real node tests/e2e/test_bench.py's."""

from __future__ import annotations

import pytest

from tests.discovery.cli.conftest import Run


@pytest.mark.parametrize(
    "arguments",
    [
        "bench dns web.test --server 192.0.2.1:53",
        "bench register --node http://127.0.0.1:1,http://192.0.2.1:8053",
    ],
)
def test_another_machine_is_loaded_only_when_that_is_meant(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    with open("/dev/null") as nobody, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", nobody)
        status, out, err = run(*arguments.split())
    assert (status, out) == (2, "")
    assert err.startswith("discovery: 192.0.2.1 is not this machine: --yes sends it up to ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("dns", "Missing argument 'NAME...'"),
        ("dns a..b", "is not a domain name"),
        ("dns web --type NONE", "is no record type"),
        ("dns web --server x", "--server"),
        ("dns web --count 0", "--count"),
        ("dns web --seconds 601", "--seconds"),
        ("register --clients 101", "--clients"),
        ("register --node ftp://h", "is not the address of a node"),
    ],
)
def test_wrong_usage(run: Run, arguments: str, complaint: str) -> None:
    status, out, err = run("bench", *arguments.split())
    assert (status, out) == (2, "")
    assert complaint in err


def test_no_node(run: Run) -> None:
    status, _, err = run("bench", "register", "--node", "http://127.0.0.1:1")
    assert (status, err.count("\n")) == (1, 1)
    assert "no node answers at http://127.0.0.1:1" in err

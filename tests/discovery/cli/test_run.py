"""What `discovery run` refuses; what it does is in tests/e2e/test_run.py."""

from __future__ import annotations

import pytest

from tests.discovery.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--service web", "Missing argument 'COMMAND...'"),
        ("-- true", "Missing option '--service'"),
        ("--service web --lease-ttl 0 -- true", "needs a lease to keep alive"),
        ("--service web --check tcp -- true", "tcp needs --port"),
        ("--service web --check tcp://h -- true", "expected HOST:PORT"),
        ("--service web --port 70000 -- true", "70000 is not in the range"),
        ("--service web --named-port x -- true", "expected NAME=VALUE"),
        ("--service web --node ftp://h -- true", "is not the address of a node"),
    ],
)
def test_wrong_usage(run: Run, arguments: str, complaint: str) -> None:
    ran = run("run", *arguments.split())
    assert ran.status == 2
    assert complaint in ran.err


@pytest.mark.parametrize(
    ("command", "status", "complaint"),
    [("/nonesuch", 127, "there is no command '/nonesuch'"), ("/etc", 126, "'/etc' cannot be started")],
)
def test_a_command_that_does_not_start(run: Run, command: str, status: int, complaint: str) -> None:
    ran = run("run", "--service", "web", "--", command)
    assert ran.status == status
    assert complaint in ran.err
    assert "nothing was registered" in ran.err

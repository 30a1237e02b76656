"""The agent's file: what it may say, and how it is complained about."""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.agent.declared import DeclaredCheck, probe, read
from discovery.errors import ConfigError

WHOLE = """
lease_ttl: 9
services:
  - service: web.prod
    instance: i1
    host: 10.0.0.1
    port: 8080
    tags: [blue]
    meta: {rack: "4"}
    ports: {metrics: 9100}
    check: {http: "http://127.0.0.1:8080/health", every: 0.5, timeout: 0.2, rise: 1, fall: 2}
  - service: db.prod
    port: 5432
    check: {tcp: "127.0.0.1:5432"}
  - service: jobs
    check: {command: "test -e '/run/my jobs'"}
  - service: names
    check: {dns: {server: "127.0.0.1:53", name: example.com}}
  - service: rpc
    check: {grpc: {target: "127.0.0.1:50051", service: web.Web}}
  - service: always
"""


def file(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    declared = read(file(tmp_path, WHOLE))
    assert declared.lease_ttl == 9
    assert declared == read(file(tmp_path, WHOLE + "# the same\n"))
    assert [service for service, _ in declared.services] == [
        "web.prod",
        "db.prod",
        "jobs",
        "names",
        "rpc",
        "always",
    ]
    web = declared.services["web.prod", "i1"]
    assert web.fields() == {
        "host": "10.0.0.1",
        "port": 8080,
        "tags": ["blue"],
        "meta": {"rack": "4"},
        "ports": {"metrics": 9100},
    }
    assert web.check == DeclaredCheck(
        http="http://127.0.0.1:8080/health", every=0.5, timeout=0.2, rise=1, fall=2
    )
    (database,) = [instance for service, instance in declared.services if service == "db.prod"]
    assert database.endswith("-5432")


def test_an_empty_file_has_no_services(tmp_path: Path) -> None:
    assert not read(file(tmp_path, "# nothing yet\n")).services


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lease_ttl: 0", ":1: lease_ttl: expected int >= 1"),
        ("servces: []", ":1: servces: there is no such key"),
        ("services:\n  - port: 80", "missing required field service"),
        ("services:\n  - service: web\n    prot: 80", ":3: services[0].prot: there is no such key"),
        ("services:\n  - service: web\n    port: http", ":3: services[0].port: expected int, got str"),
        ("services: [{service: web, port: 1}, {service: web, port: 1}]", "is there twice"),
        ("services:\n  - service: web\n    check: {}", ":3: check: expected exactly one of http, tcp"),
        ("services: [{service: web, check: {tcp: 'a:1', http: 'http://b'}}]", "expected exactly one of"),
        ("services: [{service: web, check: {tcp: '80'}}]", "expected HOST:PORT"),
        ("services: [{service: web, check: {http: 'localhost/health'}}]", "http: expected a URL"),
        ("services: [{service: web, check: {command: ''}}]", "command: it is empty"),
        ('services: [{service: web, check: {command: "\'"}}]', "No closing quotation"),
        ("services: [{service: web, check: {tcp: 'a:1', every: 0}}]", "check.every: expected float > 0"),
        ("services: [{service: web, check: {dns: {server: 'a:1', name: b, type: c}}}]", "no record type"),
        ("- web", "expected object, got array"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(file(tmp_path, text))
    assert complaint in raised.value.detail
    assert str(tmp_path / "agent.yaml") in raised.value.detail


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read(tmp_path / "nothing.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / "binary")


async def test_a_commands_words_may_be_listed() -> None:
    assert await probe(DeclaredCheck(command=("test", "a b", "=", "a b")))()

"""`discovery config`: what it shows and what it keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from discovery import config as configuration
from discovery.config import Loaded
from discovery.settings import TABLE, Config, HttpConfig
from tests.discovery.cli.conftest import Run


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_check(run: Run) -> None:
    assert run("config", "check") == (0, "no configuration file: correct\n", "")
    Path("here.yaml").write_text("stale_after: 5")
    assert run("config", "check", "--config", "here.yaml") == (0, "here.yaml: correct\n", "")


def test_check_json(run: Run) -> None:
    assert json.loads(run("config", "check", "--json").out) == {"file": None, "correct": True}
    Path("here.yaml").write_text("stale_after: 5")
    checked = json.loads(run("config", "check", "--json", "--config", "here.yaml").out)
    assert checked == {"file": "here.yaml", "correct": True}


def test_show_says_where_each_value_came_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("discovery.yaml").write_text("stale_after: 5\nzones: [{name: a.test}, {name: b.test}]")
    monkeypatch.setenv("DISCOVERY_LOG__LEVEL", "debug")
    status, out, _ = run("--set", "dns.chaos=false", "config", "show", "--set", "dns.payload_size=600")
    assert status == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in out.splitlines()}
    assert rows["stale_after"] == ["5", "discovery.yaml:1"]
    assert rows["zones[1].name"] == ['"b.test."', "discovery.yaml:2"]
    assert rows["log.level"] == ['"debug"', "$DISCOVERY_LOG__LEVEL"]
    assert rows["dns.chaos"] == ["false", "--set dns.chaos"]
    assert rows["dns.payload_size"] == ["600", "--set dns.payload_size"]
    assert rows["dns.listen"] == ['["127.0.0.1:1053"]', "default"]


def test_show_json_has_every_setting(run: Run) -> None:
    shown = json.loads(run("config", "show", "--json").out)
    assert shown["file"] is None
    assert list(shown["settings"]) == [setting.key for setting in TABLE.settings()]
    assert shown["settings"]["dns.payload_size"] == {"value": 1232, "from": "default"}
    assert shown["settings"]["zones"]["value"][0]["name"] == "discovery.internal."


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_secrets_are_hidden(run: Run, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]) -> None:
    """Settings that are secret cannot be set in this version, so the loaded configuration stands in for it."""
    plain = configuration.load(None, {})
    http = HttpConfig(tokens=("sesame",))
    secret = msgspec.structs.replace(plain, config=Config(http=http))

    def load(*_: object) -> Loaded:
        return secret

    monkeypatch.setattr(configuration, "load", load)
    out = run("config", "show", *form).out
    assert "sesame" not in out
    assert "(hidden)" in out

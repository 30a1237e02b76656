"""discovery.audit: its file, and what becomes of calls when that can't be written."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from discovery.audit import AuditLog, Entry
from discovery.errors import ConfigError

ENTRY = Entry("t", "web", "id", "192.0.2.1", "PUT", "/r", "/p\nx", 201, "done")


def test_a_line_is_one_object_and_the_file_is_opened_anew(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    log = AuditLog(str(file))
    log.write(ENTRY)
    file.rename(tmp_path / "old")
    log.write(ENTRY)
    log.open(str(file))
    log.write(ENTRY)
    log.close()
    assert [len(path.read_text().splitlines()) for path in (tmp_path / "old", file)] == [2, 1]
    assert json.loads(file.read_text())["from"] == "192.0.2.1"
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_nodes_log_and_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        AuditLog().write(ENTRY)
        assert not caplog.records
        AuditLog("log").write(ENTRY)
    assert json.loads(caplog.records[0].getMessage())["who"] == "web"


def test_a_file_that_cannot_be_opened_leaves_the_old_one(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "a"))
    with pytest.raises(ConfigError, match=r"^http\.audit: .*/none/a cannot be written: No such file"):
        log.open(str(tmp_path / "none" / "a"))
    log.write(ENTRY)
    log.close()
    assert (tmp_path / "a").read_text()


def test_a_full_disk_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog("/dev/full")
    log.write(ENTRY)
    log.write(ENTRY)
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        "the audit log /dev/full cannot be written: No space left on device"
    ]

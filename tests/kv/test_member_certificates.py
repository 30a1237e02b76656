"""The certificates that a member is configured with: what keeps it from starting, and what is said of their end."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import msgspec
import pytest

from discovery.errors import ConfigError
from discovery.kv.certificate_files import renew
from discovery.kv.certificates import AUTHORITY_LIFE, DAY, NODE_LIFE
from discovery.kv.member_certificates import CertificateWatch, check_certificates
from discovery.kv.member_plan import MemberSettings
from tests.kv.test_member_plan import settings

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    renew(tmp_path, {"n1": ["10.0.0.1"], "n2": ["10.0.0.2"]}, NOW)
    return tmp_path


def configured(folder: Path, **changed: object) -> MemberSettings:
    mine = settings(
        client="https://10.0.0.1:2379",
        peer="https://10.0.0.1:2380",
        cert=str(folder / "n1.pem"),
        key=str(folder / "n1-key.pem"),
        ca=str(folder / "ca.pem"),
    )
    return msgspec.structs.replace(mine, **changed)


def test_certificates_that_fit_say_when_they_end(folder: Path) -> None:
    assert check_certificates(configured(folder), NOW) == {
        "store.member.ca": NOW + AUTHORITY_LIFE,
        "store.member.cert": NOW + NODE_LIFE,
    }
    assert check_certificates(settings(), NOW) == {}


def test_several_authorities_in_one_file_let_a_cluster_change_from_one_to_the_other(
    folder: Path, tmp_path: Path
) -> None:
    renew(folder / "new", {"n1": ["10.0.0.1"]}, NOW)
    both = folder / "both.pem"
    both.write_bytes((folder / "new" / "ca.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    check_certificates(configured(folder, ca=str(both)), NOW)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"cert": "absent.pem"}, "cert: DIR/absent.pem can't be read: No such file or directory"),
        ({"key": "absent.pem"}, "key: DIR/absent.pem can't be read: No such file or directory"),
        (
            {"ca": "n1-key.pem"},
            "ca: DIR/n1-key.pem is no certificate in PEM: `discovery cluster certs` makes one",
        ),
        ({"key": "ca.pem"}, "key: DIR/ca.pem is no private key in PEM without a password"),
        ({"key": "n2-key.pem"}, "key: DIR/n2-key.pem is not the key of DIR/n1.pem: copy both of one node"),
        ({"ca": "n2.pem"}, "cert: DIR/n1.pem was not issued by DIR/n2.pem: copy both of one folder"),
        (
            {"cert": "n2.pem", "key": "n2-key.pem"},
            "cert: DIR/n2.pem is for localhost, 10.0.0.2, 127.0.0.1, ::1, not for 10.0.0.1: make it with "
            "`discovery cluster certs` DIR --node n1=10.0.0.1",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(folder: Path, changed: dict[str, str], line: str) -> None:
    files = {name: str(folder / file) for name, file in changed.items()}
    with pytest.raises(ConfigError) as refused:
        check_certificates(configured(folder, **files), NOW)
    assert refused.value.detail.replace(str(folder), "DIR").startswith(f"store.member.{line}")


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (NOW + NODE_LIFE, r"cert: .*n1\.pem ended on 2031-01-01: renew it with"),
        (
            NOW - DAY,
            r"cert: .*n1\.pem is good only from 2030-01-01 11:00 UTC on, and it is 2029-12-31 12:00 here",
        ),
    ],
)
def test_a_certificate_out_of_its_time_is_refused(folder: Path, now: datetime.datetime, line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^store\.member\.{line}"):
        check_certificates(configured(folder), now)


def test_its_end_is_told_once_a_day_from_30_days_before_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watch = CertificateWatch(configured(folder), check_certificates(configured(folder), NOW))
    begin = NOW + NODE_LIFE - 31 * DAY
    for minutes in range(0, 4 * 24 * 60, 30):  # four days
        watch.look(begin + datetime.timedelta(minutes=minutes))
    assert caplog.messages == [
        f"store.member.cert ends in {left} days (2031-01-01): renew it with `discovery cluster certs`"
        for left in (30, 29, 28)
    ]


def test_a_renewed_one_is_seen_and_what_broke_is_told_once_a_day(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watch = CertificateWatch(configured(folder), check_certificates(configured(folder), NOW))
    late = NOW + NODE_LIFE - 10 * DAY
    renew(folder, {}, late)
    watch.look(late)
    assert caplog.messages == ["the certificate was renewed"]
    assert watch.ends["store.member.cert"] == late + NODE_LIFE
    (folder / "n1.pem").unlink()
    for _ in range(3):
        watch.look(late)
    assert caplog.messages[1:] == [
        f"store.member.cert: {folder / 'n1.pem'} can't be read: No such file or directory; "
        "new connections between members fail"
    ]
    assert watch.ends["store.member.cert"] == late + NODE_LIFE  # as seen last

"""The folder of a CA: what is made, what is renewed and when, what is broken."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv import certificates
from discovery.kv.certificate_files import Outcome, days_left, look, read_chain, read_key, renew
from discovery.kv.certificates import AUTHORITY_LIFE, DAY, NODE_LIFE

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
NODES = {"n1": ["10.0.0.1"], "n2": ["10.0.0.2", "n2.example.net"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = renew(tmp_path / "certs", NODES, NOW)
    assert reasons(made) == {"ca": "new", "n1": "new", "n2": "new"}
    return tmp_path / "certs"


def reasons(outcomes: list[Outcome] | object) -> dict[str, str]:
    assert isinstance(outcomes, list)
    return {each.entry.name: each.why for each in outcomes}


def troubles(folder: Path, now: datetime.datetime) -> dict[str, str]:
    return {entry.name: entry.trouble for entry in look(folder, now)}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_keys_are_for_their_owner_alone_and_nothing_else_is_left(folder: Path) -> None:
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert modes == {
        **dict.fromkeys(["ca.pem", "n1.pem", "n2.pem"], 0o644),
        **dict.fromkeys(["ca-key.pem", "n1-key.pem", "n2-key.pem"], 0o600),
    }
    assert folder.stat().st_mode & 0o777 == 0o700


def test_nothing_is_made_anew_before_it_is_due(folder: Path) -> None:
    before = contents(folder)
    assert reasons(renew(folder, {}, NOW + NODE_LIFE - 31 * DAY)) == {"ca": "", "n1": "", "n2": ""}
    assert contents(folder) == before


def test_what_ends_within_30_days_is_renewed_with_the_key_and_hosts_it_has(folder: Path) -> None:
    before, late = contents(folder), NOW + NODE_LIFE - 30 * DAY
    assert troubles(folder, late) == {"ca": "", "n1": "ends in 30 days", "n2": "ends in 30 days"}
    outcomes = renew(folder, {}, late)
    assert reasons(outcomes) == {"ca": "", "n1": "ends in 30 days", "n2": "ends in 30 days"}
    assert [each.entry.ends for each in outcomes][1:] == [late + NODE_LIFE] * 2
    assert set(outcomes[2].entry.hosts) >= {"10.0.0.2", "n2.example.net"}
    changed = {name for name, content in contents(folder).items() if content != before[name]}
    assert changed == {"n1.pem", "n2.pem"}  # the old key fits to both, whichever file is read first
    assert troubles(folder, late) == {"ca": "", "n1": "", "n2": ""}


def test_the_authority_is_renewed_with_its_key(folder: Path) -> None:
    late = NOW + AUTHORITY_LIFE - 20 * DAY
    old = read_chain(folder / "n1.pem")
    assert reasons(renew(folder, {}, late))["ca"] == "it ends"
    new_authority = read_chain(folder / "ca.pem")
    assert new_authority[0].not_valid_after_utc == late + AUTHORITY_LIFE
    assert certificates.is_issued_by(old, new_authority)
    assert troubles(folder, late) == {"ca": "", "n1": "", "n2": ""}


def test_force_makes_all_anew_but_the_authority_s_key(folder: Path) -> None:
    before = contents(folder)
    assert set(reasons(renew(folder, {}, NOW, force=True)).values()) == {"forced"}
    same = {name for name, content in contents(folder).items() if content == before[name]}
    assert same == {"ca-key.pem"}
    assert set(troubles(folder, NOW).values()) == {""}


def test_other_addresses_and_new_nodes_get_a_certificate(folder: Path) -> None:
    outcomes = renew(folder, {"n1": ["10.0.0.9"], "n3": ["10.0.0.3"]}, NOW)
    assert reasons(outcomes) == {"ca": "", "n1": "other addresses", "n3": "new", "n2": ""}
    assert reasons(renew(folder, {"n1": ["10.0.0.9"]}, NOW)) == {"ca": "", "n1": "", "n2": "", "n3": ""}


def test_what_is_broken_is_named_and_made_anew(folder: Path) -> None:
    (folder / "n1-key.pem").write_bytes((folder / "n2-key.pem").read_bytes())
    (folder / "n2-key.pem").unlink()
    bad = "its key is missing or another's"
    assert troubles(folder, NOW) == {"ca": "", "n1": bad, "n2": bad}
    assert reasons(renew(folder, {}, NOW)) == {"ca": "", "n1": bad, "n2": bad}
    assert troubles(folder, NOW + NODE_LIFE)["n1"] == f"ended on {NOW + NODE_LIFE:%Y-%m-%d}"
    (folder / "n1.pem").write_text("nothing")
    assert troubles(folder, NOW)["n1"] == "can't be read (no certificate in PEM)"
    with pytest.raises(ConfigError, match=r"n1\.pem: can't be read .*--node n1=ADDRESS"):
        renew(folder, {}, NOW)
    renew(folder, NODES, NOW)
    assert set(troubles(folder, NOW).values()) == {""}


def test_another_authority_s_certificates_are_told_and_left_alone(folder: Path, tmp_path: Path) -> None:
    renew(tmp_path / "other", {"x": ["10.0.0.7"]}, NOW)
    for name in ("x.pem", "x-key.pem"):
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    before = contents(folder)
    assert troubles(folder, NOW)["x"] == "was not issued by this CA"
    outcomes = renew(folder, {}, NOW, force=True)
    assert reasons(outcomes)["x"] == ""
    assert contents(folder)["x.pem"] == before["x.pem"]


@pytest.mark.parametrize("lost", ["ca-key.pem", "ca.pem"])
def test_half_an_authority_is_refused(folder: Path, lost: str) -> None:
    (folder / lost).unlink()
    with pytest.raises(ConfigError, match=rf"{lost}.*"):
        renew(folder, NODES, NOW)


def test_a_key_of_another_authority_is_refused(folder: Path) -> None:
    (folder / "ca-key.pem").write_bytes((folder / "n1-key.pem").read_bytes())
    with pytest.raises(ConfigError, match=r"ca-key\.pem is not the key of .*ca\.pem"):
        renew(folder, {}, NOW)


def test_what_can_t_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no CA: name the nodes with --node"):
        renew(tmp_path / "none", {}, NOW)
    for name in ("ca", "a/b", ".x", "", "n-key"):
        with pytest.raises(ConfigError, match="choose another name"):
            renew(tmp_path / "certs", {name: ["10.0.0.1"]}, NOW)
    with pytest.raises(ConfigError, match="is longer than the 64 characters"):
        renew(tmp_path / "certs", {"n" * 65: ["10.0.0.1"]}, NOW)
    with pytest.raises(ConfigError, match=r"node n1: expected an address or a host name; got 'a\.\.b'"):
        renew(tmp_path / "certs", {"n1": ["a..b"]}, NOW)
    assert not (tmp_path / "certs").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"can't be written: .*: name another folder"):
        renew(tmp_path / "file" / "certs", NODES, NOW)


def test_days_are_whole_ones_left() -> None:
    assert days_left(NOW + 2 * DAY, NOW) == 2
    assert days_left(NOW + 2 * DAY - datetime.timedelta(seconds=1), NOW) == 1


def test_a_key_with_a_password_is_no_key(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    issued = certificates.new_authority(NOW)
    locked = issued.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    )
    (tmp_path / "key.pem").write_bytes(locked)
    with pytest.raises(ValueError, match=r"(?i)password"):
        read_key(tmp_path / "key.pem")

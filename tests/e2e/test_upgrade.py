"""A node reads what earlier versions wrote (tests/fixtures/upgrade), and says what of a later one it does not know."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from discovery.kv import schema
from discovery.kv.member_files import MemberFiles
from discovery.kv.member_plan import MemberSettings, check_identity
from discovery.saved_view import FORMAT
from tests.support.etcd import free_ports
from tests.support.kept import INSTANCES, KEPT
from tests.support.node import RunningNode, run_discovery, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMES = sorted(each.name for each in KEPT.iterdir() if each.is_dir())
MANAGED = [name for name in NAMES if (KEPT / name / "member.json").exists()]
ANSWERS = {
    ("web.prod.discovery.internal.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("blue.tag.web.prod.discovery.internal.", "A"): ["192.0.2.1"],
    ("i2.web.prod.discovery.internal.", "SRV"): ["5 100 81 i2.web.prod.discovery.internal."],
    ("db.discovery.internal.", "AAAA"): ["2001:db8::1"],
    ("db.discovery.internal.", "TXT"): ['"for good"'],
}


def store_of(name: str, folder: Path, file: str = "store.db") -> Path:
    store = folder / "store"
    store.mkdir(mode=0o700)
    shutil.copy(KEPT / name / file, store / file)
    (store / file).chmod(0o600)
    return store


def check_answers(node: RunningNode) -> None:
    for (name, rtype), expected in ANSWERS.items():
        assert node.answers(name, rtype) == expected, (name, rtype)


def test_all_that_the_program_ever_stored_is_kept() -> None:
    """The schema that this program writes is among them: a change of it adds one."""
    kept = set()
    for name in NAMES:
        connection = sqlite3.connect(f"file:{KEPT / name / 'store.db'}?immutable=1", uri=True)
        kept.add(connection.execute("SELECT v FROM meta WHERE k = 'schema'").fetchone()[0])
        connection.close()
    assert kept == set(range(1, schema.SCHEMA_VERSION + 1))
    listed = (KEPT / "README.md").read_text()
    assert all(f"| `{name}` |" in listed for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_store_of_an_earlier_version_goes_on(tmp_path: Path, name: str) -> None:
    store = store_of(name, tmp_path)
    for _ in range(2):  # and again, when it is of this version
        with running_node(store) as node:
            check_answers(node)
            for path, fields in INSTANCES.items():
                status, answer = node.call("GET", f"/v1/services/{path}")
                assert status == 200
                assert_holds(answer, fields)
                if fields["lease_ttl"]:
                    assert answer["lease"]
                    status, beat = node.call("POST", f"/v1/services/{path}/heartbeat")
                    assert (status, beat["lease"], beat["lease_ttl"]) == (200, answer["lease"], 3600)
            assert node.call("PUT", "/v1/services/new.prod/n1", {"host": "192.0.2.9"})[0] in (200, 201)
    assert run_discovery("store", "check", "--path", str(store)).returncode == 0


def assert_holds(answer: Mapping[str, object], fields: Mapping[str, object]) -> None:
    for field in fields.keys() - {"lease_ttl"}:
        assert answer[field] == fields[field], field


@pytest.mark.parametrize("name", MANAGED)
def test_a_saved_view_of_an_earlier_version_answers_while_etcd_is_away(tmp_path: Path, name: str) -> None:
    store = store_of(name, tmp_path, "view.db")
    (port,) = free_ports(1)
    etcd = ["store.engine=etcd", f"store.etcd.endpoints=['http://127.0.0.1:{port}']"]
    with running_node(store, etcd) as node:
        check_answers(node)


@pytest.mark.parametrize("name", MANAGED)
def test_a_member_of_an_earlier_version_is_known(tmp_path: Path, name: str) -> None:
    files = MemberFiles(tmp_path)
    text = (KEPT / name / "member.json").read_text()
    for written in (text, text.replace("{", '{"rack": "r1", ', 1)):  # and of a later one, which says more
        (files.folder / "member.json").write_text(written)
        held = files.identity()
        assert held is not None
        assert held.name == "n1"
        assert held.cluster_id
        settings = MemberSettings("n1", "etcd", "http://127.0.0.1:1", held.peer, {}, "", "", "", "")
        check_identity(held, settings, "folder")
    files.close()


# ---------------------------------------------------------------- what a later version did


def test_a_later_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = store_of("0.1.0", tmp_path)
    connection = sqlite3.connect(store / "store.db")
    connection.execute("UPDATE meta SET v = v + 1 WHERE k = 'schema'")
    connection.commit()
    connection.close()
    before = (store / "store.db").read_bytes()
    done = run_discovery(
        "serve", "--set", f"store.path={store}", "--set", "dns.listen=['127.0.0.1:0']", timeout=60
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"has schema version {schema.SCHEMA_VERSION + 1}, and this program knows" in line
    assert (store / "store.db").read_bytes() == before


def test_a_later_saved_view_is_begun_anew(tmp_path: Path) -> None:
    """It is a copy: the store has it all."""
    store = store_of("0.1.0", tmp_path, "view.db")
    connection = sqlite3.connect(store / "view.db")
    connection.execute(f"PRAGMA user_version={FORMAT + 1}")
    connection.close()
    (port,) = free_ports(1)
    etcd = ["store.engine=etcd", f"store.etcd.endpoints=['http://127.0.0.1:{port}']"]
    with running_node(store, etcd) as node:
        assert node.call("GET", "/readyz")[0] == 503


def test_fields_that_a_later_version_stores_are_kept_and_ignored(tmp_path: Path) -> None:
    store = store_of("0.1.0", tmp_path)
    value = json.dumps({"host": "192.0.2.7", "port": 7, "rack": {"row": 1}, "drain_after": 5})
    with running_node(store) as node:
        path = "/v2/keys/skydns/internal/discovery/prod/late/l1"
        body = f"value={value}".replace(" ", "%20").encode()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert node.call("PUT", path, body, form)[0] == 201
        assert node.answers("late.prod.discovery.internal.", "SRV") == [
            "10 100 7 l1.late.prod.discovery.internal."
        ]
        assert node.call("GET", "/v1/services/late.prod/l1")[1]["host"] == "192.0.2.7"
    with running_node(store) as node:
        assert msgspec.json.decode(node.call("GET", path)[1]["node"]["value"]) == json.loads(value)

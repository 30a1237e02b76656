"""`GET /v1/zone`: BIND's own checker accepts the master file, and reads in it what DNS answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest

from tests.support.node import RunningNode, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

D = "discovery.internal."
REVERSE = "10.in-addr.arpa."
SETTINGS = [
    f"zones=[{{name: {D}, hostmaster: admin.example.com.}}, {{name: second.test.}}]",
    "reverse_zones=[10.0.0.0/8]",
    "node.address=192.0.2.53",
]
KEYS: dict[str, object] = {
    "web/prod/i1": {"host": "10.0.0.1", "port": 80, "text": 'a "quoted" \\ text; with $ and @', "mail": True},
    "web/prod/i2": {"host": "2001:db8::2", "port": 80, "meta": {"version": "1.0", "long": "x" * 240}},
    "web/prod/i3": {
        "host": "10.0.0.1",
        "port": 81,
        "text": "y" * 600,
        "ports": {"http": 8080},
        "tags": ["blue"],
    },
    "alias": {"host": f"web.prod.{D}"},
    "chain": {"host": f"alias.{D}"},
    "outside": {"host": "www.example.com"},
    "outside-port": {"host": "www.example.com", "port": 443},
    "many/a": {"host": "a.example.com"},
    "many/b": {"host": "b.example.com"},
    "loop-a": {"host": f"loop-b.{D}"},
    "loop-b": {"host": f"loop-a.{D}"},
    "mail/m1": {"host": f"web.prod.{D}", "mail": True, "priority": 20},
    "_http/_tcp/direct": {"host": "10.0.0.4", "port": 8000},
    "strange.label/with space": {"host": "10.0.0.5"},
    "dns/apex/a1": {"host": "10.0.0.6", "text": "the apex"},
    "dns/ns/n1": {"host": "10.0.0.7"},
    "short/s1": {"host": "10.0.0.8", "ttl": 1},
    "bad": "not an object",
}


def register(node: RunningNode) -> None:
    for key, value in KEYS.items():
        text = urllib.parse.quote(json.dumps(value))
        path = urllib.parse.quote(f"/v2/keys/skydns/internal/discovery/{'/'.join(_reversed(key))}")
        assert node.call("PUT", f"{path}?value={text}")[0] == 201, key
    fields = {"host": "10.0.1.1", "lease_ttl": 3600}
    assert node.call("PUT", "/v1/services/leased/i1", fields)[0] == 201


def _reversed(key: str) -> list[str]:
    """`web/prod/i1` is written as people read names: the service, then the instance."""
    *service, instance = key.split("/")
    return [*reversed(service), instance]


def zone_file(node: RunningNode, zone: str) -> str:
    with urllib.request.urlopen(f"{node.url}/v1/zone?zone={zone}", timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/dns")
        text = response.read().decode()
        assert isinstance(text, str)
        return text


def checked(folder: Path, zone: str, text: str) -> str:
    """What named-checkzone says of it; all its checks on, none that asks other servers."""
    found = shutil.which("named-checkzone", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail("named-checkzone is missing; install it: apt-get install bind9-utils")
    file = folder / "zone"
    file.write_text(text)
    done = subprocess.run(
        [
            found,
            "-i",
            "local",
            "-k",
            "ignore",
            "-m",
            "fail",
            "-M",
            "fail",
            "-n",
            "fail",
            "-r",
            "fail",
            zone,
            file,
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{said}\n{text}"
    assert said.rstrip().endswith("OK")
    return said


def test_named_checkzone_accepts_every_zone(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", SETTINGS) as node:
        register(node)
        for zone in (D, REVERSE, "second.test."):
            text = zone_file(node, zone)
            said = checked(tmp_path, zone, text)
            assert "warning" not in said.lower(), said
            compared = 0
            read = dns.zone.from_text(text, origin=zone, relativize=False, check_origin=True)
            for owner, rdataset in read.iterate_rdatasets():
                response = node.ask(owner.to_text(), dns.rdatatype.to_text(rdataset.rdtype), tcp=True)
                answered = [rrset for rrset in response.answer if rrset.rdtype == rdataset.rdtype]
                assert answered, (owner, rdataset)
                assert set(answered[0]) == set(rdataset), owner
                compared += 1
            assert compared >= {D: 50, REVERSE: 8, "second.test.": 3}[zone]


def test_an_empty_zone(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        checked(tmp_path, D, zone_file(node, D))


def test_a_zone_of_another_node_is_not_found(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        for name, status in (("other.test.", 404), ("a..b", 400)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                zone_file(node, name)
            with caught.value as error:
                assert error.code == status

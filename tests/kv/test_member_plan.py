"""Which etcd may run, which settings fit together, which data belongs to them, and the flags of each version."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from discovery.errors import ConfigError
from discovery.kv.member_plan import (
    Identity,
    MemberSettings,
    check_identity,
    check_settings,
    flags,
    judge_version,
    new_identity,
)

THREE = {"n1": "http://10.0.0.1:2380", "n2": "http://10.0.0.2:2380", "n3": "http://10.0.0.3:2380"}
TLS = {"cert": "/c/n1.pem", "key": "/c/n1-key.pem", "ca": "/c/ca.pem"}


def settings(**changed: object) -> MemberSettings:
    plain = MemberSettings(
        name="n1",
        binary="etcd",
        client="http://10.0.0.1:2379",
        peer="http://10.0.0.1:2380",
        initial_cluster={},
        join="",
        cert="",
        key="",
        ca="",
    )
    return msgspec.structs.replace(plain, **changed)


def said(version: str) -> str:
    return f"etcd Version: {version}\nGit SHA: abc\nGo Version: go1.19.8\n"


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("3.3.27", "has no learners: use 3.4.22 or later"),
        ("3.5.0", "can damage data: use 3.4.22 or later, or 3.5.7 or later"),
        ("3.5.1", "can damage data"),
        ("3.5.2", "can damage data"),
    ],
)
def test_versions_that_must_not_run(version: str, refused: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^store\.member\.binary: /x/etcd is etcd {version}, which {refused}"
    ):
        judge_version(said(version), "/x/etcd")


@pytest.mark.parametrize(
    ("version", "warning"),
    [
        ("3.4.21", "mended in 3.4.22"),
        ("3.4.22", ""),
        ("3.4.23", ""),
        ("3.5.3", "mended in 3.5.7"),
        ("3.5.6", "mended in 3.5.7"),
        ("3.5.7", ""),
        ("3.6.0", ""),
    ],
)
def test_versions_that_run_and_those_that_are_warned_of(version: str, warning: str) -> None:
    judged = judge_version(said(version), "etcd")
    assert judged.version == tuple(map(int, version.split(".")))
    assert warning in judged.warning
    assert bool(warning) == bool(judged.warning)


def test_what_is_no_etcd_is_refused() -> None:
    with pytest.raises(ConfigError, match="/bin/true does not say which etcd it is"):
        judge_version("", "/bin/true")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"client": "10.0.0.1:2379"},
            "client: expected a URL such as http://10.0.0.1:2379; got '10.0.0.1:2379'",
        ),
        ({"client": "http://10.0.0.1"}, "client: expected a URL such as http://10.0.0.1:2379"),
        ({"peer": "http://10.0.0.1:2380/x"}, "peer: expected a URL such as http://10.0.0.1:2380"),
        ({"peer": "http://0.0.0.0:2380"}, "peer: expected one address or name of this machine"),
        ({"client": "http://0.0.0.0:2379"}, "client: expected one address or name of this machine"),
        ({"client": "http://[::]:2379"}, "client: expected one address or name of this machine"),
        ({"client": "http://10.0.0.1:2380"}, "peer: http://10.0.0.1:2380 is the client URL too"),
        ({"cert": "/c"}, "cert: cert, key and ca belong together"),
        ({"client": "https://10.0.0.1:2379"}, "client: expected http:// as cert, key and ca are not set"),
        (TLS, "client: expected https:// as cert, key and ca are set"),
        ({"join": "http://10.0.0.2:2379", "initial_cluster": THREE}, "join: a member either joins or begins"),
        ({"join": "n2"}, "join: expected the client URL of a member that runs; got 'n2'"),
        ({"join": "https://10.0.0.2:2379"}, "join: expected http:// as cert, key and ca are not set"),
        ({"initial_cluster": THREE | {"n2": "10.0.0.2"}}, "initial_cluster: n2: expected a peer URL"),
        ({"initial_cluster": THREE | {"n2": "http://10.0.0.2"}}, "initial_cluster: n2: expected a peer URL"),
        ({"initial_cluster": THREE | {"n2": "https://10.0.0.2:2380"}}, "initial_cluster: expected http://"),
        ({"initial_cluster": THREE, "name": "n4"}, "name: n4 is not in initial_cluster (n1, n2, n3)"),
        (
            {"initial_cluster": THREE, "name": "n2"},
            "peer: http://10.0.0.1:2380 is not what initial_cluster says",
        ),
        ({"initial_cluster": THREE | {"n2": THREE["n3"]}}, "initial_cluster: two members have one peer URL"),
        (
            {"initial_cluster": THREE, "client": "http://127.0.0.1:2379"},
            "client: http://127.0.0.1:2379 is loopback",
        ),
        (
            {"join": "http://10.0.0.2:2379", "peer": "http://localhost:2380"},
            "peer: http://localhost:2380 is loopback",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_line(changed: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_settings(settings(**changed))
    assert refused.value.detail.startswith(f"store.member.{line}")
    assert refused.value.field == f"store.member.{line.partition(':')[0]}"
    assert "\n" not in refused.value.detail


def test_settings_that_fit() -> None:
    check_settings(settings())
    check_settings(settings(initial_cluster=THREE))
    check_settings(settings(join="http://n2.example.net:2379"))
    check_settings(settings(client="http://n1.example.net:2379", peer="http://n1.example.net:2380"))
    https = {name: url.replace("http:", "https:") for name, url in THREE.items()}
    check_settings(settings(client="https://10.0.0.1:2379", peer=https["n1"], initial_cluster=https, **TLS))
    loopback = {"n1": "http://127.0.0.1:2380", "n2": "http://127.0.0.1:3380"}
    check_settings(settings(client="http://127.0.0.1:2379", peer=loopback["n1"], initial_cluster=loopback))


def test_all_members_of_one_list_begin_one_cluster_and_no_other() -> None:
    one, two = (settings(name=name, peer=THREE[name], initial_cluster=THREE) for name in ("n1", "n2"))
    reversed_ = settings(initial_cluster=dict(reversed(THREE.items())))
    assert new_identity(one).token == new_identity(two).token == new_identity(reversed_).token
    assert new_identity(settings()).token != new_identity(one).token
    assert new_identity(settings()).initial_cluster == {"n1": "http://10.0.0.1:2380"}
    assert new_identity(one).state == "new"


HELD = new_identity(settings(initial_cluster=THREE))


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"initial_cluster": THREE, "name": "n9"}, r"name: /d holds the data of member n1"),
        (
            {"initial_cluster": {"n1": THREE["n1"]}},
            r"initial_cluster: /d was begun with n1=http://10\.0\.0\.1:2380,n2=",
        ),
        (
            {"initial_cluster": THREE | {"n4": "http://10.0.0.4:2380"}},
            r"initial_cluster: .*`discovery cluster remove`",
        ),
        ({"peer": "http://10.0.0.9:2380"}, r"peer: /d holds the data of a member at http://10\.0\.0\.1:2380"),
    ],
)
def test_data_of_other_settings_is_refused(changed: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^store\.member\.{line}"):
        check_identity(HELD, settings(**changed), "/d")


def test_data_that_fits() -> None:
    check_identity(HELD, settings(initial_cluster=dict(reversed(THREE.items()))), "/d")
    check_identity(HELD, settings(), "/d")  # a list may be left out when the cluster stands
    joined = Identity("n1-ab12", "http://10.0.0.1:2380", THREE, "", "existing")
    check_identity(joined, settings(join="http://10.0.0.2:2379"), "/d")
    check_identity(joined, settings(initial_cluster=THREE), "/d")  # as it stands in the other nodes' files


def test_flags_of_etcd_3_4_and_3_5() -> None:
    words = flags(settings(), HELD, (3, 4, 23), data="/d/data", probe="http://127.0.0.1:7")
    pairs = dict(itertools.pairwise(words))
    assert pairs["--name"] == "n1"
    assert pairs["--data-dir"] == "/d/data"
    assert pairs["--listen-client-urls"] == pairs["--advertise-client-urls"] == "http://10.0.0.1:2379"
    assert pairs["--listen-peer-urls"] == pairs["--initial-advertise-peer-urls"] == "http://10.0.0.1:2380"
    assert (
        pairs["--initial-cluster"]
        == "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380"
    )
    assert pairs["--initial-cluster-state"] == "new"
    assert pairs["--listen-metrics-urls"] == "http://127.0.0.1:7"
    assert {
        "--pre-vote=true",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
        f"--quota-backend-bytes={8 << 30}",
        "--experimental-initial-corrupt-check=true",
        "--experimental-corrupt-check-time=12h",
    } <= set(words)
    assert not [word for word in words if "cert" in word or "force" in word]


def test_a_name_is_told_to_the_others_and_its_address_listened_on() -> None:
    named = settings(client="http://n1.example.net:2379", peer="http://n1.example.net:2380")
    listen = ("http://10.0.0.1:2379", "http://10.0.0.1:2380")
    words = flags(named, HELD, (3, 4, 23), data="/d", probe="http://127.0.0.1:7", listen=listen)
    pairs = dict(itertools.pairwise(words))
    assert (pairs["--listen-client-urls"], pairs["--listen-peer-urls"]) == listen
    assert pairs["--advertise-client-urls"] == named.client
    assert pairs["--initial-advertise-peer-urls"] == named.peer


def test_flags_of_etcd_3_6_which_moved_the_experimental_ones() -> None:
    words = flags(settings(), HELD, (3, 6, 0), data="/d", probe="http://127.0.0.1:7")
    assert {"--feature-gates=InitialCorruptCheck=true", "--corrupt-check-time=12h"} <= set(words)
    assert not [word for word in words if "experimental" in word]


def test_flags_with_tls_ask_everybody_for_a_certificate() -> None:
    words = flags(settings(**TLS), HELD, (3, 4, 23), data="/d", probe="http://127.0.0.1:7")
    for prefix in ("", "peer-"):
        assert f"--{prefix}cert-file=/c/n1.pem" in words
        assert f"--{prefix}key-file=/c/n1-key.pem" in words
        assert f"--{prefix}trusted-ca-file=/c/ca.pem" in words
    assert {"--client-cert-auth=true", "--peer-client-cert-auth=true"} <= set(words)
    assert "--force-new-cluster=true" in flags(
        settings(), HELD, (3, 4, 23), data="/d", probe="http://127.0.0.1:7", force_new=True
    )

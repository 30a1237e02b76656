"""How a managed etcd is run: which versions, which flags, and which data directory belongs to which configuration.

Owns these decisions. Pure: what was found on disk and said by the binary are arguments. Every refusal is one line
that names the setting and says what to change.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

import msgspec

from discovery.errors import ConfigError
from discovery.kv.etcd_urls import is_local, is_whole

COMPACTION = "5m"  # of history that etcd keeps
QUOTA = 8 << 30  # bytes; etcd's own advice for the most
MAX_TXN_OPS = 10_000  # changes in a batch of the API
MAX_REQUEST = 16 << 20  # bytes of such a batch

Version = tuple[int, int, int]


class MemberSettings(msgspec.Struct, frozen=True):
    """As in `store.member`. `name` is never empty here; `cert`, `key` and `ca` are files (PEM), empty: no TLS."""

    name: str
    binary: str
    client: str
    peer: str
    initial_cluster: Mapping[str, str]
    join: str
    cert: str
    key: str
    ca: str


class Identity(msgspec.Struct, frozen=True):
    """Whose data a data directory holds, as written when it was begun. `cluster_id` in hex, "" until it is known.

    `peers`: the peer URLs of all members as this one saw them last, who came later too; empty until it served once.
    """

    name: str
    peer: str
    initial_cluster: Mapping[str, str]
    token: str
    state: str
    cluster_id: str = ""
    learner: bool = False
    peers: tuple[str, ...] = ()

    @property
    def others(self) -> Sequence[str]:
        """The peer URLs of the other members, as far as is known."""
        return sorted({*(self.peers or self.initial_cluster.values())} - {self.peer})


class Judgement(NamedTuple):
    version: Version
    warning: str = ""


def refuse(setting: str, complaint: str) -> NoReturn:
    raise ConfigError(f"store.member.{setting}: {complaint}", field=f"store.member.{setting}")


# ---------------------------------------------------------------- versions


def judge_version(said: str, binary: str) -> Judgement:
    """From what `etcd --version` prints. Raises ConfigError for a version that must not be used."""
    found = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        refuse("binary", f"{binary} does not say which etcd it is: name the program of etcd 3.4 or later")
    version = (int(found[1]), int(found[2]), int(found[3]))
    text = ".".join(map(str, version))
    if version < (3, 4, 0):
        refuse("binary", f"{binary} is etcd {text}, which has no learners: use 3.4.22 or later")
    if (3, 5, 0) <= version <= (3, 5, 2):
        refuse(
            "binary",
            f"{binary} is etcd {text}, which can damage data: use 3.4.22 or later, or 3.5.7 or later",
        )
    if version < (3, 4, 22):
        return Judgement(
            version, f"{binary} is etcd {text}: faults with leases and watches were mended in 3.4.22"
        )
    if (3, 5, 3) <= version <= (3, 5, 6):
        return Judgement(version, f"{binary} is etcd {text}: faults that can lose data were mended in 3.5.7")
    return Judgement(version)


# ---------------------------------------------------------------- settings


def check_settings(settings: MemberSettings) -> None:
    """The rules between the settings. Raises ConfigError."""
    for name, url in (("client", settings.client), ("peer", settings.peer)):
        example = f"http://10.0.0.1:{'2379' if name == 'client' else '2380'}"
        if not is_whole(url) or not _port(url):
            refuse(name, f"expected a URL such as {example}; got {url!r}")
        if _is_for_all(url):
            refuse(
                name,
                f"expected one address or name of this machine, which the others reach too, as in {example}; "
                f"got {url!r}",
            )
    if settings.client == settings.peer:
        refuse("peer", f"{settings.peer} is the client URL too: use two ports, such as 2379 and 2380")
    given = [bool(each) for each in (settings.cert, settings.key, settings.ca)]
    if any(given) and not all(given):
        refuse("cert", "cert, key and ca belong together: `discovery cluster certs` makes all three")
    if settings.join and settings.initial_cluster:
        refuse("join", "a member either joins or begins a cluster: leave out join or initial_cluster")
    if settings.join and not is_whole(settings.join):
        refuse("join", f"expected the client URL of a member that runs; got {settings.join!r}")
    for name, url in settings.initial_cluster.items():
        if not is_whole(url) or not _port(url):
            refuse(
                "initial_cluster", f"{name}: expected a peer URL such as http://10.0.0.1:2380; got {url!r}"
            )
    _check_schemes(settings, tls=all(given))
    _check_list(settings)
    _check_reach(settings)


def _check_schemes(settings: MemberSettings, *, tls: bool) -> None:
    scheme = "https://" if tls else "http://"
    urls = [("client", settings.client), ("peer", settings.peer)]
    urls += [("join", settings.join)] * bool(settings.join)
    urls += [("initial_cluster", url) for url in settings.initial_cluster.values()]
    for name, url in urls:
        if not url.startswith(scheme):
            refuse(name, f"expected {scheme} as cert, key and ca are {'' if tls else 'not '}set; got {url!r}")


def _check_list(settings: MemberSettings) -> None:
    if not settings.initial_cluster:
        return
    listed = settings.initial_cluster.get(settings.name)
    if listed is None:
        known = ", ".join(settings.initial_cluster)
        refuse("name", f"{settings.name} is not in initial_cluster ({known}): use one of its names")
    if listed != settings.peer:
        refuse("peer", f"{settings.peer} is not what initial_cluster says of {settings.name} ({listed})")
    if len(set(settings.initial_cluster.values())) != len(settings.initial_cluster):
        refuse("initial_cluster", "two members have one peer URL: each needs its own")


def _check_reach(settings: MemberSettings) -> None:
    """A loopback URL would lead the others to themselves."""
    others = [settings.join] * bool(settings.join)
    others += [url for url in settings.initial_cluster.values() if url != settings.peer]
    away = next((url for url in others if not is_local(url)), None)
    for name, url in (("client", settings.client), ("peer", settings.peer)):
        if away is not None and is_local(url):
            refuse(
                name,
                f"{url} is loopback, which the member at {away} can't reach: write an address of this machine",
            )


def _port(url: str) -> bool:
    return re.search(r":\d+/?$", url) is not None


def _is_for_all(url: str) -> bool:
    """An address for all interfaces would be told to the others as it stands."""
    try:
        return ipaddress.ip_address(urllib.parse.urlsplit(url).hostname or "").is_unspecified
    except ValueError:  # a name
        return False


def new_identity(settings: MemberSettings) -> Identity:
    """Of a cluster that begins with these settings; alone where none are listed."""
    members = dict(settings.initial_cluster) or {settings.name: settings.peer}
    text = ",".join(f"{name}={url}" for name, url in sorted(members.items()))
    token = f"discovery-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return Identity(settings.name, settings.peer, members, token, "new")


def check_identity(held: Identity, settings: MemberSettings, directory: str) -> None:
    """That the data in `directory` is what these settings mean, since etcd would ignore the difference.

    Raises ConfigError.
    """
    if held.state == "new" and settings.initial_cluster:
        if settings.name != held.name:
            refuse(
                "name",
                f"{directory} holds the data of member {held.name}: write that name, or use another folder",
            )
        if dict(settings.initial_cluster) != dict(held.initial_cluster):
            was = ",".join(f"{name}={url}" for name, url in held.initial_cluster.items())
            refuse(
                "initial_cluster",
                f"{directory} was begun with {was}: write that; members are added with store.member.join "
                "and removed with `discovery cluster remove`",
            )
    if settings.peer != held.peer:
        refuse(
            "peer",
            f"{directory} holds the data of a member at {held.peer}: write that, or remove it and join anew",
        )


# ---------------------------------------------------------------- flags


def flags(
    settings: MemberSettings,
    identity: Identity,
    version: Version,
    *,
    data: str,
    probe: str,
    listen: tuple[str, str] | None = None,
    force_new: bool = False,
) -> Sequence[str]:
    """etcd's command line after the program. `probe`: the loopback URL of its health and metrics.

    `listen`: the client and peer URL with addresses, since etcd listens on no names; the settings' own when left out.
    """
    client, peer = listen or (settings.client, settings.peer)
    members = ",".join(f"{name}={url}" for name, url in identity.initial_cluster.items())
    words = ["--name", identity.name, "--data-dir", data]
    words += ["--listen-client-urls", client, "--advertise-client-urls", settings.client]
    words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", settings.peer]
    words += ["--initial-cluster", members, "--initial-cluster-state", identity.state]
    words += ["--initial-cluster-token", identity.token or "discovery", "--listen-metrics-urls", probe]
    words += ["--logger=zap", "--log-outputs=stderr", "--pre-vote=true"]
    words += ["--auto-compaction-mode=periodic", f"--auto-compaction-retention={COMPACTION}"]
    words += [
        f"--quota-backend-bytes={QUOTA}",
        f"--max-txn-ops={MAX_TXN_OPS}",
        f"--max-request-bytes={MAX_REQUEST}",
    ]
    if force_new:  # it goes on alone, so there are no others to compare its data with
        words += ["--force-new-cluster=true"]
    elif version >= (3, 6, 0):
        words += ["--feature-gates=InitialCorruptCheck=true", "--corrupt-check-time=12h"]
    else:
        words += ["--experimental-initial-corrupt-check=true", "--experimental-corrupt-check-time=12h"]
    if settings.cert:
        for prefix, auth in (("", "--client-cert-auth"), ("peer-", "--peer-client-cert-auth")):
            words += [
                f"--{prefix}cert-file={settings.cert}",
                f"--{prefix}key-file={settings.key}",
                f"{auth}=true",
            ]
            words += [f"--{prefix}trusted-ca-file={settings.ca}"]
    return words

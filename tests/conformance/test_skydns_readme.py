"""Every curl line of SkyDNS 2's README (2.5.3a) and the answers it promises, on one running node.

The lines stand as in the README; `skydns.local` becomes `discovery.internal` on the way (see `curl`). Where our names
are mended, the mended answer is what is asked for, and the test says so. README's weights in SRV are older than its own
table: ours follow the table.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.support.dns_server import DnsServer
from tests.support.node import RunningNode, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ZONE = "{name: discovery.internal., ttl: 3600, negative_grace: 0, local: public.addresses.local.discovery.internal.}"
SECOND = (
    "{name: second.internal., ttl: 3600, negative_grace: 0, "
    "local: e2016c14-fbba-11e3-ae08-10604b7efbe2.dockerhosts.second.internal.}"
)
OUTSIDE = {
    "www.miek.nl.": ("www.miek.nl. 3600 IN CNAME a.miek.nl.", "a.miek.nl. 3600 IN A 176.58.119.54"),
    "www.skydns.com.": ("www.skydns.com. 60 IN A 192.0.2.80",),
}

RAILS = [
    """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/east/production/rails/1 \
        -d value='{"host":"service1.example.com","port":8080}'""",
    """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/west/production/rails/2 \
        -d value='{"host":"service2.example.com","port":8080}'""",
    """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/east/staging/rails/4 \
        -d value='{"host":"10.0.1.125","port":8080}'""",
    """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/east/staging/rails/6 \
        -d value='{"host":"2003::8:1","port":8080}'""",
]
FOUR, SIX = "4.rails.staging.east.discovery.internal.", "6.rails.staging.east.discovery.internal."
ADDRESSES = [f"{FOUR} 3600 IN A 10.0.1.125", f"{SIX} 3600 IN AAAA 2003::8:1"]


def outside(query: dns.message.Message, transport: str) -> Iterable[bytes]:
    """The rest of the world: what README asks of it, and NXDOMAIN."""
    response = dns.message.make_response(query)
    question = query.question[0]
    for line in OUTSIDE.get(question.name.to_text().lower(), ()):
        owner, ttl, rclass, rtype, content = line.split()
        response.answer.append(dns.rrset.from_text(owner, int(ttl), rclass, rtype, content))
    if not response.answer:
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype != dns.rdatatype.A:
        response.answer = [each for each in response.answer if each.rdtype == dns.rdatatype.CNAME]
    yield response.to_wire()


@pytest.fixture(scope="module")
def world() -> Iterator[DnsServer]:
    with DnsServer(outside) as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, world: DnsServer) -> Iterator[RunningNode]:
    settings = [f"zones=[{ZONE}, {SECOND}]", f"forward.upstreams=['{world.address}']", "forward.stubs=true"]
    with running_node(tmp_path_factory.mktemp("node") / "store", settings) as node:
        yield node


@pytest.fixture
def node(running: RunningNode) -> Iterator[RunningNode]:
    """With no keys stored."""
    yield running
    running.call("DELETE", "/v2/keys/skydns?recursive=true")


def curl(node: RunningNode, line: str, *, status: int = 201, zone: str = "discovery") -> None:
    """Does what the line does, at the node, in the zone `zone`.internal."""
    command, method, url, option, form = shlex.split(line.replace("skydns.local", f"{zone}.internal"))
    assert (command, method, option) == ("curl", "-XPUT", "-d")
    path = url.removeprefix("http://127.0.0.1:4001")
    path = path.replace("/skydns/local/skydns", f"/skydns/internal/{zone}")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answered, body = node.call("PUT", path, form.encode(), headers)
    assert (answered, body["action"]) == (status, "set"), body
    assert f"value={body['node']['value']}" == form


def lines(section: Iterable[dns.rrset.RRset]) -> list[str]:
    """As dig prints them, each as `owner TTL IN TYPE content`, sorted."""
    return sorted(
        f"{rrset.name} {rrset.ttl} IN {dns.rdatatype.to_text(rrset.rdtype)} {item}"
        for rrset in section
        for item in rrset
    )


def dig(node: RunningNode, name: str, rtype: str) -> tuple[list[str], list[str]]:
    """The answer and the additional section."""
    response = node.ask(name, rtype)
    assert response.rcode() == dns.rcode.NOERROR
    return lines(response.answer), lines(response.additional)


# ---------------------------------------------------------------- set-up and configuration


def test_a_nameserver(node: RunningNode) -> None:
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/dns/ns/ns1 \
        -d value='{"host":"192.168.0.1"}'""",
    )
    assert dig(node, "discovery.internal.", "NS") == (
        ["discovery.internal. 3600 IN NS ns1.ns.dns.discovery.internal."],
        ["ns1.ns.dns.discovery.internal. 3600 IN A 192.168.0.1"],
    )


@pytest.mark.parametrize(
    "line",
    [
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/config \
        -d value='{"dns_addr":"127.0.0.1:5354","ttl":3600, "nameservers": ["8.8.8.8:53","8.8.4.4:53"]}'""",
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/config -d \
        value='{"dns_addr":"127.0.0.1:5354","dnssec":"Kskydns.local.+005+55656"}'""",
    ],
    ids=["set", "dnssec"],
)
def test_the_configurations_key_is_kept_and_disturbs_nothing(node: RunningNode, line: str) -> None:
    """SkyDNS's own configuration. Ours comes from elsewhere; other programs may read this one."""
    for rails in RAILS:
        curl(node, rails)
    form = shlex.split(line)[-1]
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = form.replace("+", "%2B").encode()  # as it stands, curl -d makes it a space
    assert node.call("PUT", "/v2/keys/skydns/config", sent, headers)[0] == 201
    stored = node.call("GET", "/v2/keys/skydns/config")[1]["node"]["value"]
    assert f"value={stored}" == form
    assert dig(node, FOUR, "A")[0] == [f"{FOUR} 3600 IN A 10.0.1.125"]


def test_the_local_value_of_an_instance(node: RunningNode) -> None:
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/dockerhosts/\
e2016c14-fbba-11e3-ae08-10604b7efbe2 -d value='{"host":"10.1.1.16"}'""",
        zone="second",
    )
    assert dig(node, "local.dns.second.internal.", "A")[0] == [
        "local.dns.second.internal. 3600 IN A 10.1.1.16"
    ]


# ---------------------------------------------------------------- service announcements


def test_a_service_announcement(node: RunningNode) -> None:
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/east/production/rails \
        -d value='{"host":"service5.example.com","priority":20}'""",
    )
    assert dig(node, "rails.production.east.discovery.internal.", "SRV")[0] == [
        "rails.production.east.discovery.internal. 3600 IN SRV 20 100 0 service5.example.com."
    ]


@pytest.mark.parametrize(
    ("weights", "shares"), [((100, 100, 100), (33, 33, 33)), ((120, 100, 130), (34, 28, 37))]
)
def test_the_table_of_weights(node: RunningNode, weights: tuple[int, ...], shares: tuple[int, ...]) -> None:
    for name, weight in zip("abc", weights, strict=True):
        curl(
            node,
            f"""curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/w/{name} \
            -d value='{{"host":"{name}.example.com","weight":{weight}}}'""",
        )
    assert dig(node, "w.discovery.internal.", "SRV")[0] == sorted(
        f"w.discovery.internal. 3600 IN SRV 10 {share} 0 {name}.example.com."
        for name, share in zip("abc", shares, strict=True)
    )


# ---------------------------------------------------------------- service discovery


@pytest.fixture
def rails(node: RunningNode) -> RunningNode:
    for line in RAILS:
        curl(node, line)
    return node


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("1.rails.production.east.discovery.internal.", "service1.example.com."),
        ("2.rails.production.west.discovery.internal.", "service2.example.com."),
        (FOUR, FOUR),
        (SIX, SIX),
    ],
)
def test_each_of_the_rails(rails: RunningNode, name: str, target: str) -> None:
    answer, additional = dig(rails, name, "SRV")
    assert answer == [f"{name} 3600 IN SRV 10 100 8080 {target}"]
    assert additional == [line for line in ADDRESSES if line.startswith(f"{target} ")]


@pytest.mark.parametrize("name", ["east.discovery.internal.", "*.east.discovery.internal."])
def test_all_in_the_east(rails: RunningNode, name: str) -> None:
    targets = [FOUR, SIX, "service1.example.com."]
    assert dig(rails, name, "SRV") == (
        [f"{name} 3600 IN SRV 10 33 8080 {each}" for each in targets],
        ADDRESSES,
    )


def test_the_address_of_one(rails: RunningNode) -> None:
    assert dig(rails, FOUR, "A")[0] == [f"{FOUR} 3600 IN A 10.0.1.125"]


@pytest.mark.parametrize(
    "name",
    [
        "staging.east.discovery.internal.",
        "staging.*.discovery.internal.",
        "staging.any.discovery.internal.",
        "rails.*.any.discovery.internal.",
    ],
)
def test_staging_by_name_and_by_wildcards(rails: RunningNode, name: str) -> None:
    targets = [FOUR, SIX] + (["service1.example.com.", "service2.example.com."] if "rails" in name else [])
    share = 100 // len(targets)
    assert dig(rails, name, "SRV") == (
        [f"{name} 3600 IN SRV 10 {share} 8080 {each}" for each in targets],
        ADDRESSES,
    )


def test_addresses_of_staging(rails: RunningNode) -> None:
    name = "staging.east.discovery.internal."
    assert dig(rails, name, "A")[0] == [f"{name} 3600 IN A 10.0.1.125"]
    assert dig(rails, name, "AAAA")[0] == [f"{name} 3600 IN AAAA 2003::8:1"]


def test_targetstrip(node: RunningNode) -> None:
    curl(node, RAILS[2].replace("8080}", '8080,"targetstrip":2}'))
    target = "staging.east.discovery.internal."
    assert dig(node, FOUR, "SRV") == (
        [f"{FOUR} 3600 IN SRV 10 100 8080 {target}"],
        [f"{target} 3600 IN A 10.0.1.125"],
    )


def test_mail(node: RunningNode) -> None:
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/mail/a \
        -d value='{"host":"10.0.0.25","mail":true,"priority":50}'""",
    )
    assert dig(node, "mail.discovery.internal.", "MX") == (
        ["mail.discovery.internal. 3600 IN MX 50 a.mail.discovery.internal."],
        ["a.mail.discovery.internal. 3600 IN A 10.0.0.25"],
    )


def test_text(node: RunningNode) -> None:
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/note \
        -d value='{"text":"the quick brown fox"}'""",
    )
    assert dig(node, "note.discovery.internal.", "TXT")[0] == [
        'note.discovery.internal. 3600 IN TXT "the quick brown fox"'
    ]


# ---------------------------------------------------------------- names for hosts

ONE = "1.rails.production.east.discovery.internal."


@pytest.mark.parametrize("port", [',"port":8080', ""], ids=["with a port", "bare"])
def test_a_chain_of_names(node: RunningNode, port: str) -> None:
    """Mended: a host beside a port is answered with the address itself, only a bare alias with a CNAME."""
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/east/production/rails/1 \
        -d value='{"host":"service1.skydns.local","port":8080}'""".replace(',"port":8080', port),
    )
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/service1 \
        -d value='{"host":"10.0.2.15","port":8080}'""",
    )
    chain = [
        f"{ONE} 3600 IN CNAME service1.discovery.internal.",
        "service1.discovery.internal. 3600 IN A 10.0.2.15",
    ]
    assert dig(node, ONE, "A")[0] == ([f"{ONE} 3600 IN A 10.0.2.15"] if port else chain)


@pytest.mark.parametrize("port", [',"port":8080', ""], ids=["with a port", "bare"])
def test_an_external_name(node: RunningNode, port: str) -> None:
    """Mended as the chain; a bare alias is answered with what the upstream says behind it."""
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/east/production/rails/1 \
        -d value='{"host":"www.miek.nl","port":8080}'""".replace(',"port":8080', port),
    )
    chain = [f"{ONE} 3600 IN CNAME www.miek.nl.", *reversed(OUTSIDE["www.miek.nl."])]
    assert dig(node, ONE, "A")[0] == ([f"{ONE} 3600 IN A 176.58.119.54"] if port else chain)


# ---------------------------------------------------------------- NS, PTR, forwarding


def test_ns_records(node: RunningNode) -> None:
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/dns/ns/ns1 \
        -d value='{"host":"172.16.0.1"}'""",
    )
    assert dig(node, "discovery.internal.", "NS") == (
        ["discovery.internal. 3600 IN NS ns1.ns.dns.discovery.internal."],
        ["ns1.ns.dns.discovery.internal. 3600 IN A 172.16.0.1"],
    )


def test_a_reverse_address(node: RunningNode) -> None:
    """Mended: with authority."""
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/arpa/in-addr/10/0/1/125 \
        -d value='{"host":"4.rails.staging.east.skydns.local"}'""",
    )
    response = node.ask("125.1.0.10.in-addr.arpa.", "PTR")
    assert lines(response.answer) == [f"125.1.0.10.in-addr.arpa. 3600 IN PTR {FOUR}"]
    assert response.flags & dns.flags.AA


def test_names_elsewhere_are_forwarded(node: RunningNode) -> None:
    response = node.ask("www.miek.nl.", "A")
    assert lines(response.answer) == sorted(OUTSIDE["www.miek.nl."])
    assert response.flags & dns.flags.RA
    assert not response.flags & dns.flags.AA
    assert node.ask("125.1.0.10.in-addr.arpa.", "PTR").rcode() == dns.rcode.NXDOMAIN


def test_stub_zones(node: RunningNode, world: DnsServer) -> None:
    """README's addresses are replaced by such as are there; port 53 of the second has nobody, so the first answers."""
    first = """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/dns/stub/com/skydns/ns1 \
        -d value='{"host":"172.16.1.1", "port":54}'"""
    curl(node, first.replace("172.16.1.1", "127.0.0.1").replace("54}", f"{world.port}}}"))
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/dns/stub/com/skydns/ns2 \
        -d value='{"host":"10.10.244.1"}'""".replace("10.10", "127.10"),
    )
    assert lines(node.ask("www.skydns.com.", "A").answer) == list(OUTSIDE["www.skydns.com."])


def test_the_host_local_value(node: RunningNode) -> None:
    """README's key is below `local`, so the node's `local` is too."""
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/local/addresses/public \
        -d value='{"host":"192.0.2.1"}'""",
    )
    name = "local.dns.discovery.internal."
    assert dig(node, name, "A")[0] == [f"{name} 3600 IN A 192.0.2.1"]


# ---------------------------------------------------------------- groups, pools, several SRV


def test_groups(node: RunningNode) -> None:
    for key, host, group in (("a", 1, "g1"), ("b", 2, "g1"), ("subdom/c", 3, "g2"), ("subdom/d", 4, "g2")):
        curl(
            node,
            f"""curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/domain/{key} \
            -d value='{{"host": "127.0.0.{host}", "group": "{group}"}}'""",
        )
    assert node.answers("domain.discovery.internal.", "A") == ["127.0.0.1", "127.0.0.2"]
    assert node.answers("subdom.domain.discovery.internal.", "A") == ["127.0.0.3", "127.0.0.4"]
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/domain/subdom/e \
        -d value='{"host": "127.0.0.5"}'""",
    )
    assert node.answers("domain.discovery.internal.", "A") == ["127.0.0.1", "127.0.0.2", "127.0.0.5"]


def test_a_pool_of_addresses(node: RunningNode) -> None:
    for line in (
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/db/x1 -d \
        value='{"host":"127.0.0.1"}'""",
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/db/x2 -d \
        value='{"host": "127.0.0.2"'}""",
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/db/x3 -d \
        value='{"host": "127.0.0.3"'}""",
    ):
        curl(node, line)
    first = set()
    for _ in range(200):
        (rrset,) = node.ask("db.discovery.internal.", "A").answer
        first.add(rrset[0].to_text())
        assert sorted(item.to_text() for item in rrset) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert len(first) == 3  # by turns; that one of three never comes first in 200 has odds of 10 ** -35


BAR = [
    """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/bar/x1 -d \
        value='{"host":"192.168.0.1","port":80}'""",
    """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/bar/x2 -d \
        value='{"host": "bar.skydns.local","port":443}'""",
]


def test_two_ports_of_a_name(node: RunningNode) -> None:
    """Mended: `bar` itself leads to an address, so it is in additional too."""
    for line in BAR:
        curl(node, line)
    name = "bar.discovery.internal."
    assert dig(node, name, "SRV") == (
        [f"{name} 3600 IN SRV 10 50 443 {name}", f"{name} 3600 IN SRV 10 50 80 x1.{name}"],
        [f"{name} 3600 IN A 192.168.0.1", f"x1.{name} 3600 IN A 192.168.0.1"],
    )


def test_two_ports_of_a_name_with_targetstrip(node: RunningNode) -> None:
    for line in BAR:
        curl(node, line)
    curl(
        node,
        """curl -XPUT http://127.0.0.1:4001/v2/keys/skydns/local/skydns/bar/x1 -d \
        value='{"host":"192.168.0.1","port":80,"targetstrip":1}'""",
        status=200,
    )
    name = "bar.discovery.internal."
    assert dig(node, name, "SRV") == (
        [f"{name} 3600 IN SRV 10 50 443 {name}", f"{name} 3600 IN SRV 10 50 80 {name}"],
        [f"{name} 3600 IN A 192.168.0.1"],
    )

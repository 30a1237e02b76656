"""Real resolvers before a running node: unbound, with a stub zone and forwarding, and BIND's named, forwarding.

They resolve what is registered, keep it as long as told, and are not led astray by empty non-terminals or letter case.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.support.dns_server import DnsServer
from tests.support.node import RunningNode, running_node, wait_for
from tests.support.upstream import both_sockets

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

D = "discovery.internal."
REVERSE = "10.in-addr.arpa."
KINDS = ["unbound, stub zone", "unbound, forwarding", "named, forwarding"]
TTL, NEGATIVE_TTL = 30, 3
ZONES = f"zones=[{{name: {D}, ttl: {TTL}, negative_ttl: {NEGATIVE_TTL}}}]"
SETTINGS = [ZONES, "reverse_zones=[10.0.0.0/8]", "log.queries=true"]

UNBOUND = """
server:
    interface: 127.0.0.1
    port: {port}
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    use-syslog: no
    do-ip6: no
    do-not-query-localhost: no
    module-config: "iterator"
    qname-minimisation: yes
    qname-minimisation-strict: yes
    harden-below-nxdomain: yes
    use-caps-for-id: yes
    local-zone: "{REVERSE}" nodefault
remote-control:
    control-enable: no
{zones}
"""
UNBOUND_ZONE = """
{kind}-zone:
    name: "{zone}"
    {kind}-addr: 127.0.0.1@{node}
"""
NAMED = """
options {{
    directory "{folder}";
    pid-file "{folder}/named.pid";
    session-keyfile "{folder}/session.key";
    managed-keys-directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion yes;
    dnssec-validation no;
    empty-zones-enable no;
    qname-minimization strict;
}};
controls {{ }};
{zones}
"""
NAMED_ZONE = """
zone "{zone}" {{ type forward; forward only; forwarders {{ 127.0.0.1 port {node}; }}; }};
"""


def program(package: str, name: str, folder: Path) -> str:
    """A copy of it, since AppArmor confines the installed ones to folders of the system."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail(f"{name} is missing; install it: apt-get install {package}")
    return shutil.copy2(found, str(folder / name))


def command(kind: str, folder: Path, port: int, node: int) -> list[str]:
    """Writes the configuration; what starts the resolver."""
    name, way = kind.split(", ")
    if name == "unbound":
        which = "stub" if way == "stub zone" else "forward"
        zones = "".join(UNBOUND_ZONE.format(kind=which, zone=zone, node=node) for zone in (D, REVERSE))
        text = UNBOUND.format(port=port, folder=folder, zones=zones, REVERSE=REVERSE)
        arguments = ["-d", "-p", "-c"]
    else:
        zones = "".join(NAMED_ZONE.format(zone=zone, node=node) for zone in (D, REVERSE))
        text = NAMED.format(port=port, folder=folder, zones=zones)
        arguments = ["-g", "-n", "1", "-c"]
    (folder / "conf").write_text(text)
    return [program({"named": "bind9"}.get(name, name), name, folder), *arguments, str(folder / "conf")]


class Resolver:
    """`label` makes names of a test its own, so that nothing of them is in anyone's cache."""

    def __init__(self, label: str, port: int, node: RunningNode, log: Path) -> None:
        self.label = label
        self.port = port
        self.node = node
        self._log = log

    def ask(self, name: str, rtype: str, *, edns: bool = True) -> dns.message.Message:
        query = dns.message.make_query(name, rtype, use_edns=0 if edns else False)
        response, _ = dns.query.udp_with_fallback(query, "127.0.0.1", port=self.port, timeout=10)
        return response

    def says(self, name: str, rtype: str) -> list[str]:
        """The answer section's data as text, in their order of types, then sorted."""
        response = self.ask(name, rtype)
        assert response.rcode() == dns.rcode.NOERROR, response
        return [text for rrset in response.answer for text in sorted(item.to_text() for item in rrset)]

    def ttl(self, name: str, rtype: str) -> int:
        return min(rrset.ttl for rrset in self.ask(name, rtype).answer)

    def asked(self, name: str, rtype: str) -> int:
        """How often the node was asked exactly that."""
        return self._log.read_text().count(f" qname={name} qtype={rtype} ")


@contextmanager
def resolving(kind: str, folder: Path, node: RunningNode, log: Path) -> Iterator[Resolver]:
    folder.mkdir()
    tcp, udp = both_sockets()
    port = int(tcp.getsockname()[1])
    tcp.close()
    udp.close()
    said = folder / "said"
    with said.open("w") as output:
        process = subprocess.Popen(
            command(kind, folder, port, node.dns_port), stdout=output, stderr=subprocess.STDOUT, cwd=folder
        )
    resolver = Resolver(folder.name, port, node, log)

    def answers() -> bool:
        assert process.poll() is None, said.read_text()
        try:
            query = dns.message.make_query(D, "SOA")
            return bool(dns.query.udp(query, "127.0.0.1", port=port, timeout=1).answer)
        except (OSError, dns.exception.Timeout):
            return False

    try:
        wait_for(answers, 60, f"{kind} answers")
        yield resolver
    finally:
        process.terminate()
        process.wait(20)


def one_address(query: dns.message.Message, transport: str) -> list[bytes]:
    """Whom the node asks for names outside its zones."""
    response = dns.message.make_response(query, recursion_available=True)
    if query.question[0].rdtype == dns.rdatatype.A:
        response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.80"))
    return [response.to_wire()]


@pytest.fixture(scope="module")
def resolvers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Resolver]]:
    folder = tmp_path_factory.mktemp("resolvers")
    log = folder / "log"
    with ExitStack() as stack:
        beyond = stack.enter_context(DnsServer(one_address))
        settings = [*SETTINGS, f"forward.upstreams=['{beyond.address}']"]
        node = stack.enter_context(running_node(folder / "store", settings, log=log))
        register(node)
        yield {
            kind: stack.enter_context(resolving(kind, folder / f"r{number}", node, log))
            for number, kind in enumerate(KINDS)
        }


@pytest.fixture(params=KINDS)
def resolver(request: pytest.FixtureRequest, resolvers: dict[str, Resolver]) -> Resolver:
    found = resolvers[request.param]
    assert isinstance(found, Resolver)
    return found


def register(node: RunningNode) -> None:
    services: list[tuple[str, str, dict[str, object]]] = [
        ("web.prod", "i1", {"host": "10.0.0.1", "port": 80, "ports": {"http": 8080}, "tags": ["blue"]}),
        ("web.prod", "i2", {"host": "10.0.0.2", "port": 80, "ports": {"http": 8081}, "meta": {"k": "v"}}),
        ("web.prod", "i3", {"host": "2001:db8::3", "port": 80, "text": "hello world"}),
        ("mail", "m1", {"host": "10.0.0.9", "mail": True, "priority": 5}),
        ("deep.down.below", "i1", {"host": "10.0.1.1"}),
        ("outside", "o1", {"host": "www.example.com", "port": 443}),
    ]
    for service, instance, fields in services:
        put(node, service, instance, fields)
    for number in range(100):
        put(node, "many", f"i{number}", {"host": f"10.1.0.{number}"})
    for name, target in (("one", "two"), ("two", "web.prod")):
        value = f"%7B%22host%22%3A%22{target}.{D}%22%7D"
        assert node.call("PUT", f"/v2/keys/skydns/internal/discovery/{name}?value={value}")[0] == 201


def put(node: RunningNode, service: str, instance: str, fields: dict[str, object]) -> None:
    fields = {"lease_ttl": 3600} | fields
    assert node.call("PUT", f"/v1/services/{service}/{instance}", fields)[0] in (200, 201)


# ---------------------------------------------------------------- what is registered


def test_addresses(resolver: Resolver) -> None:
    assert resolver.says(f"web.prod.{D}", "A") == ["10.0.0.1", "10.0.0.2"]
    assert resolver.says(f"web.prod.{D}", "AAAA") == ["2001:db8::3"]
    assert resolver.says(f"i1.web.prod.{D}", "A") == ["10.0.0.1"]
    assert resolver.says(f"*.web.prod.{D}", "A") == ["10.0.0.1", "10.0.0.2"]


def test_services(resolver: Resolver) -> None:
    expected = [f"10 33 80 i{number}.web.prod.{D}" for number in (1, 2, 3)]
    assert resolver.says(f"web.prod.{D}", "SRV") == expected


def test_a_service_beyond_our_zones(resolvers: dict[str, Resolver]) -> None:
    """Resolvers that forward. One that iterates asks without RD and is told the CNAME alone (names.md)."""
    for kind in KINDS[1:]:
        assert resolvers[kind].says(f"outside.{D}", "A") == ["192.0.2.80"]
        assert resolvers[kind].says(f"outside.{D}", "SRV") == ["10 100 443 www.example.com."]


def test_an_alias_chain(resolver: Resolver) -> None:
    assert resolver.says(f"one.{D}", "A") == [f"two.{D}", f"web.prod.{D}", "10.0.0.1", "10.0.0.2"]
    assert resolver.says(f"one.{D}", "CNAME") == [f"two.{D}"]
    assert resolver.says(f"two.{D}", "AAAA") == [f"web.prod.{D}", "2001:db8::3"]


def test_text_mail_and_the_apex(resolver: Resolver) -> None:
    assert resolver.says(f"web.prod.{D}", "TXT") == ['"hello world"', '"k=v"']
    assert resolver.says(f"mail.{D}", "MX") == [f"5 m1.mail.{D}"]
    assert resolver.says(D, "SOA")[0].startswith(f"ns.dns.{D} hostmaster.{D} ")
    (server,) = resolver.says(D, "NS")
    assert server.endswith(f"ns.dns.{D}")
    assert resolver.says(server, "A")


def test_pointers(resolver: Resolver) -> None:
    assert resolver.says("1.0.0.10.in-addr.arpa.", "PTR") == [f"i1.web.prod.{D}"]
    assert resolver.ask("200.0.0.10.in-addr.arpa.", "PTR").rcode() == dns.rcode.NXDOMAIN


def test_an_answer_too_large_for_udp(resolver: Resolver) -> None:
    assert len(resolver.says(f"many.{D}", "A")) == 100
    assert len(resolver.says(f"many.{D}", "SRV")) == 100


@pytest.mark.parametrize("rtype", ["A", "SRV", "TXT", "MX", "CNAME"])
def test_names_that_do_not_exist(resolver: Resolver, rtype: str) -> None:
    for name in ("none", f"none-{rtype}.web.prod", f"a.b.c.none-{rtype}"):
        response = resolver.ask(f"{name}.{D}", rtype)
        assert response.rcode() == dns.rcode.NXDOMAIN
        assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]


def test_types_that_a_name_does_not_have(resolver: Resolver) -> None:
    for name, rtype in (
        (f"web.prod.{D}", "MX"),
        (f"i1.web.prod.{D}", "AAAA"),
        (f"web.prod.{D}", "CNAME"),
        (f"web.prod.{D}", "HTTPS"),
        (f"prod.{D}", "MX"),
        (D, "A"),
    ):
        response = resolver.ask(name, rtype)
        assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, []), name
        assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]


# ---------------------------------------------------------------- the way there


def test_empty_non_terminals_do_not_hide_what_lies_below(resolver: Resolver) -> None:
    """A resolver that minimises names asks for each part first, and believes NXDOMAIN for all below (RFC 8020)."""
    for name in (f"below.{D}", f"down.below.{D}", f"tag.web.prod.{D}", f"_tcp.web.prod.{D}"):
        assert resolver.ask(name, "TXT").rcode() == dns.rcode.NOERROR, name
    assert resolver.says(f"i1.deep.down.below.{D}", "A") == ["10.0.1.1"]
    assert resolver.says(f"blue.tag.web.prod.{D}", "A") == ["10.0.0.1"]
    ports = [text.split(" ")[2] for text in resolver.says(f"_http._tcp.web.prod.{D}", "SRV")]
    assert ports == ["8080", "8081"]
    assert resolver.says(f"_web._tcp.prod.{D}", "SRV") == resolver.says(f"web.prod.{D}", "SRV")


def test_letter_case_is_kept_on_the_way(resolvers: dict[str, Resolver]) -> None:
    """unbound mixes it (0x20). Were it lost, unbound would ask again and again to make sure."""
    for kind in KINDS[:2]:
        resolver = resolvers[kind]
        service = f"{'abcdefghij' * 3}.{resolver.label}"
        name = f"{service}.{D}"
        put(resolver.node, service, "i1", {"host": "10.0.3.1"})
        assert resolver.says(name, "A") == ["10.0.3.1"]
        assert resolver.asked(name, "A") == 1
        mixed = resolver.ask(name.upper(), "A")
        assert mixed.question[0].name.to_text() == name.upper()


# ---------------------------------------------------------------- as told


def test_an_answer_is_kept_for_its_ttl(resolver: Resolver) -> None:
    service = f"kept-{resolver.label}"
    name = f"{service}.{D}"
    put(resolver.node, service, "i1", {"host": "10.0.2.1", "ttl": 4})
    assert resolver.ttl(name, "A") == 4
    put(resolver.node, service, "i1", {"host": "10.0.2.2", "ttl": 4})
    assert resolver.says(name, "A") == ["10.0.2.1"]
    wait_for(lambda: resolver.ttl(name, "A") == 2, 4, "its TTL counts down")
    assert resolver.says(name, "A") == ["10.0.2.1"]
    assert resolver.asked(name, "A") == 1
    wait_for(lambda: resolver.says(name, "A") == ["10.0.2.2"], 5, "asked again when the TTL is over")
    assert resolver.asked(name, "A") == 2


def test_a_service_without_a_ttl_has_the_zones(resolver: Resolver) -> None:
    assert resolver.ttl(f"i1.web.prod.{D}", "A") <= TTL
    service = f"fresh-{resolver.label}"
    put(resolver.node, service, "i1", {"host": "10.0.2.3"})
    assert resolver.ttl(f"{service}.{D}", "A") == TTL


def test_a_name_that_did_not_exist_is_found_when_the_negative_ttl_is_over(resolver: Resolver) -> None:
    service = f"late-{resolver.label}"
    name = f"{service}.{D}"
    missing = resolver.ask(name, "A")
    assert (missing.rcode(), missing.authority[0].ttl) == (dns.rcode.NXDOMAIN, NEGATIVE_TTL)
    put(resolver.node, service, "i1", {"host": "10.0.2.1"})
    assert resolver.ask(name, "A").rcode() == dns.rcode.NXDOMAIN
    assert resolver.asked(name, "A") == 1
    wait_for(lambda: resolver.ask(name, "A").answer != [], NEGATIVE_TTL + 2, "found")


def test_a_name_that_lost_its_services_is_no_missing_name(resolver: Resolver) -> None:
    """NODATA for the time of `negative_grace`: NXDOMAIN would hide what is registered below it meanwhile."""
    service = f"lost-{resolver.label}"
    name = f"{service}.{D}"
    put(resolver.node, service, "i1", {"host": "10.0.2.1", "ttl": 1})
    assert resolver.says(name, "A") == ["10.0.2.1"]
    assert resolver.node.call("DELETE", f"/v1/services/{service}/i1")[0] in (200, 204)
    wait_for(lambda: resolver.ask(name, "A").answer == [], 4, "gone")
    assert resolver.ask(name, "A").rcode() == dns.rcode.NOERROR
    put(resolver.node, service, "i2", {"host": "10.0.2.2"})
    assert resolver.says(f"i2.{name}", "A") == ["10.0.2.2"]
    wait_for(lambda: resolver.ask(name, "A").answer != [], NEGATIVE_TTL + 2, "back")

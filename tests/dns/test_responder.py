"""Packets to packets: total, honest about its state, and its caches never tell another answer than no cache would."""

from __future__ import annotations

import json
import random
import re

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery import names, service
from discovery.dns.cookies import Secret
from discovery.dns.responder import Responder
from discovery.dns.zone import Zone
from discovery.kv.contract import KV
from tests.support.dns import APEX, PREFIX, World, kind, lines, query

STORED: dict[str, object] = {
    "1.web.prod": {"host": "10.0.0.1", "port": 80, "tags": ["a"], "ports": {"http": 8080}, "text": "t"},
    "2.web.prod": {"host": "2001:db8::2", "port": 80, "mail": True},
    "www": {"host": "web.prod.d.test"},
    "ext": {"host": "www.example.com"},
}
CHAOS = {b"\x07version\x04bind\x00": b"discovery 1"}


def mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        choice = rng.randrange(4)
        if choice == 0 and out:
            out[min(at, len(out) - 1)] = rng.randrange(256)
        elif choice == 1:
            del out[at : at + rng.randint(1, 8)]
        elif choice == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            out = out[:at]
    return bytes(out)


def check_total(world: World, responder: Responder, data: bytes) -> None:
    """Silence, or a well-formed answer to the same id, and no error inside."""
    answer = responder.respond(data)
    assert world.counters.failed == 0, data
    if answer is None:
        assert len(data) < 12 or data[2] & 0x80
        return
    assert isinstance(answer, bytes)
    assert answer[:2] == data[:2]
    assert answer[2] & 0x80
    if not data[2] & 0x78:  # dnspython reads only queries in their ordinary form
        dns.message.from_wire(answer, keyring=False)


# ---------------------------------------------------------------- total


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    world = World(STORED)
    check_total(world, world.udp, data)


def test_mutated_packets(rng: random.Random) -> None:
    world = World(STORED, chaos=CHAOS)
    questions = [
        query(name, rtype, edns=edns, rclass=rclass).to_wire()
        for name in (
            "web.prod",
            "*.prod",
            "www",
            "x",
            "",
            "_http._tcp.web.prod",
            "a.tag.web.prod",
            "version.bind.",
        )
        for rtype in ("A", "SRV", "TXT", "ANY", "SOA", "AXFR")
        for edns in (False, True)
        for rclass in ("IN", "CH")
    ]
    for _ in range(4000):
        check_total(world, rng.choice((world.udp, world.tcp)), mutated(rng, rng.choice(questions)))


def test_an_error_inside_is_servfail_with_question_and_opt_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(STORED)
    world.view.addresses = world.view.root = None  # type: ignore[assignment]  # a broken view
    response = world.ask("web.prod", "A", edns=True)
    assert (response.rcode(), response.edns) == (2, 0)
    assert (world.counters.failed, world.counters.rcodes[2]) == (1, 1)
    assert "SERVFAIL" in caplog.text


# ---------------------------------------------------------------- states


def test_before_the_first_load_it_is_servfail_not_ready_and_never_nxdomain() -> None:
    world = World(ready=False)
    for name in ("web", "x", "example.com.", ""):
        response = world.ask(name, "A", edns=True)
        assert response.rcode() == 2
        assert response.options == (dns.edns.EDEOption(dns.edns.EDECode(14)),)
        response = world.ask(name, "A")
        assert (response.rcode(), response.edns) == (2, -1)
    world.view.restore([], 1, 0.0)
    assert world.ask("x", "A").rcode() == 3


def test_stale_is_told_to_those_who_sent_edns_and_ends() -> None:
    world = World({"1.web": {"host": "10.0.0.1", "ttl": 300}})
    world.ask("web", "A", edns=True)
    for stale, ttl, options in ((True, 30, (dns.edns.EDEOption(dns.edns.EDECode(3)),)), (False, 300, ())):
        world.view.stale = stale
        world.view.new_epoch()
        for _ in range(2):
            response = world.ask("web", "A", edns=True)
            assert (response.answer[0].ttl, response.options) == (ttl, options)
            assert world.ask("web", "A").answer[0].ttl == ttl


# ---------------------------------------------------------------- classes


def chaos(world: World, name: str, rtype: str, rclass: str = "CH") -> dns.message.Message:
    answer = world.udp.respond(query(name, rtype, rclass=rclass).to_wire())
    assert isinstance(answer, bytes)
    return dns.message.from_wire(answer)


def test_class_ch_tells_who_answers_even_before_it_is_ready() -> None:
    world = World(chaos=CHAOS, ready=False)
    response = chaos(world, "VERSION.bind.", "TXT")
    assert response.answer[0].to_text() == 'VERSION.bind. 0 CH TXT "discovery 1"'
    assert response.flags & dns.flags.AA
    assert chaos(world, "version.bind.", "A").rcode() == 5
    assert chaos(world, "other.bind.", "TXT").rcode() == 5
    assert chaos(World(), "version.bind.", "TXT").rcode() == 5


@pytest.mark.parametrize("rclass", ["HS", "ANY", "NONE", "CLASS0", "CLASS65280"])
def test_other_classes_are_refused(rclass: str) -> None:
    response = chaos(World(STORED, chaos=CHAOS), "web.prod", "A", rclass)
    assert (response.rcode(), response.answer, response.flags & dns.flags.AA) == (5, [], 0)


# ---------------------------------------------------------------- counting


def test_every_question_is_a_hit_or_a_miss_and_has_an_rcode() -> None:
    world = World(STORED)
    for _ in range(3):
        world.ask("web.prod", "A")
    world.ask("WEB.prod", "A")
    world.ask("x", "A")
    world.udp.respond(b"short")
    world.udp.respond(query("x", "A").to_wire() + b"x")
    counters = world.counters
    assert (counters.misses, counters.hits_raw, counters.hits_prepared) == (2, 1, 2)
    assert (counters.rcodes[0], counters.rcodes[3], counters.rcodes[1]) == (4, 1, 1)
    assert (counters.dropped, counters.malformed) == (1, 1)


def test_truncated_answers_from_the_cache_are_counted_too() -> None:
    world = World({f"{n}.web": {"host": f"10.0.0.{n}"} for n in range(100)})
    for _ in range(3):
        world.ask("web", "A")
    assert (world.counters.misses, world.counters.hits_prepared, world.counters.hits_raw) == (1, 1, 1)
    assert world.counters.truncated == 3


# ---------------------------------------------------------------- a cached answer is a fresh answer

LABELS = ("web", "db", "prod", "any", "tag", "_tcp", "_http", "dns", "ns", "apex", "1", "blue", "d", "*")
HOSTS = (
    *("", "10.0.0.1", "10.0.0.2", "10.1.0.1", "2001:db8::1", "web.d.test", "db.prod.d.test", "prod.d.test"),
    *("www.example.com", "d.test", "ns.dns.d.test", "*.prod.d.test", "blue.tag.web.d.test", "in.d.test"),
)
TYPES = ("A", "AAAA", "SRV", "MX", "TXT", "CNAME", "NS", "SOA", "PTR", "ANY")
ZONES = (
    Zone(apex=APEX, local=names.from_text("web.d.test")),
    Zone(apex=names.from_text("in.d.test"), ttl=60),
    Zone(apex=names.from_text("0.10.in-addr.arpa"), reverse=True),
    Zone(apex=names.from_text("1.10.in-addr.arpa"), reverse=True),
)
CLIENT = bytes((192, 0, 2, 1))


class Twin:
    """A world whose responders live long, and questions asked of them and of fresh ones."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.world = World(zones=ZONES, grace=rng.choice((0, 5)), max_matched=rng.choice((3, 10000)))
        self.world.cookies.use([Secret(b"k" * 16, 0)])
        self.keys: dict[bytes, KV] = {}
        self.asked: list[bytes] = []

    def name(self) -> str:
        rng = self.rng
        if rng.random() < 0.1:
            octets = [rng.choice("012") for _ in range(rng.randint(0, 2))]
            return ".".join((*octets, rng.choice("01"), "10.in-addr.arpa."))
        inner = ("in",) if rng.random() < 0.1 else ()
        return ".".join((*(rng.choice(LABELS) for _ in range(rng.randint(0, 4))), *inner, "d.test."))

    def key(self) -> str:
        labels = [label for label in self.name().split(".") if label not in ("*", "any", "")]
        return "/".join((PREFIX, *reversed(labels)))

    def value(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.08:
            return b"broken"
        fields: dict[str, object] = {"host": rng.choice(HOSTS)}
        some = {
            "port": rng.randint(1, 3),
            "ttl": rng.randint(1, 90),
            "priority": rng.randint(0, 2),
            "weight": rng.randint(0, 9),
            "text": rng.choice("ab"),
            "mail": True,
            "targetstrip": rng.randint(-1, 3),
            "group": rng.choice("gh"),
            "tags": ["blue"],
            "ports": {"http": rng.randint(1, 9)},
            "meta": {"k": "v"},
        }
        fields.update({name: content for name, content in some.items() if rng.random() < 0.15})
        return json.dumps(fields).encode()

    def change(self) -> None:
        rng, world = self.rng, self.world
        world.now += rng.choice((0.0, 1.0, 3.0))
        act = rng.random()
        if act < 0.6:
            key = (
                self.key() if rng.random() < 0.7 or not self.keys else rng.choice(sorted(self.keys)).decode()
            )
            lease = rng.choice((0, 0, 0, 11, 12))
            world.put(key, self.value(), lease)
            self.keys[key.encode()] = KV(key.encode(), b"", 0, 0, 0)
        elif act < 0.8 and self.keys:
            key = rng.choice(sorted(self.keys)).decode()
            world.delete(key)
            del self.keys[key.encode()]
        elif act < 0.85:
            world.view.learn_lease(rng.choice((11, 12)), rng.choice((3, 30)))
        elif act < 0.9:
            self.reload()
        elif act < 0.93:
            world.view.stale = not world.view.stale
            world.view.new_epoch()
        else:
            world.view.sweep(world.now)

    def reload(self) -> None:
        """The same keys but some, with a few changed."""
        world = self.world
        world.revision += 1
        kvs = []
        for record in list(world.view.root.walk()):
            if self.rng.random() < 0.1:
                del self.keys[record.key]
            elif self.rng.random() < 0.2:
                kvs.append(KV(record.key, self.value(), record.create_revision, world.revision, 2))
            else:
                value = b"broken" if record.fields is None else service.write(record.fields)
                kvs.append(KV(record.key, value, record.create_revision, record.revision, 1, record.lease))
        world.view.restore(kvs, world.revision, world.now)

    def question(self) -> bytes:
        rng = self.rng
        if not self.asked or rng.random() > 0.6:
            message = query(self.name(), rng.choice(TYPES))
            shape = rng.random()
            if shape < 0.6:
                cookie: dns.edns.Option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(8))
                options = [cookie] if shape < 0.3 else []
                message.use_edns(0, rng.choice((0, 0x8000)), rng.choice((512, 1232, 4096)), options=options)
            self.asked.append(message.to_wire())
        packet = bytearray(rng.choice(self.asked))
        if rng.random() < 0.3:  # random letter case
            for at in range(12, packet.index(0, 12)):
                if 97 <= packet[at] <= 122 and rng.random() < 0.5:
                    packet[at] ^= 0x20
        if packet.endswith(b"\0\x0a\0\x08" + bytes(8)):
            packet[-8:] = rng.randbytes(8)
        packet[:2] = rng.randbytes(2)
        return bytes(packet)

    def compare(self) -> None:
        question = self.question()
        udp = self.rng.random() < 0.5
        long_lived = self.world.udp if udp else self.world.tcp
        for _ in range(self.rng.randrange(3)):
            long_lived.respond(question, CLIENT)
        old = long_lived.respond(question, CLIENT)
        new = self.world.responder(udp=udp).respond(question, CLIENT)
        assert isinstance(old, bytes)
        assert isinstance(new, bytes)
        assert self.world.counters.failed == 0
        if old != new:
            assert reading(old) == reading(new), dns.message.from_wire(question)
        no_alias_beside_records(new)


def no_alias_beside_records(answer: bytes) -> None:
    """RFC 1034 section 3.6.2: at an owner of the answer with a CNAME there is that one and nothing else."""
    message = dns.message.from_wire(answer, one_rr_per_rrset=True)  # raises for what is no message
    for section in (message.answer, message.additional):
        owners = [rrset.name for rrset in section]
        for rrset in section:
            assert rrset.rdtype != dns.rdatatype.CNAME or owners.count(rrset.name) == 1, message


def reading(answer: bytes) -> tuple[object, ...]:
    """What an answer says, up to the order of the answer section and the SOA serial of a negative one."""
    message = dns.message.from_wire(answer, one_rr_per_rrset=True)
    authority = [re.sub(r" \d+ 3600 600 ", " N 3600 600 ", line) for line in lines(message.authority)]
    sections = (sorted(lines(message.answer)), authority, lines(message.additional))
    return (message.flags, kind(message), message.question[0].to_text(), message.options, *sections)


def test_a_cached_answer_is_what_a_fresh_responder_says(rng: random.Random) -> None:
    """The property that the caches rest on: whatever happens to the view, they never tell something else."""
    raw = prepared = 0
    for _ in range(3):
        twin = Twin(rng)
        for _ in range(60):
            twin.change()
            for _ in range(6):
                twin.compare()
        raw += twin.world.counters.hits_raw
        prepared += twin.world.counters.hits_prepared
    assert min(raw, prepared) > 100  # else it compared fresh with fresh


@pytest.mark.slow
def test_a_cached_answer_is_what_a_fresh_responder_says_for_long(rng: random.Random) -> None:
    for _ in range(40):
        twin = Twin(rng)
        for _ in range(120):
            twin.change()
            for _ in range(12):
                twin.compare()

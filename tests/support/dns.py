"""A view made from a dict, asked in process; answers are read by dnspython and compared as zone-file text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from discovery import names
from discovery.dns.answer import Prepared
from discovery.dns.cache import Cache
from discovery.dns.cookies import Cookies
from discovery.dns.counters import DnsCounters
from discovery.dns.deferred import DeferredResponder
from discovery.dns.forward import Forwarder, Routes
from discovery.dns.options import Options
from discovery.dns.records import Node
from discovery.dns.responder import Responder
from discovery.dns.synthesis import Settings
from discovery.dns.turns import Turns
from discovery.dns.zone import Zone, Zones
from discovery.kv.contract import KV, Event
from discovery.view import View
from tests.support.clock import FakeClock

APEX = names.from_text("d.test.")
NODE = Node(b"n1", (bytes((192, 0, 2, 53)),))
PREFIX = "/skydns"
Stored = Mapping[str, object]  # a name (or a key, with a leading slash) -> JSON value, or bytes as they are


def key_of(name: str) -> bytes:
    """`1.web` is relative to d.test., `1.web.other.` is absolute, `/skydns/...` is the key itself."""
    if name.startswith("/"):
        return name.encode()
    text = name if name.endswith(".") else f"{name}.d.test." if name else "d.test."
    return names.key_of(names.from_text(text), PREFIX)


def value_of(content: object) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def kv(name: str, content: object, revision: int = 1, lease: int = 0) -> KV:
    return KV(key_of(name), value_of(content), revision, revision, 1, lease)


class World:
    """A view with the zones it serves, changed revision by revision, and a responder for each transport."""

    def __init__(
        self,
        stored: Stored | None = None,
        *,
        zones: Iterable[Zone] = (Zone(apex=APEX),),
        grace: float = 0.0,
        node: Node = NODE,
        draw: Callable[[], float] = lambda: 0.0,
        ready: bool = True,
        max_matched: int = 10000,
        round_robin: bool = True,
        payload_size: int = 1232,
        chaos: dict[bytes, bytes] | None = None,
        nsid: bytes = b"",
    ) -> None:
        zones = list(zones)
        self.view = View(
            PREFIX,
            apexes=[zone.apex for zone in zones if not zone.reverse],
            reverse=[zone.apex for zone in zones if zone.reverse],
            grace_of=lambda path: grace,
        )
        self.settings = Settings(
            Zones(zones),
            node,
            max_matched,
            round_robin,
            payload_size,
            {} if chaos is None else chaos,
            nsid=nsid,
        )
        self.wall = 1_800_000_000.0
        self.cookies = Cookies(lambda: self.wall)
        self.revision = 1
        self.now = 0.0
        self.draw = draw
        self.counters = DnsCounters()
        if ready:
            self.view.restore([kv(name, content) for name, content in (stored or {}).items()], 1, 0.0)
        self.udp = self.responder(udp=True)
        self.tcp = self.responder(udp=False)

    def responder(
        self,
        *,
        udp: bool,
        cache_bytes: int = 1 << 20,
        python: bool = False,
        turns: Turns | None = None,
    ) -> Responder:
        """A fresh one, with caches of its own; `python`: without the compiled part."""
        prepared: Cache[bytes, Prepared] = Cache(cache_bytes)
        with python_alone() if python else nullcontext():
            return Responder(
                self.view,
                self.settings,
                self.counters,
                draw=self.draw,
                udp=udp,
                raw_bytes=cache_bytes,
                prepared=prepared,
                options=Options(self.settings.nsid, self.cookies),
                turns=turns or Turns(FakeClock()),
            )

    def deferred(self, responder: Responder) -> DeferredResponder:
        """Without servers to forward to, as listeners want it."""
        forwarder = Forwarder(Routes(), self.view, self.settings.zones, self.counters, lambda: 0.0)
        return DeferredResponder(responder, forwarder, self.view, self.settings)

    def put(self, name: str, content: object, lease: int = 0) -> None:
        self.revision += 1
        self.view.apply([Event(kv(name, content, self.revision, lease))], self.revision, self.now)

    def put_raw(self, key: bytes, content: object) -> None:
        """At a key of any bytes."""
        self.revision += 1
        stored = KV(key, value_of(content), self.revision, self.revision, 1, 0)
        self.view.apply([Event(stored)], self.revision, self.now)

    def delete(self, name: str) -> None:
        self.revision += 1
        gone = KV(key_of(name), b"", 0, self.revision, 0)
        self.view.apply([Event(gone, deleted=True)], self.revision, self.now)

    def ask(
        self, name: str, rtype: str, *, tcp: bool = False, edns: bool = False, payload: int = 1232
    ) -> dns.message.Message:
        return ask(self.tcp if tcp else self.udp, name, rtype, edns=edns, payload=payload)

    def says(self, name: str, rtype: str) -> list[str]:
        """The answer section as zone-file lines, or the negative answer's kind alone."""
        response = self.ask(name, rtype, tcp=True)
        assert bool(response.flags & dns.flags.AA) == (response.rcode() in (0, 3)), response
        return lines(response.answer) or [kind(response)]

    def adds(self, name: str, rtype: str) -> list[str]:
        """The additional section as zone-file lines."""
        return lines(self.ask(name, rtype, tcp=True).additional)


@contextmanager
def python_alone() -> Iterator[None]:
    """What is made meanwhile is made as where there was no C compiler."""
    name = "discovery.dns._fast"
    before = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails then
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(before)


def full(name: str) -> str:
    return name if name.endswith(".") else f"{name}.d.test." if name else "d.test."


def query(
    name: str, rtype: str, *, edns: bool = False, payload: int = 1232, rclass: str = "IN"
) -> dns.message.Message:
    message = dns.message.make_query(
        full(name), rtype, rclass, use_edns=0 if edns else False, payload=payload
    )
    message.id = 4711
    return message


def ask(
    responder: Responder, name: str, rtype: str, *, edns: bool = False, payload: int = 1232
) -> dns.message.Message:
    question = query(name, rtype, edns=edns, payload=payload)
    answer = responder.respond(question.to_wire())
    assert isinstance(answer, bytes)
    response = dns.message.from_wire(answer, one_rr_per_rrset=True)
    assert question.is_response(response), response
    return response


def lines(section: Iterable[dns.rrset.RRset]) -> list[str]:
    """Records as zone-file lines in their order: `owner TTL TYPE content`, names relative to d.test."""
    out = []
    for rrset in section:
        for item in rrset:
            text = f"{short(rrset.name.to_text())} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)}"
            out.append(f"{text} {' '.join(short(word) for word in item.to_text().split(' '))}")
    return out


def short(word: str) -> str:
    return "@" if word == "d.test." else word.removesuffix(".d.test.") if word.endswith(".d.test.") else word


def kind(response: dns.message.Message) -> str:
    if response.rcode():
        return dns.rcode.to_text(response.rcode())
    return "NODATA" if response.authority else "EMPTY"

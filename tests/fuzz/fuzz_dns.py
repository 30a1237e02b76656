"""Throws mutated DNS packets at a responder.

The invariant: whatever the bytes, there is silence or one well-formed answer with the same id, never an exception.
Silence is only for what is no query: less than a header, or QR=1. A second, long-lived responder with warm caches
must say the same as a fresh one about every packet.

    python -m tests.fuzz.fuzz_dns --seconds 60 [--seed N] [--packets FILE]

Prints the seed; on a finding saves the packet (`fuzz_dns_finding.bin`, hex on the screen) and exits 1.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import struct
import sys
import time
from pathlib import Path

import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.tsig

from tests.support.dns import World, query

NAMES = (
    *(
        "",
        "web.prod",
        "WeB.pRoD",
        "*.prod",
        "any.any",
        "www",
        "ext",
        "x",
        "_http._tcp.web.prod",
        "blue.tag.web.prod",
    ),
    *(
        "tag.web.prod",
        "_tcp",
        "ns.dns",
        "dns",
        "big",
        "mail",
        "loop",
        "chain0",
        "version.bind.",
        ".",
        "test.",
    ),
    *("1.0.0.10.in-addr.arpa.", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 50}", "a\\000\\255\\.b.prod"),
)
TYPES = (
    "A",
    "AAAA",
    "SRV",
    "MX",
    "TXT",
    "CNAME",
    "NS",
    "SOA",
    "PTR",
    "ANY",
    "AXFR",
    "IXFR",
    "OPT",
    "TSIG",
    "TYPE65535",
)
STORED: dict[str, object] = {
    "1.web.prod": {
        "host": "10.0.0.1",
        "port": 80,
        "tags": ["blue"],
        "ports": {"http": 8080},
        "text": "t" * 300,
    },
    "2.web.prod": {"host": "2001:db8::2", "port": 80, "meta": {"a": "b"}},
    "www": {"host": "web.prod.d.test"},
    "ext": {"host": "www.example.com"},
    "1.mail": {"host": "10.0.0.9", "mail": True, "targetstrip": 1},
    "2.mail": {"host": "www.d.test", "mail": True},
    "loop": {"host": "loop.d.test"},
    "bad": b"{",
    "/skydns/arpa/in-addr/10/0/0/1": {"host": "one.d.test"},
    **{f"{n}.big": {"host": f"10.1.{n >> 8}.{n & 255}", "port": n, "weight": n} for n in range(1, 600)},
    **{f"chain{n}": {"host": f"chain{n + 1}.d.test"} for n in range(13)},
}
INTERESTING = (
    b"\0",
    b"\xff",
    b"\xc0\x0c",
    b"\xc0\x00",
    b"\x3f",
    b"\x40",
    b"\0\x29",
    b"\xff\xff",
    b"\0\xfa",
    b"\0\x0a\0\x07",
)


def corpus() -> list[bytes]:
    """Real packets: every name and type, plain and with EDNS, and the odd ones."""
    packets = []
    for name in NAMES:
        for rtype in TYPES:
            packets += [query(name, rtype, edns=edns, payload=4096).to_wire() for edns in (False, True)]
        packets.append(query(name, "TXT", rclass="CH").to_wire())
    signed = query("web.prod", "A", edns=True)
    signed.use_tsig(dns.tsig.Key("key.", b"secret", "hmac-sha256"))
    packets.append(signed.to_wire())
    for code, content in (("COOKIE", bytes(8)), ("NSID", b"")):
        message = query("web.prod", "A")
        message.use_edns(0, 0x8000, 512, options=[dns.edns.GenericOption(code, content)])
        packets.append(message.to_wire())
    for opcode in range(1, 16):
        message = query("web.prod", "SOA")
        message.set_opcode(dns.opcode.Opcode(opcode) if opcode in (1, 2, 4, 6) else dns.opcode.QUERY)
        packets.append(message.to_wire())
    return packets


def mutate(rng: random.Random, packets: list[bytes]) -> bytes:
    """A packet of the corpus with one to six changes: bits, bytes, numbers of the header, pieces of others."""
    out = bytearray(rng.choice(packets))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(9):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.randrange(256)
            case 2:
                out[at:at] = rng.choice(INTERESTING)
            case 3:
                out[at : at + 2] = rng.choice(INTERESTING)
            case 4:
                del out[at : at + rng.randint(1, 20)]
            case 5:
                del out[at:]
            case 6:
                other = rng.choice(packets)
                begin = rng.randrange(len(other))
                out[at:at] = other[begin : begin + rng.randint(1, 40)]
            case 7 if len(out) >= 12:
                field = rng.randrange(2, 12, 2)
                out[field : field + 2] = struct.pack(
                    "!H", rng.choice((0, 1, 2, 3, 255, 0x8000, 0xFFFF, rng.randrange(65536)))
                )
            case _:
                out += out[at:] * rng.randint(1, 3)
    return bytes(out[:65535])


class Finding(Exception):
    pass


def check(world: World, packet: bytes, *, udp: bool) -> None:
    """Raises Finding when the invariant does not hold for the packet."""
    responder = world.udp if udp else world.tcp
    try:
        answer = responder.respond(packet)
        fresh = world.responder(udp=udp).respond(packet)
    except Exception as error:
        raise Finding(f"it raised {error!r}") from error
    if world.counters.failed:
        raise Finding("an error inside, answered with SERVFAIL")
    if answer != fresh:
        raise Finding("the caches tell another answer")
    is_query = len(packet) >= 12 and not packet[2] & 0x80
    if (answer is not None) != is_query:
        raise Finding("a query without an answer" if is_query else "an answer to what is no query")
    if answer is None:
        return
    if not isinstance(answer, bytes):
        raise Finding("the answer waits for other servers, though there are none")
    if answer[:2] != packet[:2] or not answer[2] & 0x80 or (answer[2] ^ packet[2]) & 0x78:
        raise Finding("the header is not an answer's to this query")
    if len(answer) > (1232 if udp else 65535):
        raise Finding(f"an answer of {len(answer)} bytes")
    try:
        # dnspython reads an UPDATE's sections by other rules: read every answer as a plain one.
        dns.message.from_wire(answer[:2] + bytes((answer[2] & 0x87,)) + answer[3:], keyring=False)
    except dns.exception.DNSException as error:
        raise Finding(f"the answer is not well-formed: {error!r}") from error


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the answering of DNS packets.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--packets", type=Path, help="a saved finding to try again")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    world = World(STORED, chaos={b"\x07version\x04bind\x00": b"fuzz"})
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    packets = [arguments.packets.read_bytes()] if arguments.packets else corpus()
    tried = answered = 0
    end = time.monotonic() + arguments.seconds
    packet = b""
    try:
        for packet in packets:
            for udp in (True, False):
                check(world, packet, udp=udp)
        while not arguments.packets and time.monotonic() < end:
            packet = mutate(rng, packets)
            check(world, packet, udp=rng.random() < 0.7)
            tried += 1
            answered += sum(world.counters.rcodes[:1])
            world.counters.rcodes[0] = 0
    except Finding as finding:
        saved = Path("fuzz_dns_finding.bin")
        saved.write_bytes(packet)
        print(f"after {tried} packets: {finding}\n{packet.hex()}\nsaved as {saved}")
        return 1
    print(f"{tried} packets, {answered} answers NOERROR; {len(packets)} in the corpus; nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())

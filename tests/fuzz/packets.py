"""Packets to throw: a corpus of real ones, mutations of them, and queries built piece by piece, right and wrong."""

from __future__ import annotations

import random
import struct

import dns.edns
import dns.message
import dns.opcode
import dns.tsig

from tests.support.dns import query

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
    *("hostmaster", "abc.hostmaster", "abcdefghijklmn"),
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


def build(rng: random.Random) -> bytes:
    """A query that is nearly right: a name in any letter case, any flags, an OPT with options of all kinds."""
    name = bytearray(query(rng.choice(NAMES), "A").question[0].name.to_wire() or b"\0")
    if rng.random() < 0.3:
        name = bytearray(
            letter - 32 if 97 <= letter <= 122 and rng.random() < 0.5 else letter for letter in name
        )
    if rng.random() < 0.05:
        name = bytearray(rng.randbytes(rng.randint(1, 70)))
    rtype, rclass = (
        rng.choice((1, 28, 33, 16, 6, 255, rng.randrange(65536))),
        rng.choice((1, 1, 1, 1, 3, 254)),
    )
    flags = rng.choice((0, 0, 0x0100, 0x0120, 0x0010, rng.randrange(0x8000), rng.randrange(65536)))
    records = [opt(rng) for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 2)))]
    counts = [1, 0, 0, len(records)]
    if rng.random() < 0.05:
        counts[rng.randrange(4)] = rng.randrange(3)
    question = bytes(name) + struct.pack("!HH", rtype, rclass) if counts[0] or rng.random() < 0.1 else b""
    return struct.pack("!HH4H", rng.randrange(65536), flags, *counts) + question + b"".join(records)


def opt(rng: random.Random) -> bytes:
    """An OPT record: versions, sizes and flags of all kinds; options whole, or with a length that lies."""
    options = b"".join(option(rng) for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 5))))
    if options and rng.random() < 0.05:
        options = options[: rng.randrange(len(options))]
    owner = b"\0" if rng.random() < 0.97 else rng.choice((b"\xc0\x0c", b"\1a\0", b"\xc0\xff"))
    payload = rng.choice((0, 1, 511, 512, 513, 1232, 1232, 4096, 65535))
    version = 0 if rng.random() < 0.95 else rng.randrange(256)
    extended = rng.choice((0, 0, rng.randrange(256)))
    flags = rng.choice((0, 0x8000, 0x4000, rng.randrange(65536)))
    length = len(options) if rng.random() < 0.97 else rng.randrange(65536)
    return owner + struct.pack("!HHBBHH", 41, payload, extended, version, flags, length) + options


def option(rng: random.Random) -> bytes:
    code = rng.choice((10, 10, 10, 3, 12, 8, 11, 15, rng.randrange(65536)))
    sizes = (0, 7, 8, 8, 8, 9, 15, 16, 24, 24, 40, 41) if code == 10 else (0, 0, 1, 4, 12, 100)
    content = rng.randbytes(rng.choice(sizes))
    length = len(content) if rng.random() < 0.98 else rng.randrange(65536)
    return struct.pack("!HH", code, length) + content

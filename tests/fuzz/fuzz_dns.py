"""Throws packets at a responder, and at listeners over real sockets.

The invariant: whatever the bytes, there is silence or one well-formed answer with the same id, never an exception.
Silence is only for what is no query: less than a header, or QR=1. A long-lived responder with warm caches must say the
same as a fresh one about every packet, while services come and go; and the answers that come out of a listener's
socket, however the stream was cut or the datagrams came, are those of the responder, in order.

    python -m tests.fuzz.fuzz_dns --seconds 60 [--seed N] [--packets FILE] [--what packets,udp,tcp]

Prints the seed; on a finding saves the packets (`fuzz_dns_finding.bin`, hex on the screen) and exits 1.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import secrets
import socket
import struct
import sys
import time
from ipaddress import ip_network
from pathlib import Path

import dns.exception
import dns.message

from discovery.dns.admission import Admission, Answering, Limits
from discovery.dns.batch import MAX_DATAGRAM
from discovery.dns.cookies import Secret
from discovery.dns.padding import padded
from discovery.dns.rrl import Rates
from tests.fuzz.packets import STORED, build, corpus, mutate
from tests.fuzz.streams import stream_round, udp_round
from tests.support.dns import World

CLIENTS = (
    socket.inet_aton("192.0.2.1"),
    socket.inet_aton("127.0.0.1"),
    socket.inet_pton(socket.AF_INET6, "2001:db8::1"),
)
WHAT = ("packets", "udp", "tcp")
SERIAL = re.compile(rb".{4}(?=\x00\x00\x0e\x10\x00\x00\x02\x58\x00\x09\x3a\x80)", re.S)


class Finding(Exception):
    """`packets`: what it was found with."""

    def __init__(self, text: str, *packets: bytes) -> None:
        super().__init__(text)
        self.packets = packets


class Fuzz:
    """One world that lives as long as the run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.corpus = corpus()
        self.world = World(STORED, chaos={b"\x07version\x04bind\x00": b"fuzz"}, nsid=b"fuzz")
        self.world.cookies.use([Secret(b"k" * 16, 0)])
        self.clock = 0.0
        world = self.world
        limits = Limits((ip_network("192.0.2.0/25"), ip_network("2001:db8::/32")), (), Rates(50, 50, 50))
        self.admitted: tuple[Answering, ...] = tuple(
            Admission(each, limits, world.cookies, world.counters, lambda: self.clock, udp=each is world.udp)
            for each in (world.udp, world.tcp)
        )
        self.python = {udp: world.responder(udp=udp, python=True) for udp in (True, False)}
        self.tried = 0

    def packet(self) -> bytes:
        return build(self.rng) if self.rng.random() < 0.4 else mutate(self.rng, self.corpus)

    def change(self) -> None:
        """A service comes or goes, or time does."""
        rng, world = self.rng, self.world
        world.wall += 1.0
        self.clock += rng.random() / 100
        name = rng.choice(("3.web.prod", "new", "7.big", "www", "a.b.c"))
        if rng.random() < 0.5:
            world.put(name, {"host": rng.choice(("10.9.9.9", "2001:db8::9", "web.prod.d.test")), "port": 9})
        else:
            world.delete(name)

    def packets(self) -> None:
        """A round of packets, each asked of warm and fresh responders."""
        if self.rng.random() < 0.05:
            self.change()
        for _ in range(5):
            packet = self.packet()
            self.tried += 1
            client, udp = self.rng.choice(CLIENTS), self.rng.random() < 0.7
            for each in (packet, packet, varied(self.rng, packet), varied(self.rng, packet)):
                self.check(each, client, udp=udp)

    def check(self, packet: bytes, client: bytes, *, udp: bool) -> None:
        """Raises Finding when the invariant does not hold for the packet."""
        world = self.world
        try:
            answer = (world.udp if udp else world.tcp).respond(packet, client)
            fresh = world.responder(udp=udp).respond(packet, client)
            python = self.python[udp].respond(packet, client)
            (in_batch,) = (world.udp if udp else world.tcp).respond_all([packet], [client])
            for answering in self.admitted:
                answering.respond(packet, client)
        except Exception as error:
            raise Finding(f"it raised {error!r}", packet) from error
        if world.counters.failed:
            raise Finding("an error inside, answered with SERVFAIL", packet)
        if without_serial(answer) != without_serial(fresh):
            raise Finding("the caches tell another answer", packet)
        if without_serial(python) != without_serial(fresh):
            raise Finding("the caches tell another answer without the compiled part", packet)
        if without_serial(in_batch) != without_serial(answer):
            raise Finding("in a batch the answer is another", packet)
        if fault := wrong(packet, answer, 1232 if udp else 65535):
            raise Finding(fault, packet)
        if isinstance(answer, bytes) and not udp and (fault := wrong(packet, padded(packet, answer), 65535)):
            raise Finding(f"padded: {fault}", packet)

    def expected(self, packet: bytes, *, udp: bool) -> bytes | None:
        """What a fresh responder says to a client on loopback."""
        answer = self.world.responder(udp=udp).respond(packet, CLIENTS[1])
        if fault := wrong(packet, answer, 1232 if udp else 65535):
            raise Finding(fault, packet)
        assert answer is None or isinstance(answer, bytes)
        return answer

    async def sockets(self, what: str, end: float) -> None:
        """Rounds over real sockets until `end`."""
        while time.monotonic() < end:
            self.change()
            packets = [self.packet()[:MAX_DATAGRAM] for _ in range(self.rng.randint(1, 40))]
            self.tried += len(packets)
            run = udp_round if what == "udp" else stream_round
            wanted = [
                each for packet in packets if (each := self.expected(packet, udp=what == "udp")) is not None
            ]
            answers = await run(self.rng, self.world, packets)
            if self.world.counters.failed:
                raise Finding("an error inside, answered with SERVFAIL", *packets)
            if list(map(without_serial, answers)) != list(map(without_serial, wanted)):
                raise Finding(f"{len(answers)} answers over {what}, not the {len(wanted)} expected", *packets)

    def run(self, what: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        if what == "packets":
            for packet in self.corpus:
                for udp in (True, False):
                    self.check(packet, CLIENTS[0], udp=udp)
            while time.monotonic() < end:
                self.packets()
        else:
            asyncio.run(self.sockets(what, end))


def varied(rng: random.Random, packet: bytes) -> bytes:
    """The same in another letter case, with another cookie where one is at the end, or one byte longer or shorter."""
    out = bytearray(packet)
    for at in range(12, min(len(out), out.find(0, 12))):
        if bytes(out[at : at + 1]).isalpha() and rng.random() < 0.5:
            out[at] ^= 0x20
    if rng.random() < 0.5:
        out[-8:] = rng.randbytes(8)
    if rng.random() < 0.1:
        out = out[:-1] if rng.random() < 0.5 else out + b"\0"
    return bytes(out)


def without_serial(answer: object) -> object:
    """A negative answer that is kept may have the SOA serial of its making: told by what follows the serial."""
    return SERIAL.sub(b"", answer) if isinstance(answer, bytes) else answer


def wrong(packet: bytes, answer: object, limit: int) -> str:
    """What is wrong with an answer to a packet; "" when nothing is."""
    is_query = len(packet) >= 12 and not packet[2] & 0x80
    if answer is None:
        return "a query without an answer" if is_query else ""
    if not is_query:
        return "an answer to what is no query"
    if not isinstance(answer, bytes):
        return "the answer waits for other servers, though there are none"
    if answer[:2] != packet[:2] or not answer[2] & 0x80 or (answer[2] ^ packet[2]) & 0x78:
        return "the header is not an answer's to this query"
    if len(answer) > limit:
        return f"an answer of {len(answer)} bytes"
    try:
        # dnspython reads an UPDATE's sections by other rules: read every answer as a plain one.
        plain = answer[:2] + bytes((answer[2] & 0x87,)) + answer[3:]
        read = dns.message.from_wire(plain, keyring=False)
    except dns.exception.DNSException as error:
        return f"the answer is not well-formed: {error!r}"
    if limit == 1232 and len(answer) > max(512, asked_size(packet)):
        return f"{len(answer)} bytes are more than the client takes"
    if read.edns >= 0 and b"\0\x29" not in packet[12:]:
        return "an OPT for a query without one"
    return ""


def asked_size(packet: bytes) -> int:
    """The payload size of the first OPT, by a walk of its own; 0: there is none to be read."""
    try:
        questions, *sections = struct.unpack_from("!HHHH", packet, 4)
        at = 12
        for number in range(questions + sum(sections)):
            while 0 < packet[at] < 0xC0:
                at += packet[at] + 1
            at += 2 if packet[at] else 1
            if number < questions:
                at += 4
                continue
            rtype, size, _, length = struct.unpack_from("!HHIH", packet, at)
            if rtype == 41:
                return int(size)
            at += 10 + length
    except (IndexError, struct.error):
        pass
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the answering of DNS packets.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--packets", type=Path, help="a saved finding to try again, as one packet")
    parser.add_argument("--what", default=",".join(WHAT), help="of packets, udp and tcp; each gets its share")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    fuzz = Fuzz(seed)
    try:
        if arguments.packets:
            for udp in (True, False):
                fuzz.check(arguments.packets.read_bytes(), CLIENTS[0], udp=udp)
            print("nothing found")
            return 0
        what = arguments.what.split(",")
        for each in what:
            fuzz.run(each, arguments.seconds / len(what))
    except Finding as finding:
        saved = Path("fuzz_dns_finding.bin")
        saved.write_bytes(b"".join(finding.packets))
        hexadecimal = "\n".join(packet.hex() for packet in finding.packets)
        print(f"after {fuzz.tried} packets: {finding}\n{hexadecimal}\nsaved as {saved}")
        return 1
    rcodes = fuzz.world.counters.rcodes
    print(f"{fuzz.tried} packets, {rcodes[0]} answers NOERROR, {rcodes[1]} FORMERR; nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())

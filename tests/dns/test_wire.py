"""Reading packets that nobody promised to make well, and writing names and records."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset
import dns.tsig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dns import wire
from tests.support.dns import World, ask, query

QUESTION = b"\x03web\x01d\x04test\x00" + struct.pack("!HH", wire.A, wire.IN)
OPT = b"\x00" + struct.pack("!HHIH", wire.OPT, 1232, 0, 0)


def packet(
    question: bytes = QUESTION,
    records: bytes = b"",
    *,
    flags: int = 0x0100,
    counts: tuple[int, ...] = (1, 0, 0, 0),
) -> bytes:
    return struct.pack("!HHHHHH", 4711, flags, *counts) + question + records


def opt(options: bytes = b"", *, version: int = 0, owner: bytes = b"\x00", payload: int = 1232) -> bytes:
    return owner + struct.pack("!HHIH", wire.OPT, payload, version << 16, len(options)) + options


def rcode(data: bytes) -> int | None:
    parsed = wire.parse(data)
    return None if parsed is None else parsed.rcode


# ---------------------------------------------------------------- the header decides first


@pytest.mark.parametrize("behind", [QUESTION, b"", b"\xff" * 40, QUESTION + b"x"])
@pytest.mark.parametrize("counts", [(1, 0, 0, 0), (0, 0, 0, 0), (9, 9, 9, 9)])
def test_a_response_is_never_answered_however_damaged(behind: bytes, counts: tuple[int, ...]) -> None:
    assert wire.parse(packet(behind, flags=0x8100, counts=counts)) is None
    assert wire.parse(packet(behind, flags=0xA800, counts=counts)) is None


@pytest.mark.parametrize("size", range(12))
def test_less_than_a_header_is_never_answered(size: int) -> None:
    assert wire.parse(packet()[:size]) is None


@pytest.mark.parametrize("opcode", range(1, 16))
def test_an_unknown_opcode_is_notimp_whatever_stands_behind_the_header(opcode: int) -> None:
    for behind, counts in (
        (b"", (0, 0, 0, 0)),
        (b"", (1, 0, 0, 0)),
        (b"\xff", (2, 7, 0, 1)),
        (QUESTION, (1, 0, 0, 0)),
    ):
        data = packet(behind, flags=opcode << 11, counts=counts)
        assert rcode(data) == wire.NOTIMP
        answer = World().udp.respond(data)
        assert isinstance(answer, bytes)
        assert int.from_bytes(answer[2:4], "big") == 0x8000 | opcode << 11 | 4


@pytest.mark.parametrize(
    "data",
    [
        packet(b"", counts=(0, 0, 0, 0)),
        packet(b"", counts=(1, 0, 0, 0)),
        packet(QUESTION * 2, counts=(2, 0, 0, 0)),
        packet(QUESTION, counts=(65535, 0, 0, 0)),
        packet(counts=(1, 1, 0, 0)),
        packet(counts=(1, 0, 1, 0)),
        packet(counts=(1, 0, 0, 1)),
        packet(QUESTION + b"x"),
        packet(QUESTION[:-1]),
        packet(QUESTION[:5]),
        packet(records=OPT[:-1], counts=(1, 0, 0, 1)),
        packet(records=OPT + b"\0", counts=(1, 0, 0, 1)),
        packet(records=OPT, counts=(1, 0, 0, 2)),
        packet(records=OPT + OPT, counts=(1, 0, 0, 2)),
        packet(records=OPT, counts=(1, 1, 0, 0)),
        packet(records=OPT, counts=(1, 0, 1, 0)),
        packet(records=opt(owner=b"\x01a\x00"), counts=(1, 0, 0, 1)),
        packet(records=opt(owner=b"\xc0\x0c"), counts=(1, 0, 0, 1)),
        packet(records=opt(b"\0"), counts=(1, 0, 0, 1)),
        packet(records=opt(b"\0\x03\0"), counts=(1, 0, 0, 1)),
        packet(records=opt(b"\0\x03\0\x05abcd"), counts=(1, 0, 0, 1)),
        packet(records=opt(b"\0\x03\0\x02abc"), counts=(1, 0, 0, 1)),
        packet(b"\xc0\x0c" + QUESTION[-4:]),
        packet(b"\x03web\xc0\x0c" + QUESTION[-4:]),
        packet(b"\x40web" + QUESTION[-5:]),
        packet(b"\x80web" + QUESTION[-5:]),
        packet((b"\x3f" + b"a" * 63) * 4 + QUESTION[-5:]),
        packet(records=b"\xc0\xff" + OPT[1:], counts=(1, 0, 0, 1)),
    ],
)
def test_what_is_no_message_in_form_is_a_format_error(data: bytes) -> None:
    assert rcode(data) == wire.FORMERR
    answer = World().udp.respond(data)
    assert isinstance(answer, bytes)
    response = dns.message.from_wire(answer)
    assert (response.id, response.rcode(), response.flags & dns.flags.AA) == (4711, 1, 0)


# ---------------------------------------------------------------- the question


def test_a_name_of_255_bytes_is_legal() -> None:
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\x00"
    assert len(name) == 255
    assert rcode(packet(name + QUESTION[-4:])) == wire.NOERROR
    answer = World().udp.respond(packet(name + QUESTION[-4:]))
    assert isinstance(answer, bytes)
    assert dns.message.from_wire(answer).rcode() == 5


def test_any_byte_is_legal_in_a_label_and_only_ascii_letters_fold() -> None:
    label = bytes(range(0x30, 0x60)) + b"\x00\xff\xc4\xe4"
    parsed = wire.parse(packet(bytes((len(label),)) + label + b"\x01d\x04test\x00" + QUESTION[-4:]))
    assert parsed is not None
    assert wire.path_of(parsed.name) == (b"test", b"d", label.lower())
    assert b"\xc4\xe4" in parsed.name


def test_a_length_byte_never_folds() -> None:
    parsed = wire.parse(packet(b"\x01A\x00" + QUESTION[-4:]))
    assert parsed is not None
    assert parsed.name == b"\x01a\x00"


def test_the_question_is_echoed_as_it_came() -> None:
    world = World({"1.web": {"host": "10.0.0.1"}})
    for name in ("WeB.D.tEsT.", "web.d.test."):
        response = world.ask(name, "A")
        assert response.question[0].name.to_text() == name
        assert response.answer[0].name.to_text() == name
    response = world.ask("nO.D.tEsT.", "A")
    assert response.question[0].name.to_text() == "nO.D.tEsT."
    assert response.authority[0].name.to_text() == "D.tEsT."


def test_other_records_are_walked_and_ignored() -> None:
    record = b"\xc0\x0c" + struct.pack("!HHIH", 99, 1, 0, 3) + b"abc"
    data = packet(records=record * 2 + opt(), counts=(1, 1, 1, 1))
    parsed = wire.parse(data)
    assert parsed is not None
    assert parsed.rcode == wire.NOERROR
    assert parsed.edns is not None


# ---------------------------------------------------------------- EDNS


@pytest.mark.parametrize("version", [1, 255])
def test_a_version_above_0_is_badvers_with_an_opt_of_version_0_and_no_answer(version: int) -> None:
    world = World({"1.web": {"host": "10.0.0.1"}})
    answer = world.udp.respond(packet(records=opt(version=version), counts=(1, 0, 0, 1)))
    assert isinstance(answer, bytes)
    response = dns.message.from_wire(answer)
    assert (response.rcode(), response.edns, response.answer) == (16, 0, [])
    assert world.counters.rcodes[16] == 1


def test_every_kind_of_reply_has_an_opt_for_those_who_sent_one_and_none_for_others() -> None:
    world = World({"1.web": {"host": "10.0.0.1"}})
    for name, rtype in (
        ("web", "A"),
        ("web", "MX"),
        ("x", "A"),
        ("x.example.", "A"),
        ("web", "AXFR"),
        ("web", "OPT"),
    ):
        assert world.ask(name, rtype, edns=True).edns == 0
        assert world.ask(name, rtype, edns=True).payload == 1232
        assert world.ask(name, rtype).edns == -1
    for data in (
        packet(records=OPT + OPT, counts=(1, 0, 0, 2)),
        packet(records=opt(b"\0"), counts=(1, 0, 0, 1)),
        packet(records=OPT + b"x", counts=(1, 0, 0, 1)),
        packet(b"", OPT, counts=(0, 0, 0, 1)),
        packet(QUESTION * 2, OPT, counts=(2, 0, 0, 1)),
        packet(records=OPT, flags=4 << 11, counts=(1, 0, 0, 1)),
    ):
        answer = world.udp.respond(data)
        assert isinstance(answer, bytes)
        assert dns.message.from_wire(answer).edns == 0, data


def test_do_is_copied_and_unknown_options_and_flags_are_ignored_not_echoed() -> None:
    message = query("web", "A", edns=True)
    message.use_edns(0, 0xFFFF, 4096, options=[dns.edns.GenericOption(dns.edns.OptionType(65001), b"abc")])
    answer = World({"1.web": {"host": "10.0.0.1"}}).udp.respond(message.to_wire())
    assert isinstance(answer, bytes)
    response = dns.message.from_wire(answer)
    assert (response.rcode(), response.ednsflags, response.options) == (0, 0x8000, ())


def test_the_extended_rcode_of_a_query_is_ignored() -> None:
    record = b"\x00" + struct.pack("!HHIH", wire.OPT, 1232, 0xAB000000, 0)
    assert rcode(packet(records=record, counts=(1, 0, 0, 1))) == wire.NOERROR


@pytest.mark.parametrize(
    ("length", "good"),
    [(8, True), (16, True), (40, True), (0, False), (7, False), (9, False), (15, False), (41, False)],
)
def test_a_cookie_of_a_bad_length_is_a_format_error(length: int, good: bool) -> None:
    options = struct.pack("!HH", 10, length) + bytes(length)
    assert (rcode(packet(records=opt(options), counts=(1, 0, 0, 1))) == wire.NOERROR) is good


# ---------------------------------------------------------------- names of records


@pytest.mark.parametrize(("last", "expected"), [(61, wire.NOERROR), (62, wire.FORMERR)])
def test_a_record_s_owner_has_255_bytes_at_most(last: int, expected: int) -> None:
    """RFC 1035 section 3.1, the lengths and the root counted."""
    owner = b"".join(bytes((size,)) + b"a" * size for size in (63, 63, 63, last)) + b"\0"
    assert len(owner) == 194 + last
    record = owner + struct.pack("!HHIH", wire.A, 1, 0, 4) + bytes(4)
    assert rcode(packet(records=record, counts=(1, 0, 0, 1))) == expected


# ---------------------------------------------------------------- TSIG


def test_a_signed_query_is_told_that_its_key_is_unknown() -> None:
    """RFC 8945 section 5.2.1: NOTAUTH, BADKEY, unsigned."""
    message = query("web", "A", edns=True)
    keyring = {dns.name.from_text("key.example."): dns.tsig.Key("key.example.", b"secret", "hmac-sha256")}
    message.use_tsig(keyring)
    answer = World({"1.web": {"host": "10.0.0.1"}}).udp.respond(message.to_wire())
    assert isinstance(answer, bytes)
    response = dns.message.from_wire(answer, keyring=False)
    assert (response.id, response.rcode(), response.answer) == (4711, 9, [])
    assert response.edns == 0
    assert response.tsig is not None
    assert response.tsig.name.to_text() == "key.example."
    assert (response.tsig[0].error, response.tsig[0].mac, response.tsig[0].original_id) == (17, b"", 4711)


def test_a_tsig_that_has_no_room_is_left_to_tcp() -> None:
    """512 bytes without EDNS, whatever the lengths of the names of the question, the key and the algorithm."""
    long = ".".join(["a" * 60] * 4)
    message = query(long, "A")
    world = World({"1.web": {"host": "10.0.0.1"}})
    key = b"".join(b"\x3c" + b"k" * 60 for _ in range(4)) + b"\0"
    record = tsig(key + GOOD_TSIG.removeprefix(b"\x01a\x00"), owner=key)
    asked = message.to_wire()[:10] + b"\0\1" + message.to_wire()[12:] + record
    answer, over_tcp = world.udp.respond(asked), world.tcp.respond(asked)
    assert isinstance(answer, bytes)
    assert isinstance(over_tcp, bytes)
    assert len(answer) <= 512
    assert answer[2] & 2
    assert answer[3] & 15 == wire.NOTAUTH
    assert over_tcp.endswith(b"\0\0")
    assert key in over_tcp
    assert not over_tcp[2] & 2


def tsig(rdata: bytes, *, ttl: int = 0, rclass: int = 255, owner: bytes = b"\x01k\x00") -> bytes:
    return owner + struct.pack("!HHIH", wire.TSIG, rclass, ttl, len(rdata)) + rdata


GOOD_TSIG = b"\x01a\x00" + bytes(8) + struct.pack("!H", 2) + b"mm" + bytes(4) + b"\0\0"


def test_a_tsig_in_form_is_read() -> None:
    assert rcode(packet(records=tsig(GOOD_TSIG), counts=(1, 0, 0, 1))) == wire.NOTAUTH


@pytest.mark.parametrize(
    ("records", "counts"),
    [
        (tsig(GOOD_TSIG, ttl=1), (1, 0, 0, 1)),
        (tsig(GOOD_TSIG, rclass=1), (1, 0, 0, 1)),
        (tsig(GOOD_TSIG), (1, 1, 0, 0)),
        (tsig(GOOD_TSIG) + OPT, (1, 0, 0, 2)),
        (tsig(GOOD_TSIG) * 2, (1, 0, 0, 2)),
        (tsig(GOOD_TSIG, owner=b"\xc0\x0c"), (1, 0, 0, 1)),
        (tsig(GOOD_TSIG, owner=b"\xc0\x00"), (1, 0, 0, 1)),  # which ends in a zero, too
        (tsig(GOOD_TSIG, owner=b"\x01k\xc0\x00"), (1, 0, 0, 1)),
        (tsig(b""), (1, 0, 0, 1)),
        *((tsig(GOOD_TSIG[:end]), (1, 0, 0, 1)) for end in range(len(GOOD_TSIG))),
        (tsig(GOOD_TSIG + b"x"), (1, 0, 0, 1)),
    ],
)
def test_a_tsig_that_is_misplaced_or_broken_is_a_format_error(
    records: bytes, counts: tuple[int, ...]
) -> None:
    assert rcode(packet(records=records, counts=counts)) == wire.FORMERR


# ---------------------------------------------------------------- properties


@given(st.binary(max_size=600))
def test_parse_is_total(data: bytes) -> None:
    wire.parse(data)


@settings(max_examples=50)
@given(st.binary(max_size=200), st.tuples(*[st.integers(0, 3)] * 4), st.integers(0, 0x7FFF))
def test_parse_is_total_behind_a_header(data: bytes, counts: tuple[int, ...], flags: int) -> None:
    parsed = wire.parse(packet(data, counts=counts, flags=flags))
    assert parsed is not None
    if parsed.rcode == wire.NOERROR:
        message = dns.message.from_wire(packet(data, counts=counts, flags=flags), ignore_trailing=True)
        assert len(message.question) == 1


LABEL = st.one_of(st.sampled_from([b"web", b"d", b"test", b"a"]), st.binary(min_size=1, max_size=63))
PATH = st.lists(LABEL, max_size=8).map(tuple).filter(lambda path: sum(map(len, path)) + len(path) < 255)
LOWER = PATH.map(lambda path: tuple(label.lower() for label in path))


def named(path: tuple[bytes, ...]) -> dns.name.Name:
    return dns.name.Name([*reversed(path), b""])


@settings(max_examples=50)
@given(LOWER, LOWER, LOWER, st.integers(0, 20))
def test_what_is_written_is_read_back_by_another_implementation(
    question: tuple[bytes, ...], owner: tuple[bytes, ...], target: tuple[bytes, ...], shared: int
) -> None:
    owner = question[:shared] + owner if len(wire.encode_name(question[:shared] + owner)) <= 255 else owner
    encoder = wire.Encoder(question)
    records = encoder.record(owner, wire.CNAME, 7, (target,)) + encoder.record(
        target, wire.MX, 8, (b"\0\x05", owner)
    )
    data = packet(wire.encode_name(question) + QUESTION[-4:], records, flags=0x8000, counts=(1, 2, 0, 0))
    message = dns.message.from_wire(data, one_rr_per_rrset=True)
    assert [rrset.name for rrset in message.answer] == [named(owner), named(target)]
    assert message.answer[0][0].target == named(target)
    assert message.answer[1][0].exchange == named(owner)


@settings(max_examples=50)
@given(LOWER)
def test_names_are_read_as_they_are_written(path: tuple[bytes, ...]) -> None:
    assert wire.path_of(wire.encode_name(path)) == path


@given(st.binary(max_size=1000))
def test_strings_join_to_the_text_and_none_is_empty(text: bytes) -> None:
    encoded = wire.encode_strings(text)
    if text:
        rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, encoded, 0, len(encoded))
        assert isinstance(rdata, dns.rdtypes.ANY.TXT.TXT)
        assert b"".join(rdata.strings) == text
        assert all(rdata.strings)
    else:
        assert encoded == b""


def test_compression_points_only_into_the_question() -> None:
    world = World({f"{n}.mail": {"host": f"mx{n}.d.test", "mail": True} for n in range(5)})
    answer = world.udp.respond(query("mail", "MX").to_wire())
    assert isinstance(answer, bytes)
    assert ask(world.udp, "mail", "MX").answer
    at = 12 + len(query("mail", "MX").to_wire()) - 12
    for _ in range(5):
        assert answer[at : at + 2] == b"\xc0\x0c"
        length = int.from_bytes(answer[at + 10 : at + 12], "big")
        pointer = int.from_bytes(answer[at + 12 + length - 2 : at + 12 + length], "big")
        assert 0xC00C <= pointer < 0xC000 + len(query("mail", "MX").to_wire())
        at += 12 + length

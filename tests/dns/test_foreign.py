"""dns.foreign: other servers' answers, read and passed on; dnspython writes them and reads what comes out."""

from __future__ import annotations

from collections.abc import Sequence

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dns import wire
from discovery.dns.foreign import MAX_TTL, Foreign, addresses, read, read_name, render
from discovery.dns.records import RR
from discovery.dns.wire import FormatError
from discovery.names import from_text
from tests.support.upstream import rrset_of

WWW = from_text("www.example.com.")
A = "www.example.com. 60 A 192.0.2.1"
SOA = "example.com. 3600 SOA ns.example.com. host.example.com. 1 2 3 4 60"
FLAGS = wire.QR | wire.RD | wire.RA
IDENT = 4711
LIMIT = 65535


def packet(
    *answer: str,
    authority: Sequence[str] = (),
    additional: Sequence[str] = (),
    qtype: str = "A",
    rcode: int = 0,
    flags: int = 0,
    opt: bool = True,
    name: str = "www.example.com.",
) -> bytes:
    query = dns.message.make_query(name, qtype, use_edns=0 if opt else False)
    query.id = IDENT
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(dns.rcode.Rcode(rcode))
    response.flags |= flags
    sections = (response.answer, response.authority, response.additional)
    for section, lines in zip(sections, (answer, authority, additional), strict=True):
        section.extend(rrset_of(line) for line in lines)
    return response.to_wire(max_size=65535)


def question_of(raw: bytes) -> bytes:
    return raw[12 : wire.skip_name(raw, 12) + 4]


def understood(raw: bytes) -> Foreign:
    return read(raw, IDENT, question_of(raw))


def passed_on(
    raw: bytes, age: int = 0, opt: bytes = b"", limit: int = LIMIT, question: bytes | None = None
) -> dns.message.Message:
    """What a client gets, read by dnspython."""
    foreign = understood(raw)
    asked = question_of(raw) if question is None else question
    return dns.message.from_wire(b"\0\1" + render(foreign, age, asked, FLAGS | foreign.rcode, opt, limit))


def texts(section: Sequence[dns.rrset.RRset]) -> list[str]:
    return [
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {item}"
        for rrset in section
        for item in rrset
    ]


# ---------------------------------------------------------------- how long it may be kept

OTHER = "other.example.com. 20 A 192.0.2.2"
ALIAS = "www.example.com. 300 CNAME other.example.com."


@pytest.mark.parametrize(
    ("raw", "ttl"),
    [
        (packet(A), 60),
        (packet(A, authority=["example.com. 30 NS ns.example.com."]), 30),
        (packet(A, additional=["ns.example.com. 10 A 192.0.2.9"]), 10),
        (packet(ALIAS, OTHER), 20),
        (packet("www.example.com. 0 A 192.0.2.1"), 0),
        (packet("www.example.com. 604800 A 192.0.2.1"), MAX_TTL),
        (packet("www.example.com. 2147483648 A 192.0.2.1"), 0),
        (packet(A, rcode=dns.rcode.SERVFAIL), 0),
        (packet(rcode=dns.rcode.SERVFAIL, authority=[SOA]), 0),
        (packet(rcode=dns.rcode.REFUSED), 0),
        (packet(A, flags=dns.flags.TC), 0),
    ],
)
def test_how_long_an_answer_may_be_kept(raw: bytes, ttl: int) -> None:
    assert understood(raw).ttl == ttl


SHORT = "example.com. 5 SOA ns.example.com. host.example.com. 1 2 3 4 60"


@pytest.mark.parametrize(
    ("raw", "ttl"),
    [
        (packet(authority=[SOA]), 60),
        (packet(authority=[SHORT]), 5),
        (packet(authority=[SOA], rcode=dns.rcode.NXDOMAIN), 60),
        (packet(), 0),  # without an SOA it is not kept (RFC 2308 section 5)
        (packet(rcode=dns.rcode.NXDOMAIN), 0),
        (packet(authority=["example.com. 300 NS ns.example.com."]), 0),  # a referral
        (packet(ALIAS, authority=[SOA], rcode=dns.rcode.NXDOMAIN), 60),
        (packet(ALIAS, authority=[SOA]), 60),  # the chain leads to no address
        (packet(ALIAS), 0),
        (packet(ALIAS, qtype="CNAME"), 300),
        (packet(A, qtype="ANY"), 60),
        (packet(additional=[SOA]), 0),
    ],
)
def test_negative_answers_are_kept_as_their_soa_says(raw: bytes, ttl: int) -> None:
    assert understood(raw).ttl == ttl


def test_a_negative_answer_is_not_kept_longer_by_those_behind_us() -> None:
    """The SOA that goes on has the TTL of the negative answer (RFC 2308 section 3), counted down."""
    for rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        (soa,) = passed_on(packet(authority=[SOA], rcode=rcode), age=10).authority
        assert soa.ttl == 50
    (soa,) = passed_on(packet(A, authority=[SOA])).authority
    assert soa.ttl == 3600


# ---------------------------------------------------------------- what fits


@pytest.mark.parametrize("size", range(0, 60, 3))
def test_a_packet_cut_anywhere_is_refused(size: int) -> None:
    raw = packet(A, opt=False)
    with pytest.raises(FormatError):
        read(raw[: min(size, len(raw) - 1)], IDENT, question_of(raw))


def test_another_id_question_or_letter_case_is_refused() -> None:
    raw = packet(A)
    question = question_of(raw)
    read(raw, IDENT, question)
    for ident, asked in (
        (IDENT + 1, question),
        (IDENT, question.replace(b"www", b"wwW")),
        (IDENT, question[:-3] + b"\x1c\0\1"),
        (IDENT, question[:-1] + b"\3"),
    ):
        with pytest.raises(FormatError):
            read(raw, ident, asked)


def with_answer(owner: bytes, rtype: int, rdata: bytes, rclass: int = wire.IN) -> bytes:
    """A packet with one answer record as given."""
    head = packet(opt=False)
    record = (
        owner + b"".join(value.to_bytes(2, "big") for value in (rtype, rclass, 0, 60, len(rdata))) + rdata
    )
    return head[:7] + b"\1" + head[8:] + record


@pytest.mark.parametrize(
    "raw",
    [
        with_answer(b"\xc0\x0c", wire.A, b"\1\2\3"),
        with_answer(b"\xc0\x0c", wire.A, b"\1\2\3\4\5"),
        with_answer(b"\xc0\x0c", wire.AAAA, b"\1\2\3\4"),
        with_answer(b"\xc0\x0c", wire.CNAME, b""),
        with_answer(b"\xc0\x0c", wire.CNAME, b"\3www"),
        with_answer(b"\xc0\x0c", wire.CNAME, b"\0\0"),
        with_answer(b"\xc0\x0c", wire.CNAME, b"\xc0\xff"),
        with_answer(b"\xc0\x0c", wire.MX, b"\0"),
        with_answer(b"\xc0\x0c", wire.MX, b"\0\1\3www"),
        with_answer(b"\xc0\x0c", wire.SRV, b"\0\1\0\1\0\1"),
        with_answer(b"\xc0\x0c", wire.SOA, b"\0\0" + bytes(19)),
        with_answer(b"\xc0\x0c", wire.SOA, b"\0\0" + bytes(21)),
        with_answer(b"\xc0\x02", wire.A, bytes(4)),  # into the header, which is ours when it is passed on
        with_answer(b"\xc0\xff", wire.A, bytes(4)),
        with_answer(b"\x40", wire.A, bytes(4)),
        with_answer(b"\x80\x0c", wire.A, bytes(4)),
        with_answer((b"\x3f" + b"a" * 63) * 4 + b"\0", wire.A, bytes(4)),
        with_answer((b"\x3f" + b"a" * 63) * 3 + b"\x2e" + b"a" * 46 + b"\xc0\x0c", wire.A, bytes(4)),
    ],
)
def test_a_record_that_lies_spoils_the_answer(raw: bytes) -> None:
    with pytest.raises(FormatError):
        understood(raw)


def test_records_of_other_types_and_classes_are_not_looked_into() -> None:
    for rtype, rclass in ((64, wire.IN), (65280, wire.IN), (wire.A, wire.CH)):
        assert understood(with_answer(b"\xc0\x0c", rtype, b"\1\2\3", rclass)).counts == (1, 0, 0)


def test_names_are_read_folded_and_only_backwards() -> None:
    header = bytes(12)
    raw = header + b"\3WwW\7exAmple\0\1x\xc0\x10\xc0\x19"
    assert read_name(raw, 12) == ((b"example", b"www"), 25)
    assert read_name(raw, 25) == ((b"example", b"x"), 29)
    assert read_name(raw, 29) == ((b"example", b"x"), 31)
    bad = (
        b"",
        b"\3ab",
        b"\xc0",
        b"\xc0\x0c",
        b"\1a\xc0\x0c",
        b"\1a\xc0\x0e",
        b"\xc0\0",
        b"\x41a\0",
        b"\x80\0",
    )
    for name in bad:
        with pytest.raises(FormatError):
            read_name(header + name, 12)


def test_a_name_of_255_bytes_and_127_pointers_is_read_and_no_longer_one() -> None:
    header = bytes(12)
    longest = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(longest) == 255
    assert read_name(header + longest, 12)[1] == 12 + 255
    with pytest.raises(FormatError):
        read_name(header + b"\x01b" + longest, 12)
    with pytest.raises(FormatError):
        read_name(header + longest + b"\1b\xc0\x0c", 12 + 255)
    pointers = b"".join((0xC000 | at).to_bytes(2, "big") for at in (12, *range(13, 13 + 2 * 127, 2)))
    raw = header + b"\0" + pointers
    assert read_name(raw, 13 + 2 * 126)[0] == ()
    with pytest.raises(FormatError):
        read_name(raw, 13 + 2 * 127)


# ---------------------------------------------------------------- passed on


def test_all_is_passed_on_but_id_flags_and_opt() -> None:
    raw = packet(
        ALIAS,
        OTHER,
        authority=["example.com. 30 NS ns.example.com."],
        additional=["ns.example.com. 10 A 192.0.2.9"],
        flags=dns.flags.AD,
    )
    response = passed_on(raw, opt=wire.encode_opt(1232, False))
    assert response.id == 1
    assert response.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    assert texts(response.answer) == [ALIAS, OTHER]
    assert texts(response.authority) == ["example.com. 30 NS ns.example.com."]
    assert texts(response.additional) == ["ns.example.com. 10 A 192.0.2.9"]
    assert (response.edns, response.payload) == (0, 1232)
    assert passed_on(raw).edns == -1


def test_ttls_are_counted_down_to_nothing() -> None:
    raw = packet(A, OTHER)
    assert [rrset.ttl for rrset in passed_on(raw, age=7).answer] == [53, 13]
    assert [rrset.ttl for rrset in passed_on(raw, age=30).answer] == [30, 0]


def test_a_ttl_with_the_highest_bit_is_nothing() -> None:
    """RFC 2181 section 8. dnspython would read it so by itself; we must send it so."""
    raw = packet("www.example.com. 2147483648 A 192.0.2.1")
    foreign = understood(raw)
    (at,) = foreign.ttls
    rendered = b"\0\1" + render(foreign, 0, question_of(raw), FLAGS, b"", LIMIT)
    assert rendered[at : at + 4] == bytes(4)


def test_the_question_is_the_clients() -> None:
    raw = packet(A)
    response = passed_on(raw, question=question_of(raw).replace(b"www", b"wWw"))
    assert response.question[0].name.to_text() == "wWw.example.com."
    assert response.answer[0].name.to_text() == "wWw.example.com."


def test_an_opt_in_the_middle_ends_what_is_taken_over() -> None:
    raw = packet(
        A, additional=["one.example.com. 10 A 192.0.2.8", "two.example.com. 5 A 192.0.2.9"], opt=False
    )
    last = raw.rindex(b"\3two")
    raw = raw[:11] + b"\3" + raw[12:last] + wire.encode_opt(512, False) + raw[last:]
    assert understood(raw).ttl == 10
    response = passed_on(raw, opt=wire.encode_opt(1232, False))
    assert texts(response.additional) == ["one.example.com. 10 A 192.0.2.8"]
    assert response.payload == 1232


def test_an_extended_response_code_is_a_failure() -> None:
    """BADVERS looks like NOERROR without its OPT: it would be an empty answer, that nobody gave."""
    raw = packet(rcode=dns.rcode.BADVERS, authority=[SOA])
    foreign = understood(raw)
    assert (foreign.rcode, foreign.ttl) == (wire.SERVFAIL, 0)


# ---------------------------------------------------------------- sizes

ONE_KB = [f"www.example.com. 60 TXT {'x' * 100}{number}" for number in range(9)]


def test_additional_goes_first_and_without_tc() -> None:
    raw = packet(A, authority=[SOA], additional=[line.replace("www", "ns") for line in ONE_KB])
    opt = wire.encode_opt(1232, False)
    response = passed_on(raw, opt=opt, limit=512)
    assert not response.flags & dns.flags.TC
    assert (texts(response.answer), texts(response.authority), response.additional) == ([A], [SOA], [])
    assert response.edns == 0
    assert passed_on(raw, limit=1232, opt=opt).additional


def test_an_answer_over_the_limit_is_cut_to_nothing_with_tc() -> None:
    raw = packet(*ONE_KB, qtype="TXT")
    opt = wire.encode_opt(1232, False)
    response = passed_on(raw, opt=opt, limit=512)
    assert response.flags & dns.flags.TC
    assert not response.answer
    assert response.edns == 0


def test_the_limit_is_exact() -> None:
    raw = packet(*ONE_KB, qtype="TXT", opt=False)
    assert not passed_on(raw, limit=len(raw)).flags & dns.flags.TC
    assert passed_on(raw, limit=len(raw) - 1).flags & dns.flags.TC
    opt = wire.encode_opt(1232, False)
    assert not passed_on(raw, opt=opt, limit=len(raw) + len(opt)).flags & dns.flags.TC
    assert passed_on(raw, opt=opt, limit=len(raw) + len(opt) - 1).flags & dns.flags.TC


# ---------------------------------------------------------------- addresses


def test_addresses_behind_aliases() -> None:
    raw = packet(
        "www.example.com. 300 CNAME Mid.example.com.",
        "mid.example.com. 40 CNAME END.example.com.",
        "end.example.com. 20 A 192.0.2.1",
        "end.example.com. 30 AAAA 2001:db8::1",
        "elsewhere.example.com. 20 A 203.0.113.66",
    )
    mid, end = from_text("mid.example.com."), from_text("end.example.com.")
    chain, hosts = addresses(understood(raw), WWW, 5)
    assert chain == [RR(WWW, wire.CNAME, 295, (mid,)), RR(mid, wire.CNAME, 35, (end,))]
    assert hosts == [
        RR(end, wire.A, 15, (b"\xc0\0\2\1",)),
        RR(end, wire.AAAA, 25, (bytes.fromhex("20010db8000000000000000000000001"),)),
    ]


def test_aliases_in_a_circle_end() -> None:
    raw = packet(
        "www.example.com. 300 CNAME other.example.com.", "other.example.com. 300 CNAME www.example.com."
    )
    chain, hosts = addresses(understood(raw), WWW, 0)
    assert (len(chain), hosts) == (2, [])


def test_records_of_other_names_are_no_addresses() -> None:
    assert addresses(understood(packet(OTHER)), WWW, 0) == ([], [])
    assert addresses(understood(packet(authority=[SOA])), WWW, 0) == ([], [])


def test_addresses_age_to_nothing() -> None:
    _, (host,) = addresses(understood(packet(A)), WWW, 100)
    assert host.ttl == 0


# ---------------------------------------------------------------- whatever comes

labels = st.text("abcXYZ0-_", min_size=1, max_size=8)
names = st.lists(labels, min_size=1, max_size=4).map(lambda parts: ".".join([*parts, "example.com."]))
ttls = st.integers(0, 2**32 - 1) | st.integers(0, 100)
contents = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"A {ip}"),
    st.ip_addresses(v=6).map(lambda ip: f"AAAA {ip}"),
    names.map(lambda name: f"CNAME {name}"),
    names.map(lambda name: f"NS {name}"),
    names.map(lambda name: f"MX 10 {name}"),
    names.map(lambda name: f"SRV 1 2 3 {name}"),
    st.text("abc", min_size=1, max_size=40).map(lambda text: f"TXT {text}"),
    names.map(lambda name: f"SOA {name} host.example.com. 1 2 3 4 60"),
    names.map(lambda name: f"RRSIG A 8 2 60 20300101000000 20200101000000 1 {name} AAAA"),
)
records = st.builds(lambda name, ttl, content: f"{name} {ttl} {content}", names, ttls, contents)
sections = st.lists(records, max_size=5)
types = st.sampled_from(["A", "AAAA", "TXT", "ANY", "SOA"])
packets = st.builds(
    lambda name, qtype, answer, authority, additional, rcode, opt: packet(
        *answer,
        authority=authority,
        additional=additional,
        qtype=qtype,
        rcode=rcode,
        opt=opt,
        name=name,
    ),
    names,
    types,
    sections,
    sections,
    sections,
    st.sampled_from([0, 0, 2, 3, 5]),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(packets, st.integers(0, 100))
def test_whatever_dnspython_writes_is_passed_on_whole(raw: bytes, age: int) -> None:
    sent = dns.message.from_wire(raw)
    got = passed_on(raw, age)
    assert got.rcode() == sent.rcode()
    assert got.question == sent.question
    for ours, theirs in zip(got.sections[1:], sent.sections[1:], strict=True):
        assert [(rrset.name, rrset.rdtype, sorted(rrset)) for rrset in ours] == [
            (rrset.name, rrset.rdtype, sorted(rrset)) for rrset in theirs
        ]
        assert all(rrset.ttl <= max(0, other.ttl - age) for rrset, other in zip(ours, theirs, strict=True))
    small = passed_on(raw, age, limit=100)
    assert small.flags & dns.flags.TC or small.answer == got.answer


@settings(max_examples=40, deadline=None)
@given(packets, st.data())
def test_whatever_comes_is_understood_or_refused(raw: bytes, data: st.DataObject) -> None:
    """Changed bytes, cut ends, doubled parts; what is understood is rendered and has addresses or none."""
    question = question_of(raw)
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(2, len(damaged) - 1))
        kind = data.draw(st.sampled_from(["change", "pointer", "cut", "double"]))
        if kind == "change":
            damaged[at] = data.draw(st.integers(0, 255))
        elif kind == "pointer":
            damaged[at : at + 2] = (0xC000 | data.draw(st.integers(0, len(damaged)))).to_bytes(2, "big")
        elif kind == "cut":
            del damaged[max(at, 12) :]
        else:
            damaged += damaged[at:]
    try:
        foreign = read(bytes(damaged), IDENT, question)
    except FormatError:
        return
    path = wire.path_of(question[:-4].lower())
    chain, hosts = addresses(foreign, path, 1)
    assert all(len(wire.encode_name(rr.owner)) <= 255 for rr in (*chain, *hosts))
    for limit in (512, LIMIT):
        rendered = b"\0\1" + render(foreign, 1, question, FLAGS, wire.encode_opt(1232, False), limit)
        assert len(rendered) <= max(limit, len(question) + 23)

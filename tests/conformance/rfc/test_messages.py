"""Messages, names, RRsets and negative answers: a class for each RFC, the section in the docstring."""

from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import pytest

from tests.support.live import LiveServer


def query(
    name: str | dns.name.Name, rtype: str | int, rclass: str | int = "IN", *, flags: int = 0
) -> dns.message.Message:
    kind = dns.rdatatype.RdataType.make(rtype)
    made = dns.message.make_query(name, kind, dns.rdataclass.RdataClass.make(rclass))
    made.flags = dns.flags.Flag(flags)
    return made


def outcome(response: dns.message.Message) -> tuple[str, bool, int, int]:
    """(response code, AA, records of the answer, records of authority)."""
    return (
        dns.rcode.to_text(response.rcode()),
        bool(response.flags & dns.flags.AA),
        sum(map(len, response.answer)),
        sum(map(len, response.authority)),
    )


def records(response: dns.message.Message) -> list[str]:
    return sorted(item.to_text() for rrset in response.answer for item in rrset)


class TestRfc1035:
    """Domain names: implementation and specification."""

    def test_header_of_an_answer(self, live: LiveServer) -> None:
        """Section 4.1.1: the id copied, QR set, the opcode copied, RD copied, Z zero."""
        for flags in (0, dns.flags.RD):
            made = query("web.d.test.", "A", flags=flags)
            response = live.ask(made)
            assert response.id == made.id
            assert response.flags & ~dns.flags.AA == dns.flags.QR | flags
        packet = query("web.d.test.", "A").to_wire()
        answer = live.raw(packet[:2] + b"\x00\x40" + packet[4:])  # the last bit that is still reserved
        assert answer[3] & 0x40 == 0

    def test_question_is_copied(self, live: LiveServer) -> None:
        """Section 4.1.2; RFC 9619: one question, and the answer has the same."""
        made = query("web.d.test.", "AAAA")
        assert live.ask(made).question == made.question

    @pytest.mark.parametrize(
        ("name", "rtype", "wanted"),
        [
            ("web.d.test.", "A", ["10.0.0.1", "10.0.0.2"]),
            ("web.d.test.", "AAAA", ["2001:db8::3"]),
            ("ext.d.test.", "CNAME", ["www.example.com."]),
            ("mail.d.test.", "MX", ["10 mx1.mail.d.test."]),
            ("1.0.0.10.in-addr.arpa.", "PTR", ["one.d.test."]),
            ("d.test.", "NS", ["ns.dns.d.test."]),
        ],
    )
    def test_types(self, live: LiveServer, name: str, rtype: str, wanted: list[str]) -> None:
        """Section 3.3: the data of each type, read by another implementation."""
        assert records(live.ask(query(name, rtype))) == wanted

    def test_an_alias_stands_before_what_it_leads_to(self, live: LiveServer) -> None:
        """Section 3.6.2 of RFC 1034."""
        response = live.ask(query("www.d.test.", "A"))
        assert [(rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype)) for rrset in response.answer] == [
            ("www.d.test.", "CNAME"),
            ("web.d.test.", "A"),
        ]

    def test_truncation_at_512_bytes(self, live: LiveServer) -> None:
        """Section 4.2.1: UDP without EDNS; the whole over TCP (4.2.2)."""
        packet = query("big.d.test.", "A").to_wire()
        answer = live.raw(packet)
        assert len(answer) <= 512
        assert dns.message.from_wire(answer).flags & dns.flags.TC
        response = live.ask(query("big.d.test.", "A"), tcp=True)
        assert not response.flags & dns.flags.TC
        assert outcome(response) == ("NOERROR", True, 200, 0)

    @pytest.mark.parametrize(
        "name", ["a" * 63 + ".d.test.", ".".join(["a" * 63] * 3) + "." + "b" * 53 + ".d.test."]
    )
    def test_longest_labels_and_names(self, live: LiveServer, name: str) -> None:
        """Section 2.3.4: labels of 63 and names of 255 bytes are legal."""
        assert outcome(live.ask(query(name, "A"))) == ("NXDOMAIN", True, 0, 1)

    def test_longer_names_are_malformed(self, live: LiveServer) -> None:
        """Section 2.3.4: 256 bytes are no name; 64 is no label's length."""
        for labels in ([b"a" * 63] * 3 + [b"b" * 62], [b"a" * 63] * 4):
            name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
            answer = live.raw(struct.pack("!6H", 7, 0, 1, 0, 0, 0) + name + b"\0\1\0\1")
            assert (answer[3] & 15, answer[4:12]) == (1, bytes(8))
        answer = live.raw(struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x40" + b"a" * 64 + b"\0\0\1\0\1")
        assert answer[3] & 15 == 1

    def test_compression(self, live: LiveServer) -> None:
        """Section 4.1.4: used for owners, and points only to earlier names."""
        answer = live.raw(query("web.d.test.", "A").to_wire())
        assert answer.count(b"\x03web\x01d\x04test\x00") == 1
        assert answer.count(b"\xc0\x0c\x00\x01\x00\x01") == 2

    def test_a_compressed_question_is_malformed(self, live: LiveServer) -> None:
        """Section 4.1.4: there is nothing before the question to point to."""
        answer = live.raw(struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1")
        assert answer[3] & 15 == 1

    @pytest.mark.parametrize("rtype", ["AXFR", "IXFR", "MAILB", "MAILA"])
    def test_question_types_that_are_no_types(self, live: LiveServer, rtype: str) -> None:
        """Section 3.2.3: transfers over UDP and the obsolete ones are refused (RFC 5936 section 4.2)."""
        packet = query("d.test.", rtype).to_wire()
        answer = dns.message.from_wire(live.raw(packet))
        assert outcome(answer) == ("REFUSED", False, 0, 0)

    @pytest.mark.parametrize(("opcode", "name"), [(1, "IQUERY"), (2, "STATUS"), (3, "unassigned")])
    def test_opcodes(self, live: LiveServer, opcode: int, name: str) -> None:
        """Section 4.1.1; RFC 3425 for IQUERY: NOTIMP."""
        packet = bytearray(query("d.test.", "SOA").to_wire())
        packet[2] |= opcode << 3
        answer = live.raw(bytes(packet))
        assert (answer[2] >> 3 & 15, answer[3] & 15) == (opcode, 4), name

    def test_other_classes(self, live: LiveServer) -> None:
        """Section 3.2.4: what we do not serve is refused, without AA."""
        for rclass in ("HS", "ANY", "NONE", 65280):
            assert outcome(live.ask(query("web.d.test.", "A", rclass))) == ("REFUSED", False, 0, 0)

    def test_txt_is_cut_into_strings(self, live: LiveServer) -> None:
        """Section 3.3.14: of at most 255 bytes each."""
        (rrset,) = live.ask(query("long.txt.d.test.", "TXT"), tcp=True).answer
        strings = rrset[0].strings
        assert [len(part) for part in strings] == [255] * 7 + [215]


class TestRfc1464:
    """Attributes in TXT."""

    def test_a_pair_is_one_string(self, live: LiveServer) -> None:
        """Section 2: `name=value`, in a record of its own beside the text."""
        assert records(live.ask(query("1.web.d.test.", "TXT"))) == ['"a text"', '"k=v"']


class TestRfc1996AndRfc2136:
    """NOTIFY, UPDATE: answered by their RFCs before they are supported."""

    @pytest.mark.parametrize("opcode", ["NOTIFY", "UPDATE"])
    def test_not_implemented(self, live: LiveServer, opcode: str) -> None:
        """RFC 1035 section 4.1.1, RFC 2136 section 3.1."""
        packet = bytearray(query("d.test.", "SOA").to_wire())
        packet[2] |= dns.opcode.from_text(opcode) << 3
        answer = live.raw(bytes(packet))
        assert answer[2] >> 3 & 15 == dns.opcode.from_text(opcode)
        assert answer[3] & 15 == dns.rcode.NOTIMP


class TestRfc2181:
    """Clarifications to the DNS specification."""

    def test_one_ttl_in_an_rrset(self, live: LiveServer) -> None:
        """Section 5.2: services of 300 and 60 seconds make one set of 60."""
        (rrset,) = live.ask(query("web.d.test.", "A")).answer
        assert (len(rrset), rrset.ttl) == (2, 60)

    def test_ttl_is_31_bits(self, live: LiveServer) -> None:
        """Section 8."""
        for rtype in ("A", "SRV", "TXT", "SOA", "NS"):
            response = live.ask(query("d.test." if rtype in ("SOA", "NS") else "web.d.test.", rtype))
            assert all(0 <= rrset.ttl < 1 << 31 for rrset in response.answer)

    def test_whole_rrsets_of_additional_go_first_and_without_tc(self, live: LiveServer) -> None:
        """Section 9: TC only when what was asked for is incomplete."""
        made = dns.message.make_query("web.d.test.", "SRV", use_edns=0, payload=512)
        response = live.ask(made)
        assert not response.flags & dns.flags.TC
        full = live.ask(made, tcp=True)
        assert response.answer == full.answer
        assert {rrset.to_text() for rrset in response.additional} <= {
            rrset.to_text() for rrset in full.additional
        }

    def test_authority_of_an_answer(self, live: LiveServer) -> None:
        """Section 5.4.1, 6.1: AA on what is ours, off on what is not."""
        assert outcome(live.ask(query("web.d.test.", "A")))[:2] == ("NOERROR", True)
        assert outcome(live.ask(query("example.com.", "A"))) == ("REFUSED", False, 0, 0)
        assert outcome(live.ask(query("test.", "A"))) == ("REFUSED", False, 0, 0)

    def test_an_owner_with_an_alias_has_nothing_else(self, live: LiveServer) -> None:
        """Section 10.1."""
        for rtype in ("A", "AAAA", "TXT", "SRV", "MX"):
            response = live.ask(query("www.d.test.", rtype))
            kinds = {
                rrset.rdtype for rrset in response.answer if rrset.name == dns.name.from_text("www.d.test.")
            }
            assert dns.rdatatype.CNAME not in kinds or len(kinds) == 1

    def test_any_label_is_legal(self, live: LiveServer) -> None:
        """Section 11: any binary string."""
        for label in (b"\0", b"\xff" * 63, b"a.b", b" ", b"\\", b"\0\1\2", "ä".encode()):
            name = dns.name.Name((label, b"d", b"test", b""))
            response = live.ask(query(name, "A"))
            assert outcome(response) == ("NXDOMAIN", True, 0, 1)
            assert response.question[0].name == name


class TestRfc2308:
    """Negative caching."""

    @pytest.mark.parametrize(
        ("name", "rtype", "rcode"),
        [
            ("nothing.d.test.", "A", "NXDOMAIN"),
            ("web.d.test.", "CAA", "NOERROR"),
            ("only.here.d.test.", "MX", "NOERROR"),
            ("d.test.", "A", "NOERROR"),
        ],
    )
    def test_soa_in_authority(self, live: LiveServer, name: str, rtype: str, rcode: str) -> None:
        """Sections 2.1 and 2.2: NXDOMAIN and NODATA with the zone's SOA and AA."""
        response = live.ask(query(name, rtype))
        assert outcome(response) == (rcode, True, 0, 1)
        (rrset,) = response.authority
        assert (rrset.name.to_text(), rrset.rdtype) == ("d.test.", dns.rdatatype.SOA)

    def test_ttl_of_the_soa(self, live: LiveServer) -> None:
        """Section 3: the lesser of the SOA's own TTL and its minimum."""
        (negative,) = live.ask(query("nothing.d.test.", "A")).authority
        (positive,) = live.ask(query("d.test.", "SOA")).answer
        assert negative.ttl == min(positive.ttl, positive[0].minimum) == 2

    def test_an_alias_to_nothing_of_the_type(self, live: LiveServer) -> None:
        """Section 2.2: NODATA, no answer, whatever the name has besides."""
        assert outcome(live.ask(query("www.d.test.", "CAA"))) == ("NOERROR", True, 0, 1)


class TestRfc2782:
    """Where a service is."""

    def test_priority_weight_port_target(self, live: LiveServer) -> None:
        """The format of the SRV record: the share of a weight is among those of one priority."""
        response = live.ask(query("web.d.test.", "SRV"))
        wanted = ["10 50 80 1.web.d.test.", "10 50 82 3.web.d.test.", "20 100 81 2.web.d.test."]
        assert records(response) == wanted

    def test_targets_are_not_compressed_and_their_addresses_come_along(self, live: LiveServer) -> None:
        """The paragraph on Target, and "Usage rules"."""
        packet = live.raw(query("web.d.test.", "SRV").to_wire())
        for number in (1, 2, 3):
            assert b"\x01%d\x03web\x01d\x04test\0" % number in packet[12:]
        found = {rrset.to_text() for rrset in dns.message.from_wire(packet).additional}
        assert found == {
            "1.web.d.test. 300 IN A 10.0.0.1",
            "2.web.d.test. 60 IN A 10.0.0.2",
            "3.web.d.test. 5 IN AAAA 2001:db8::3",
        }


class TestRfc3597:
    """Unknown types."""

    @pytest.mark.parametrize("rtype", [62, 1000, 65280, 65534, 65535, 0])
    def test_a_type_nobody_knows(self, live: LiveServer, rtype: int) -> None:
        """Section 3, RFC 8906 section 3.1.1: NODATA where the name is, NXDOMAIN where it is not."""
        for name, rcode in (("web.d.test.", "NOERROR"), ("nothing.d.test.", "NXDOMAIN")):
            assert outcome(live.ask(query(name, rtype))) == (rcode, True, 0, 1)

    def test_an_unknown_record_in_a_query_is_passed_over(self, live: LiveServer) -> None:
        """Section 4: its data is opaque, pointers in it too."""
        packet = bytearray(query("web.d.test.", "A").to_wire())
        packet[11] = 1
        packet += b"\xc0\x0c" + struct.pack("!HHIH", 65280, 1, 0, 4) + b"\xc0\xff\xc0\xff"
        assert outcome(dns.message.from_wire(live.raw(bytes(packet))))[:3] == ("NOERROR", True, 2)


class TestRfc4343:
    """Letter case."""

    @pytest.mark.parametrize("name", ["web.d.test.", "WEB.D.TEST.", "wEb.D.tEsT."])
    def test_case_is_ignored_in_matching_and_kept_in_the_question(self, live: LiveServer, name: str) -> None:
        """Sections 3 and 4.1; draft-vixie-dnsext-dns0x20: byte for byte."""
        packet = query(name, "A").to_wire()
        for _ in range(3):  # made anew, then from each level of the cache
            answer = live.raw(packet)
            assert answer[12 : len(packet)] == packet[12:]
            assert outcome(dns.message.from_wire(answer)) == ("NOERROR", True, 2, 0)

    def test_only_ascii_letters_fold(self, live: LiveServer) -> None:
        """Section 3.1: bytes above 127 and the like are themselves."""
        live.world.put("/skydns/test/d/x{y", {"host": "10.0.0.1"})
        for label, rcode in ((b"x{y", "NOERROR"), (b"X{Y", "NOERROR"), (b"x[y", "NXDOMAIN")):
            assert outcome(live.ask(query(dns.name.Name((label, b"d", b"test", b"")), "A")))[0] == rcode
        live.world.delete("/skydns/test/d/x{y")


class TestRfc4592:
    """Wildcards: names.md has its own meaning for `*` in a question; a stored one is a name."""

    def test_a_star_in_a_question_is_answered_under_the_name_asked(self, live: LiveServer) -> None:
        """Section 2.1.1: the label itself is legal everywhere."""
        response = live.ask(query("*.web.d.test.", "A"))
        assert {rrset.name.to_text() for rrset in response.answer} == {"*.web.d.test."}


class TestRfc4892:
    """Who answers, in class CH."""

    def test_version(self, live: LiveServer) -> None:
        """Section 2: TXT of a name in BIND's tree; what is not told is refused."""
        assert records(live.ask(query("version.bind.", "TXT", "CH"))) == ['"discovery"']
        assert outcome(live.ask(query("web.d.test.", "A", "CH")))[0] == "REFUSED"


class TestRfc5452:
    """Resilience against forged answers."""

    def test_an_answer_comes_from_where_it_was_asked_with_id_and_question(self, live: LiveServer) -> None:
        """Section 9.1: dnspython takes no other (its `udp` compares source, id and question)."""
        for ident in (0, 1, 0x8000, 0xFFFF):
            made = query("web.d.test.", "A")
            made.id = ident
            assert live.ask(made).id == ident


class TestRfc8020:
    """NXDOMAIN: there is really nothing underneath."""

    def test_an_empty_non_terminal_exists(self, live: LiveServer) -> None:
        """Section 3.1: NODATA for a name that has only names below it."""
        for name in ("here.d.test.", "only.here.d.test."):
            assert outcome(live.ask(query(name, "TXT"))) == ("NOERROR", True, 0, 1)

    def test_all_below_a_missing_name_is_missing(self, live: LiveServer) -> None:
        """Section 2."""
        for name in ("x.nothing.d.test.", "a.b.c.nothing.d.test.", "*.nothing.d.test."):
            assert outcome(live.ask(query(name, "A"))) == ("NXDOMAIN", True, 0, 1)


class TestRfc8482:
    """Minimal answers to ANY."""

    def test_one_hinfo(self, live: LiveServer) -> None:
        """Section 4.2: small, whatever is there; a missing name is NXDOMAIN."""
        for name in ("web.d.test.", "big.d.test.", "d.test.", "www.d.test."):
            packet = query(name, "ANY").to_wire()
            answer = live.raw(packet)
            assert len(answer) < len(packet) + 50  # no amplification worth the name
            assert records(dns.message.from_wire(answer)) == ['"RFC8482" ""']
        assert outcome(live.ask(query("nothing.d.test.", "ANY"))) == ("NXDOMAIN", True, 0, 1)

    def test_over_tcp_the_same(self, live: LiveServer) -> None:
        """Section 4.4."""
        assert records(live.ask(query("big.d.test.", "ANY"), tcp=True)) == ['"RFC8482" ""']


class TestRfc8945:
    """Signed messages."""

    def test_a_key_that_is_not_known(self, live: LiveServer) -> None:
        """Sections 5.2.1 and 5.3.2: NOTAUTH, with an unsigned TSIG that says BADKEY."""
        made = query("web.d.test.", "A")
        key = dns.tsig.Key("key.example.", b"secret", "hmac-sha256")
        made.use_tsig({key.name: key})
        answer = live.raw(made.to_wire())
        assert (answer[3] & 15, answer[4:8]) == (9, b"\0\1\0\0")
        error, length = answer[-4:-2], answer[-2:]
        assert (int.from_bytes(error, "big"), length) == (17, b"\0\0")


class TestRfc9619:
    """One question."""

    @pytest.mark.parametrize("count", [0, 2, 3, 255, 65535])
    def test_other_counts_are_malformed(self, live: LiveServer, count: int) -> None:
        """Section 4: FORMERR; the questions may be there or not."""
        packet = query("web.d.test.", "A").to_wire()
        for present in {0, 1, min(count, 3)}:
            made = packet[:4] + count.to_bytes(2, "big") + packet[6:12] + packet[12:] * present
            answer = live.raw(made)
            assert (answer[:2], answer[3] & 15, answer[4:12]) == (packet[:2], 1, bytes(8))

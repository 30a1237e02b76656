"""RFC 8906, "A Common Operational Problem in DNS Servers: Failure to Communicate": all of its tests (section 8)."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from tests.support.live import LiveServer

ZONE = "d.test."


def query(rtype: str = "SOA", flags: int = 0, **edns: object) -> dns.message.Message:
    """As `dig +norec +noad` asks; `edns` as for use_edns."""
    made = dns.message.make_query(ZONE, rtype)
    made.flags = dns.flags.Flag(flags)
    if edns:
        made.use_edns(**edns)  # type: ignore[arg-type]
    return made


def is_plain_answer(response: dns.message.Message) -> bool:
    """NOERROR, AA, the SOA."""
    soa = [rrset for rrset in response.answer if rrset.rdtype == dns.rdatatype.SOA]
    return response.rcode() == 0 and bool(response.flags & dns.flags.AA) and len(soa) == 1


OPTION = dns.edns.GenericOption(dns.edns.OptionType(100), b"")


class TestBasicDns:
    """Section 8.1."""

    def test_is_the_server_configured_for_the_zone(self, live: LiveServer) -> None:
        """Section 8.1.1."""
        response = live.ask(query())
        assert is_plain_answer(response)
        assert response.edns == -1

    def test_unknown_type(self, live: LiveServer) -> None:
        """Section 8.1.2: TYPE1000: NOERROR, no answer, AA, SOA in authority."""
        response = live.ask(query("TYPE1000"))
        assert (response.rcode(), response.answer) == (0, [])
        assert response.flags & dns.flags.AA
        assert response.edns == -1

    def test_cd_1(self, live: LiveServer) -> None:
        """Section 8.1.3.1: answered; CD as asked, or not."""
        assert is_plain_answer(live.ask(query(flags=dns.flags.CD)))

    def test_ad_1(self, live: LiveServer) -> None:
        """Section 8.1.3.2: answered; AD is not set in what nobody has validated."""
        response = live.ask(query(flags=dns.flags.AD))
        assert is_plain_answer(response)
        assert not response.flags & dns.flags.AD

    def test_reserved_bit(self, live: LiveServer) -> None:
        """Section 8.1.3.3: answered, and the bit is not set."""
        packet = bytearray(query().to_wire())
        packet[3] |= 0x40
        answer = live.raw(bytes(packet))
        assert is_plain_answer(dns.message.from_wire(answer))
        assert not answer[3] & 0x40

    def test_recursive_query(self, live: LiveServer) -> None:
        """Section 8.1.3.4: answered; RA off."""
        response = live.ask(query(flags=dns.flags.RD))
        assert is_plain_answer(response)
        assert response.flags & dns.flags.RD
        assert not response.flags & dns.flags.RA

    @pytest.mark.parametrize("opcode", [3, *range(7, 16)])
    @pytest.mark.parametrize("whole", [False, True])
    def test_unknown_opcode(self, live: LiveServer, opcode: int, whole: bool) -> None:
        """Section 8.1.4: NOTIMP, the opcode as asked, nothing else; `dig +header-only` sends a header alone."""
        packet = bytearray(query().to_wire())
        packet[2] |= opcode << 3
        if not whole:
            packet = packet[:4] + bytearray(8)
        answer = live.raw(bytes(packet))
        assert (answer[:2], answer[2] >> 3 & 15, answer[3] & 15) == (bytes(packet[:2]), opcode, 4)
        assert answer[6:12] == bytes(6)
        assert not answer[2] & 0x04

    def test_tcp(self, live: LiveServer) -> None:
        """Section 8.1.5."""
        assert is_plain_answer(live.ask(query(), tcp=True))


class TestExtendedDns:
    """Section 8.2."""

    def test_minimal_edns(self, live: LiveServer) -> None:
        """Section 8.2.1: an OPT of version 0."""
        response = live.ask(query(edns=0))
        assert is_plain_answer(response)
        assert response.edns == 0

    def test_version_negotiation(self, live: LiveServer) -> None:
        """Section 8.2.2: EDNS version 1: BADVERS, version 0, no answer, AA off."""
        response = live.ask(query(edns=1))
        assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])
        assert not response.flags & dns.flags.AA

    def test_unknown_option(self, live: LiveServer) -> None:
        """Section 8.2.3: answered, the option not in it."""
        response = live.ask(query(edns=0, options=[OPTION]))
        assert is_plain_answer(response)
        assert (response.edns, response.options) == (0, ())

    def test_unknown_flag(self, live: LiveServer) -> None:
        """Section 8.2.4: answered, the flag not set (`dig +ednsflags=0x40`)."""
        response = live.ask(query(edns=0, ednsflags=0x40))
        assert is_plain_answer(response)
        assert (response.edns, response.ednsflags) == (0, 0)

    def test_version_negotiation_with_an_unknown_flag(self, live: LiveServer) -> None:
        """Section 8.2.5."""
        response = live.ask(query(edns=1, ednsflags=0x40))
        assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])
        assert response.ednsflags & 0xFFFF == 0

    def test_version_negotiation_with_an_unknown_option(self, live: LiveServer) -> None:
        """Section 8.2.6."""
        response = live.ask(query(edns=1, options=[OPTION]))
        assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])
        assert response.options == ()

    def test_truncated_answers(self, live: LiveServer) -> None:
        """Section 8.2.7: an OPT in those, too."""
        made = dns.message.make_query("big.d.test.", "A", use_edns=0, payload=512, want_dnssec=True)
        response = live.ask(made)
        assert response.flags & dns.flags.TC
        assert (response.edns, response.ednsflags) == (0, 0x8000)

    def test_do_1(self, live: LiveServer) -> None:
        """Section 8.2.8: DO is copied."""
        response = live.ask(query(edns=0, ednsflags=0x8000))
        assert is_plain_answer(response)
        assert (response.edns, response.ednsflags) == (0, 0x8000)

    def test_version_negotiation_with_do_1(self, live: LiveServer) -> None:
        """Section 8.2.9."""
        response = live.ask(query(edns=1, ednsflags=0x8000))
        assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])
        assert response.ednsflags & 0xFFFF in (0, 0x8000)

    def test_many_known_options(self, live: LiveServer) -> None:
        """Section 8.2.10: COOKIE, NSID, EXPIRE and ECS together: all that are known are answered, the rest ignored."""
        options = [
            dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678"),
            dns.edns.GenericOption(dns.edns.OptionType.NSID, b""),
            dns.edns.GenericOption(dns.edns.OptionType(9), b""),
            dns.edns.ECSOption("0.0.0.0", 0),
        ]
        response = live.ask(query(edns=0, options=options))
        assert is_plain_answer(response)
        assert sorted(int(option.otype) for option in response.options) == [3, 10]


class TestNeverSilence:
    """Sections 3 and 4: what must be answered is, whatever is odd about it; a response never is."""

    @pytest.mark.parametrize("tcp", [False, True])
    @pytest.mark.parametrize(
        "rtype", ["A", "NS", "DNSKEY", "DS", "CAA", "TLSA", "SVCB", "HTTPS", "NSEC", "TYPE65280"]
    )
    def test_types(self, live: LiveServer, rtype: str, tcp: bool) -> None:
        """Section 3.1.1."""
        assert live.ask(query(rtype), tcp=tcp).rcode() == 0

    @pytest.mark.parametrize("flag", [1 << bit for bit in range(11)])
    def test_flags(self, live: LiveServer, flag: int) -> None:
        """Section 3.1.2: each bit of the header beside QR and the opcode."""
        packet = bytearray(query().to_wire())
        packet[2:4] = flag.to_bytes(2, "big")
        answer = live.raw(bytes(packet))
        assert (answer[:2], answer[3] & 15) == (bytes(packet[:2]), 0)

    def test_responses(self, live: LiveServer) -> None:
        """RFC 1035 section 4.1.1: QR says whether it is one; two servers must never talk for ever."""
        packet = bytearray(query().to_wire())
        packet[2] |= 0x80
        for cut in (len(packet), 12, 20):
            assert live.is_silent(bytes(packet[:cut]))

"""EDNS and its options: a class for each RFC, the section in the docstring."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.support.live import LiveServer

COOKIE, NSID, EDE = dns.edns.OptionType.COOKIE, dns.edns.OptionType.NSID, dns.edns.OptionType.EDE


def query(
    name: str = "web.d.test.",
    rtype: str = "A",
    *options: dns.edns.Option,
    payload: int = 1232,
    version: int = 0,
    flags: int = 0,
) -> dns.message.Message:
    made = dns.message.make_query(name, rtype)
    made.use_edns(version, flags, payload, options=list(options))
    return made


def generic(code: int, content: bytes = b"") -> dns.edns.GenericOption:
    return dns.edns.GenericOption(dns.edns.OptionType.make(code), content)


def codes(response: dns.message.Message) -> list[int]:
    return [int(option.otype) for option in response.options]


def with_opts(*records: bytes) -> bytes:
    """A question with these records in additional."""
    packet = dns.message.make_query("web.d.test.", "A").to_wire()
    return packet[:10] + len(records).to_bytes(2, "big") + packet[12:] + b"".join(records)


def opt(options: bytes = b"", *, owner: bytes = b"\0", payload: int = 1232, ttl: int = 0) -> bytes:
    return owner + struct.pack("!HHIH", 41, payload, ttl, len(options)) + options


class TestRfc5001:
    """NSID."""

    def test_the_nodes_name_is_told_to_those_who_ask(self, live: LiveServer) -> None:
        """Section 2.2."""
        response = live.ask(query("web.d.test.", "A", generic(3)))
        assert [(int(option.otype), option.to_wire()) for option in response.options] == [(3, b"n1")]

    def test_it_is_not_told_unasked(self, live: LiveServer) -> None:
        """Section 2.1: only to a query with the option."""
        assert codes(live.ask(query())) == []

    def test_what_the_query_says_in_it_is_ignored(self, live: LiveServer) -> None:
        """Section 2.1."""
        response = live.ask(query("nothing.d.test.", "A", generic(3, b"somebody")))
        assert (response.rcode(), codes(response)) == (3, [3])


class TestRfc6891:
    """Extension mechanisms."""

    @pytest.mark.parametrize(
        ("name", "rtype"),
        [
            ("web.d.test.", "A"),
            ("nothing.d.test.", "A"),
            ("example.com.", "A"),
            ("big.d.test.", "A"),
            ("d.test.", "AXFR"),
        ],
    )
    def test_an_opt_for_those_who_sent_one_and_for_no_others(
        self, live: LiveServer, name: str, rtype: str
    ) -> None:
        """Section 6.1.1: in every kind of answer, refusals and truncated ones too."""
        response = dns.message.from_wire(live.raw(query(name, rtype, payload=512).to_wire()))
        assert (response.edns, response.payload) == (0, 1232)
        response = dns.message.from_wire(live.raw(dns.message.make_query(name, rtype).to_wire()))
        assert response.edns == -1

    @pytest.mark.parametrize("payload", [0, 1, 511, 512, 600, 1232, 1500, 4096, 65535])
    def test_payload_size(self, live: LiveServer, payload: int) -> None:
        """Section 6.2.3: below 512 is 512; never over the client's, and never over ours (flag day 2020: 1232)."""
        answer = live.raw(query("big.d.test.", "A", payload=payload).to_wire())
        limit = max(512, min(payload, 1232))
        assert limit - 16 <= len(answer) <= limit
        assert dns.message.from_wire(answer).flags & dns.flags.TC

    @pytest.mark.parametrize("version", [1, 2, 255])
    def test_badvers(self, live: LiveServer, version: int) -> None:
        """Section 6.1.3: our version in an OPT, no answer."""
        response = live.ask(query(version=version))
        assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])

    def test_two_opts_are_malformed(self, live: LiveServer) -> None:
        """Section 6.1.1."""
        assert live.raw(with_opts(opt(), opt()))[3] & 15 == 1

    def test_an_opt_with_an_owner_name_is_malformed(self, live: LiveServer) -> None:
        """Section 6.1.2: it must be the root."""
        assert live.raw(with_opts(opt(owner=b"\1a\0")))[3] & 15 == 1

    @pytest.mark.parametrize("section", [6, 8])
    def test_an_opt_elsewhere_is_malformed(self, live: LiveServer, section: int) -> None:
        """Section 6.1.1: it belongs into additional."""
        packet = bytearray(with_opts(opt()))
        packet[10:12], packet[section : section + 2] = b"\0\0", b"\0\1"
        assert live.raw(bytes(packet))[3] & 15 == 1

    @pytest.mark.parametrize("options", [b"\0", b"\0\3\0", b"\0\3\0\1", b"\0\3\0\0\0", b"\xff\xff\xff\xff"])
    def test_options_that_run_over_the_end_are_malformed(self, live: LiveServer, options: bytes) -> None:
        """Section 6.1.2."""
        answer = dns.message.from_wire(live.raw(with_opts(opt(options))))
        assert (answer.rcode(), answer.edns) == (1, 0)

    def test_unknown_options_are_ignored_and_not_echoed(self, live: LiveServer) -> None:
        """Section 6.1.2."""
        response = live.ask(
            query("web.d.test.", "A", generic(65001, b"x"), generic(100), generic(8, b"\0\1\0\0"))
        )
        assert (response.rcode(), codes(response)) == (0, [])

    @pytest.mark.parametrize("flags", [0, 0x8000, 0x4000, 0xFFFF])
    def test_do_is_copied_and_the_other_flags_are_zero(self, live: LiveServer, flags: int) -> None:
        """Section 6.1.4; RFC 3225 section 3."""
        assert live.ask(query(flags=flags)).ednsflags == flags & 0x8000

    def test_the_extended_rcode_of_a_query_is_ignored(self, live: LiveServer) -> None:
        """Section 6.1.3."""
        assert live.raw(with_opts(opt(ttl=0xFF << 24)))[3] & 15 == 0

    def test_it_is_not_applied_to_tcp(self, live: LiveServer) -> None:
        """Section 6.2.5."""
        response = live.ask(query("big.d.test.", "A", payload=512), tcp=True)
        assert (len(response.answer[0]), response.flags & dns.flags.TC) == (200, 0)

    def test_opt_as_a_question_is_malformed(self, live: LiveServer) -> None:
        """Section 6.1.1: it is no type to ask for."""
        assert live.raw(dns.message.make_query("web.d.test.", "OPT").to_wire())[3] & 15 == 1


class TestRfc7830:
    """Padding."""

    def test_it_is_not_answered_in_clear(self, live: LiveServer) -> None:
        """Section 6: where size tells nothing that the content does not (over TLS see tests/dns/test_tls.py)."""
        for tcp in (False, True):
            assert codes(live.ask(query("web.d.test.", "A", generic(12, bytes(20))), tcp=tcp)) == []


class TestRfc7873:
    """Cookies."""

    def test_a_client_cookie_is_returned_with_a_server_cookie(self, live: LiveServer) -> None:
        """Section 5.2.3."""
        (option,) = live.ask(query("web.d.test.", "A", generic(10, b"12345678"))).options
        content = option.to_wire()
        assert content is not None
        assert (content[:8], len(content)) == (b"12345678", 24)

    @pytest.mark.parametrize("size", [0, 1, 7, 9, 12, 15, 41, 200])
    def test_a_bad_length_is_malformed(self, live: LiveServer, size: int) -> None:
        """Section 5.2.2."""
        answer = live.raw(with_opts(opt(struct.pack("!HH", 10, size) + bytes(size))))
        assert answer[3] & 15 == 1

    def test_a_bad_server_cookie_is_replaced(self, live: LiveServer) -> None:
        """Section 5.2.4: with no policy against it the question is answered, with a fresh one."""
        for size in (16, 24, 40):
            response = live.ask(query("web.d.test.", "A", generic(10, bytes(size))))
            assert (response.rcode(), len(response.answer), codes(response)) == (0, 1, [10])

    def test_of_many_the_first_counts(self, live: LiveServer) -> None:
        """Section 5.2."""
        response = live.ask(query("web.d.test.", "A", generic(10, b"12345678"), generic(10, b"abcdefgh")))
        (option,) = response.options
        assert (option.to_wire() or b"")[:8] == b"12345678"

    def test_without_a_question(self, live: LiveServer) -> None:
        """Section 5.4: a cookie may be asked for alone; BADCOOKIE when the one with it is bad."""
        made = query("web.d.test.", "A", generic(10, b"12345678"))
        made.question = []
        response = dns.message.from_wire(live.raw(made.to_wire()))
        assert (response.rcode(), codes(response)) == (0, [10])
        made.use_edns(0, options=list(response.options))
        assert dns.message.from_wire(live.raw(made.to_wire())).rcode() == 0
        made.use_edns(0, options=[generic(10, b"12345678" + bytes(16))])
        assert dns.message.from_wire(live.raw(made.to_wire())).rcode() == dns.rcode.BADCOOKIE


class TestRfc8914:
    """Extended errors."""

    def test_not_ready(self, live: LiveServer) -> None:
        """Section 4.15."""
        live.world.view.ready = False
        live.world.view.new_epoch()
        try:
            response = live.ask(query())
            assert (response.rcode(), response.options) == (
                2,
                (dns.edns.EDEOption(dns.edns.EDECode.NOT_READY),),
            )
            assert live.ask(dns.message.make_query("web.d.test.", "A")).edns == -1
        finally:
            live.world.view.ready = True
            live.world.view.new_epoch()

    def test_stale_answer(self, live: LiveServer) -> None:
        """Section 4.4; RFC 8767 for the TTL."""
        live.world.view.stale = True
        live.world.view.new_epoch()
        try:
            response = live.ask(query())
            assert response.options == (dns.edns.EDEOption(dns.edns.EDECode.STALE_ANSWER),)
            assert response.answer[0].ttl <= 30
        finally:
            live.world.view.stale = False
            live.world.view.new_epoch()

    def test_not_authoritative(self, live: LiveServer) -> None:
        """Section 4.21; clients that may not ask get 18 (tests/dns/test_admission.py)."""
        response = live.ask(query("example.com.", "A"))
        assert (response.rcode(), response.options) == (
            5,
            (dns.edns.EDEOption(dns.edns.EDECode.NOT_AUTHORITATIVE),),
        )


class TestRfc9018:
    """Interoperable cookies; its vectors are in tests/dns/test_cookies.py."""

    def test_form(self, live: LiveServer) -> None:
        """Section 4: version 1, three reserved zero bytes, seconds, hash."""
        (option,) = live.ask(query("web.d.test.", "A", generic(10, b"12345678"))).options
        content = option.to_wire() or b""
        assert content[8:12] == b"\1\0\0\0"

    def test_renewed(self, live: LiveServer) -> None:
        """Section 4.3: at least when it is half an hour old; here with each answer."""
        (option,) = live.ask(query("web.d.test.", "A", generic(10, b"12345678"))).options
        (again,) = live.ask(query("web.d.test.", "A", option)).options
        assert (again.to_wire() or b"")[:8] == b"12345678"

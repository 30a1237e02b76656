"""`discovery lookup` against a real server whose packets dnspython makes."""

from __future__ import annotations

import importlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.discovery.cli.conftest import Run
from tests.support.dns_server import Answer, DnsServer

SRV = [
    "web.prod.test. 5 IN SRV 10 50 80 i1.web.prod.test.",
    "web.prod.test. 5 IN SRV 10 50 80 i2.web.prod.test.",
]
ADDRESSES = ("i1.web.prod.test. 7 IN A 10.0.0.1", "i2.web.prod.test. 7 IN AAAA 2001:db8::2")


def rrsets(*lines: str) -> list[dns.rrset.RRset]:
    """Records as master-file lines, each an RRset of its own: dnspython would shuffle those of one."""
    out = []
    for line in lines:
        name, ttl, class_, type_, rdata = line.split(" ", 4)
        out.append(dns.rrset.from_text(name, int(ttl), class_, type_, rdata))
    return out


def reply(
    query: dns.message.Message,
    answer: tuple[str, ...] | list[str] = (),
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    options: tuple[dns.edns.Option, ...] = (),
) -> bytes:
    message = dns.message.make_response(query)
    message.flags |= dns.flags.AA
    message.use_edns(0, payload=1232, options=list(options))
    message.set_rcode(rcode)
    message.answer, message.authority = rrsets(*answer), rrsets(*authority)
    message.additional = rrsets(*additional)
    return message.to_wire(max_size=65535)


def truncated(query: dns.message.Message) -> bytes:
    message = dns.message.make_response(query)
    message.flags |= dns.flags.TC
    return message.to_wire()


class TestPrinted:
    def test_like_dig(self, run: Run) -> None:
        def answer(query: dns.message.Message, _: str) -> Iterator[bytes]:
            yield reply(
                query,
                SRV,
                (),
                ("i1.web.prod.test. 7 IN A 10.0.0.1", "i2.web.prod.test. 7 IN AAAA 2001:db8::2"),
            )

        with DnsServer(answer) as server:
            status, out, err = run("lookup", "web.prod.test", "srv", "--server", server.address)
            (query,) = server.questions
        assert (status, err) == (0, "")
        out = re.sub(r"id: \d+", "id: 7", re.sub(r"time: \d+ ms", "time: 1 ms", out))
        assert out == (
            ";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 7\n"
            ";; flags: qr aa rd; QUERY: 1, ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 3\n"
            ";; EDNS: version: 0, flags:; udp: 1232\n"
            "\n"
            ";; QUESTION SECTION:\n"
            ";web.prod.test.\tIN\tSRV\n"
            "\n"
            ";; ANSWER SECTION:\n"
            "web.prod.test.\t5\tIN\tSRV\t10 50 80 i1.web.prod.test.\n"
            "web.prod.test.\t5\tIN\tSRV\t10 50 80 i2.web.prod.test.\n"
            "\n"
            ";; ADDITIONAL SECTION:\n"
            "i1.web.prod.test.\t7\tIN\tA\t10.0.0.1\n"
            "i2.web.prod.test.\t7\tIN\tAAAA\t2001:db8::2\n"
            "\n"
            ";; Query time: 1 ms\n"
            f";; SERVER: {server.address} (UDP)\n"
            f";; MSG SIZE rcvd: {len(reply(query, SRV, (), ADDRESSES))}\n"
        )
        assert query.payload == 1232
        assert query.edns == 0
        assert query.question[0].rdtype == dns.rdatatype.SRV
        assert query.flags & dns.flags.RD

    @pytest.mark.parametrize(
        "record",
        [
            "a.test. 1 IN A 192.0.2.1",
            "a.test. 1 IN AAAA 2001:db8::1",
            "a.test. 1 IN CNAME b\\.c.test.",
            "a.test. 1 IN PTR b.test.",
            "a.test. 1 IN NS b.test.",
            "a.test. 1 IN MX 10 b.test.",
            "a.test. 1 IN SRV 1 2 3 .",
            "a.test. 1 IN SOA ns.a.test. hm.a.test. 7 3600 600 604800 2",
            'a.test. 1 IN TXT "plain" "q\\"\\\\" "\\200\\027[2J"',
            'a.test. 1 IN TXT ""',
            'a.test. 1 IN HINFO "RFC8482" ""',
            "\\000\\..test. 1 IN A 192.0.2.1",
        ],
    )
    def test_each_type_is_printed_as_dnspython_reads_it(self, run: Run, record: str) -> None:
        (rrset,) = rrsets(record)
        type_ = dns.rdatatype.to_text(rrset.rdtype)
        answer: Answer = lambda query, _: [reply(query, [record])]  # noqa: E731
        with DnsServer(answer) as server:
            out = run("lookup", rrset.name.to_text(), type_, "--json", "--server", server.address).out
            assert server.questions[0].question[0].name == rrset.name
        (found,) = json.loads(out)["answer"]
        line = "{name} {ttl} {class} {type} {data}".format(**found)
        assert rrsets(line) == [rrset]
        assert line.isascii()
        assert line.isprintable()

    def test_json(self, run: Run) -> None:
        soa = "test. 2 IN SOA ns.test. hm.test. 7 3600 600 604800 2"
        answer: Answer = lambda query, _: [reply(query, authority=(soa,), rcode=dns.rcode.NXDOMAIN)]  # noqa: E731
        with DnsServer(answer) as server:
            status, out, _ = run("lookup", "no.test", "--json", "--server", server.address)
        found = json.loads(out)
        assert status == 0
        assert found.pop("query_time_ms") >= 0
        assert found.pop("id") == int.from_bytes(server.questions[0].id.to_bytes(2))
        assert found.pop("size") > 12
        assert found == {
            "status": "NXDOMAIN",
            "flags": ["qr", "aa", "rd"],
            "edns": {"version": 0, "flags": [], "udp": 1232, "errors": []},
            "question": [{"name": "no.test.", "class": "IN", "type": "A"}],
            "answer": [],
            "authority": [
                {
                    "name": "test.",
                    "ttl": 2,
                    "class": "IN",
                    "type": "SOA",
                    "data": "ns.test. hm.test. 7 3600 600 604800 2",
                }
            ],
            "additional": [],
            "server": server.address,
            "transport": "UDP",
        }

    def test_nxdomain_is_0_as_with_dig(self, run: Run) -> None:
        answer: Answer = lambda query, _: [reply(query, rcode=dns.rcode.NXDOMAIN)]  # noqa: E731
        with DnsServer(answer) as server:
            status, out, _ = run("lookup", "no.test", "--server", server.address)
        assert status == 0
        assert "status: NXDOMAIN" in out

    def test_extended_errors_and_rcodes(self, run: Run) -> None:
        options = (
            dns.edns.EDEOption(dns.edns.EDECode.NOT_READY, "starting"),
            dns.edns.GenericOption(dns.edns.OptionType.EDE, (4242).to_bytes(2)),
        )
        answers = [(dns.rcode.SERVFAIL, options), (dns.rcode.BADVERS, ())]
        answer: Answer = lambda query, _: [reply(query, rcode=answers[0][0], options=answers[0][1])]  # noqa: E731
        with DnsServer(answer) as server:
            out = run("lookup", "a.test", "--server", server.address).out
            answers.pop(0)
            assert "status: BADVERS" in run("lookup", "a.test", "--server", server.address).out
        assert "status: SERVFAIL" in out
        assert ";; EDE: 14 (Not Ready): starting\n;; EDE: 4242\n" in out


class TestTransport:
    def test_truncated_over_udp_is_asked_over_tcp(self, run: Run) -> None:
        answer: Answer = lambda query, transport: [  # noqa: E731
            truncated(query) if transport == "UDP" else reply(query, SRV)
        ]
        with DnsServer(answer) as server:
            status, out, _ = run("lookup", "web.prod.test", "SRV", "--server", server.address)
            assert server.asked == ["UDP", "TCP"]
        assert status == 0
        assert "(TCP)" in out
        assert "i2.web.prod.test." in out
        assert " tc " not in out

    def test_tcp_answers_may_come_in_pieces(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """The rest is sent when the client has come back for it: for UDP, connecting, the first byte, and more."""
        waits = threading.Semaphore(0)
        waited: list[bool] = []

        def left(deadline: float) -> float:
            waits.release()
            return deadline - time.monotonic()

        def between_pieces() -> None:
            waited.extend(waits.acquire(timeout=5) for _ in range(4))

        answer: Answer = lambda query, transport: [  # noqa: E731
            truncated(query) if transport == "UDP" else reply(query, SRV)
        ]
        monkeypatch.setattr(importlib.import_module("discovery.cli.lookup"), "_left", left)
        with DnsServer(answer, between_pieces) as server:
            status, out, err = run("lookup", "web.prod.test", "SRV", "--server", server.address)
        assert (status, err, waited) == (0, "", [True] * 4)
        assert "ANSWER: 2" in out

    def test_what_is_not_the_answer_is_passed_over(self, run: Run) -> None:
        def answer(query: dns.message.Message, _: str) -> Iterator[bytes]:
            wrong = reply(query)
            yield b""
            yield wrong[:11]
            yield bytes([wrong[0] ^ 1]) + wrong[1:]  # another id
            yield wrong[:2] + bytes([wrong[2] & 0x7F]) + wrong[3:]  # a question
            yield reply(query, SRV)

        with DnsServer(answer) as server:
            status, out, _ = run("lookup", "web.prod.test", "SRV", "--server", server.address)
            assert server.asked == ["UDP"]
        assert status == 0
        assert "ANSWER: 2" in out

    def test_a_second_try_when_the_first_is_lost(self, run: Run) -> None:
        answer: Answer = lambda query, _: [reply(query, SRV)] if len(server.asked) > 1 else []  # noqa: E731
        with DnsServer(answer) as server:
            status, _, _ = run(
                "lookup", "web.prod.test", "SRV", "--server", server.address, "--timeout", "0.1"
            )
            assert server.asked == ["UDP", "UDP"]
            first, second = server.questions
        assert status == 0
        assert first.id == second.id

    def test_silence_is_one_line_and_1(self, run: Run) -> None:
        answer: Answer = lambda query, _: []  # noqa: E731
        with DnsServer(answer) as server:
            ran = run("lookup", "a.test", "--server", server.address, "--timeout", "0.05")
            assert len(server.asked) == 2
        assert ran == (
            1,
            "",
            f"discovery: no answer from 127.0.0.1 port {server.port} in 2 tries of 0.05 s; "
            "check the address (--server) and firewalls\n",
        )

    def test_nobody_there(self, run: Run) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        status, out, err = run("lookup", "a.test", "--server", f"127.0.0.1:{port}")
        assert (status, out) == (1, "")
        assert err == (
            f"discovery: no DNS server answers at 127.0.0.1 port {port} (Connection refused); "
            "start one with `discovery serve` or name another with --server\n"
        )

    def test_tcp_that_closes_without_an_answer(self, run: Run) -> None:
        answer: Answer = lambda query, transport: [truncated(query)] if transport == "UDP" else []  # noqa: E731
        with DnsServer(answer) as server:
            status, _, err = run("lookup", "a.test", "--server", server.address)
        assert status == 1
        assert "it closed the TCP connection without an answer" in err

    @pytest.mark.parametrize("cut", [13, -3])
    def test_an_unreadable_answer_is_one_line_and_1(self, run: Run, cut: int) -> None:
        answer: Answer = lambda query, _: [reply(query, SRV)[:cut]]  # noqa: E731
        with DnsServer(answer) as server:
            status, out, err = run("lookup", "a.test", "--server", server.address)
        assert (status, out) == (1, "")
        assert err.startswith(f"discovery: the answer of {server.address} cannot be read: ")
        assert err.count("\n") == 1

    def test_server_from_the_environment(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        answer: Answer = lambda query, _: [reply(query)]  # noqa: E731
        with DnsServer(answer) as server:
            monkeypatch.setenv("DISCOVERY_DNS", server.address)
            assert run("lookup", "a.test").status == 0


@pytest.mark.parametrize(
    "arguments",
    [("a..b",), (".a",), ("a" * 64,), ("",), ("a\\300",), ("a.test", "WHAT"), ("a.test", "TYPE70000"),
     ("a.test", "A", "--server", "53"), ("a.test", "--timeout", "0")],
)  # fmt: skip
def test_wrong_usage_is_2(run: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = run("lookup", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("discovery: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "asked"),
    [(".", "."), ("A.test.", "A.test."), ("a\\.b.test", "a\\.b.test."), ("\\065.test", "A.test.")],
)
def test_names_are_asked_as_written(run: Run, name: str, asked: str) -> None:
    answer: Answer = lambda query, _: [reply(query)]  # noqa: E731
    with DnsServer(answer) as server:
        assert run("lookup", name, "TYPE65", "--server", server.address).status == 0
        (question,) = server.questions[0].question
    assert (question.name.to_text(), question.rdtype) == (asked, dns.rdatatype.HTTPS)

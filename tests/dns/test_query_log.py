"""dns.query_log: what the line for a question says, from the bytes of any question and answer."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import cast

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dns import query_log
from tests.support.dns import World, query

LOG = logging.getLogger("discovery.queries")
FIELDS = ("client", "transport", "qname", "qtype", "rcode")


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def last(self) -> dict[str, object]:
        return {name: value for name, value in vars(self.records[-1]).items() if name in FIELDS}


@pytest.fixture
def log() -> Iterator[Lines]:
    handler, level = Lines(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield handler
    LOG.removeHandler(handler)
    LOG.setLevel(level)


def answered(message: dns.message.Message) -> tuple[bytes, bytes]:
    packet = message.to_wire()
    answer = World({"1.web": {"host": "10.0.0.1"}}).udp.respond(packet)
    return packet, cast(bytes, answer)


def test_it_is_on_exactly_when_the_level_says_so(log: Lines) -> None:
    assert query_log.is_on()
    LOG.setLevel(logging.CRITICAL + 1)
    assert not query_log.is_on()


def test_who_asked_what_and_the_response_code(log: Lines) -> None:
    query_log.write(*answered(query("web", "A")), "udp", "192.0.2.1")
    assert log.last == {
        "client": "192.0.2.1",
        "transport": "udp",
        "qname": "web.d.test.",
        "qtype": "A",
        "rcode": 0,
    }
    query_log.write(*answered(query("none", "TYPE65400")), "tcp", "2001:db8::1")
    assert log.last == {
        "client": "2001:db8::1",
        "transport": "tcp",
        "qname": "none.d.test.",
        "qtype": "TYPE65400",
        "rcode": 3,
    }


def test_the_root_and_names_of_any_bytes(log: Lines) -> None:
    query_log.write(*answered(query(".", "NS")), "udp", "192.0.2.1")
    assert log.last == {
        "client": "192.0.2.1",
        "transport": "udp",
        "qname": ".",
        "qtype": "NS",
        "rcode": 5,
    }
    query_log.write(*answered(query(r"a\.b.c\010\255\ \".d.test.", "A")), "udp", "192.0.2.1")
    assert log.last["qname"] == r"a\.b.c\010\255\032\".d.test."


def test_a_question_without_an_answer(log: Lines) -> None:
    for packet in (b"", b"\0" * 11, b"\0\0\x80\0" + bytes(8)):
        query_log.write(packet, None, "udp", "192.0.2.1")
        assert log.last == {"client": "192.0.2.1", "transport": "udp", "rcode": "none"}


def test_a_malformed_question(log: Lines) -> None:
    packet = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\x3fcut"
    answer = World().udp.respond(packet)
    query_log.write(packet, cast(bytes, answer), "udp", "192.0.2.1")
    assert log.last["rcode"] == 1
    assert os.linesep not in str(log.last)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_can_be_told_of(junk: bytes) -> None:
    for packet in (junk, b"\0\1\1\0\0\1\0\0\0\0\0\0" + junk):
        answer = World().udp.respond(packet)
        query_log.write(packet, cast("bytes | None", answer), "udp", "192.0.2.1")

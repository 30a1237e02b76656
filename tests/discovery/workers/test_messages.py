"""Messages between the processes: whole on both sides, however the stream is cut."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.dns.cookies import Secret
from discovery.kv.contract import KV, Event
from discovery.service import Service
from discovery.settings import Config, DnsConfig, EtcdConfig, HttpConfig, StoreConfig
from discovery.tree import Copy
from discovery.view import Standing
from discovery.workers import messages
from discovery.workers.messages import (
    HEADER,
    MAX_FRAME,
    Ack,
    Ask,
    Batch,
    Certificate,
    CookieKeys,
    Epoch,
    Frames,
    Handed,
    Kept,
    LeaseTtl,
    Loaded,
    Nodes,
    Records,
    Reloaded,
    Said,
    Sampled,
    Settled,
    SetUp,
    Sweep,
    Tick,
    Told,
    frame,
)

PATH = (b"test", b"d", b"\xff\x00web")
NODES = ((b"n1", (b"\x0a\0\0\1", bytes(16))), (b"n2", ()))
SERVICE = Service(host="10.0.0.1", port=80, ports={"dns/udp": 53}, tags=("a", "b"), meta={"k": "v"}, ttl=7)
TOLD: list[Told] = [
    SetUp(Config(), "n1.test", ["192.0.2.1"], Handed([3], [4, 5], [6], [7])),
    CookieKeys([Secret(bytes(16), 1 << 31)]),
    Certificate(b"-----BEGIN", b""),
    Records(
        [
            Copy(b"/skydns/\xff", 1, 2, 3, SERVICE, "", b"\x0a\0\0\1", None),
            Copy(b"/skydns/x", 1, 2, 0, Service(host="a.test"), "", None, PATH),
            Copy(b"/skydns/y", 1, 2, 0, None, "no JSON", None, None),
        ]
    ),
    Loaded(Standing(9, True, False, [(PATH, 4)], [(PATH, 1.5)], {7: 30}, NODES)),
    Batch([Event(KV(b"a", b"\0\xff", 1, 2, 3, 4)), Event(KV(b"b", b"", 0, 5, 0), deleted=True)], 5, 1.25),
    Settled(6),
    Sweep(0.5),
    LeaseTtl(1 << 62, 30),
    Nodes(NODES),
    Epoch(True),
    Reloaded(Config()),
    Tick(),
    Ask(1, PATH, 33),
]
SAID: list[Said] = [
    Ack(1, True, True),
    Ack(1 << 40, False, True, [0, 1 << 50]),
    Kept(5),
    Sampled([(b"\3web\0\0\1", 7)]),
]


@pytest.mark.parametrize("message", TOLD, ids=lambda message: type(message).__name__)
def test_what_is_told_arrives_as_it_was(message: Told) -> None:
    assert messages.told(frame(message)[HEADER:]) == message


@pytest.mark.parametrize("message", SAID)
def test_what_is_said_arrives_as_it_was(message: Said) -> None:
    assert messages.said(frame(message)[HEADER:]) == message


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(0, 1 << 30))
def test_a_stream_may_be_cut_anywhere(contents: list[bytes], seed: int) -> None:
    stream = b"".join(len(content).to_bytes(HEADER, "big") + content for content in contents)
    rng = random.Random(seed)
    frames, at = Frames(), 0
    found: list[bytes] = []
    while at < len(stream):
        size = rng.randint(1, 20)
        found += frames.feed(stream[at : at + size])
        at += size
    assert found == contents


def test_a_stream_that_is_none_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        list(Frames().feed(b"\xff\xff\xff\xff"))
    assert list(Frames().feed(MAX_FRAME.to_bytes(HEADER, "big"))) == []
    with pytest.raises(msgspec.DecodeError):
        messages.told(b"\xc1")
    with pytest.raises(msgspec.DecodeError):
        messages.said(frame(Tick())[HEADER:])


def test_workers_learn_no_secrets() -> None:
    config = Config(
        http=HttpConfig(tokens=("s3cret",)),
        store=StoreConfig(prefix="/x", etcd=EtcdConfig(password="s3cret")),
        dns=DnsConfig(workers=2, payload_size=1400),
    )
    told = messages.for_workers(config)
    assert b"s3cret" not in frame(Reloaded(told))
    assert (told.dns, told.store.prefix) == (config.dns, "/x")

"""A service's fields: every ruling on what is unreadable, and JSON both ways."""

from __future__ import annotations

import ipaddress
import json
import random
from contextlib import suppress
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.service import Service, Unreadable, address_of, meta_string, read, resolve_host, write

MAX = 2147483647


def of(**fields: object) -> Service:
    return read(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b"{} x",
        b"\xff{}",
        b'{"text": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"port": NaN}',
        b'{"unknown": Infinity}',
        b"{'host': 'a'}",
        b'{"text": "a\nb"}',
        b"[" * 100_000,
        b'{"x": ' + b"[" * 100_000,
        b'{"port": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_object_in_utf8(value: bytes) -> None:
    with pytest.raises(Unreadable):
        read(value)


WRONG: list[tuple[tuple[str, ...], tuple[object, ...]]] = [
    (("host", "text", "group"), (1, True, [], {}, 1.5)),
    (
        ("port", "priority", "weight", "ttl", "targetstrip", "lease_ttl"),
        ("1", True, 1.0, 1.5, 1e3, [], {}),
    ),
    (("mail", "own_lease"), (0, 1, "true", [], {})),
    (("tags",), ("a", {"a": 1}, [1], [""], ["x" * 64], [None])),
    (("ports",), ([], "a", {"a": "1"}, {"": 1}, {"a": 1.0}, {"a": None}, {"a/sctp": 1})),
    (("ports",), ({"a/": 1}, {"/udp": 1}, {"a/udp/x": 1}, {"a": 65536}, {"a": -1})),
    (("meta",), ([], "a", {"a": 1}, {"": "x"}, {"a=b": "x"}, {"a": "x" * 254}, {"a": None})),
]


@pytest.mark.parametrize(
    ("field", "content"),
    [(field, content) for fields, contents in WRONG for field in fields for content in contents],
)
def test_a_field_of_the_wrong_type(field: str, content: object) -> None:
    with pytest.raises(Unreadable, match=field):
        of(**{field: content})


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("port", 0, 65535),
        ("priority", 0, 65535),
        ("weight", 0, MAX),
        ("ttl", 0, MAX),
        ("lease_ttl", 0, MAX),
    ],
)
def test_numbers_within_their_limits(field: str, low: int, high: int) -> None:
    assert getattr(of(**{field: low}), field) == low
    assert getattr(of(**{field: high}), field) == high
    for outside in (low - 1, high + 1):
        with pytest.raises(Unreadable, match=field):
            of(**{field: outside})


def test_targetstrip_may_be_negative() -> None:
    assert of(targetstrip=-3).targetstrip == -3


@pytest.mark.parametrize(
    "host",
    [
        *(
            "a b",
            "10.0.0.256",
            "10.0.0",
            "010.0.0.1",
            "10.0.0.1.",
            "1.2.3.4/8",
            "fe80::1%eth0",
            "[::1]",
            "::g",
        ),
        *(
            "a..b",
            ".",
            "..",
            "ä.test",
            "\u212a.com",
            "x" * 64,
            ".".join(["x" * 63] * 4),
            "host:80",
            "a.9",
            "w*.test",
        ),
        *(" 10.0.0.1", "\uff11.0.0.1"),
    ],
)
def test_a_host_that_is_neither_address_nor_name(host: str) -> None:
    with pytest.raises(Unreadable):
        of(host=host)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", bytes((10, 0, 0, 1))),
        ("::ffff:10.0.0.1", bytes((10, 0, 0, 1))),
        ("::ffff:a00:1", bytes((10, 0, 0, 1))),
        ("2001:DB8::1", bytes.fromhex("20010db8" + "0" * 23 + "1")),
        ("::", bytes(16)),
    ],
)
def test_hosts_that_are_addresses(host: str, address: bytes) -> None:
    assert resolve_host(host) == (address, None)
    assert address_of(host) == address


def test_hosts_that_are_names_or_nothing() -> None:
    assert resolve_host("") == (None, None)
    assert resolve_host("Web.D.test.") == (None, (b"test", b"d", b"web"))
    assert resolve_host("*.d.test") == (None, (b"test", b"d", b"*"))
    assert address_of("web") is None


def test_field_names_fold_ascii_only_and_the_last_of_them_counts() -> None:
    assert read(b'{"HOST": "10.0.0.1", "Port": 1, "port": 2, "TargetStrip": 3}') == Service(
        host="10.0.0.1", port=2, targetstrip=3
    )
    assert read('{"te\u017ft": 1, "wei\u212aht": "x"}'.encode()) == Service()


def test_null_is_absent_even_after_another_value() -> None:
    assert (
        read(b'{"host": null, "port": null, "mail": null, "tags": null, "ports": null, "meta": null}')
        == Service()
    )
    assert read(b'{"port": "wrong", "port": null}') == Service()
    assert read(b'{"port": null, "port": 5}').port == 5


def test_unknown_fields_are_ignored() -> None:
    assert read(b'{"host": "a", "ttl2": "x", "nested": {"a": [1.5, null]}}') == Service(host="a")


def test_tags_and_port_names_fold_ascii_only() -> None:
    service = of(tags=["Blue", "BLUE", "Ä", "b"], ports={"HTTP": 1, "dns/UDP": 2, "x/tcp": 3, "Ü": 4})
    assert service.tags == ("blue", "Ä", "b")
    assert service.ports == {"http": 1, "dns/udp": 2, "x": 3, "Ü": 4}


def test_ports_that_fold_together_are_the_last() -> None:
    assert of(ports={"HTTP": 1, "http/tcp": 2, "http/udp": 3}).ports == {"http": 2, "http/udp": 3}


def test_half_a_surrogate_pair_is_unreadable() -> None:
    for value in (
        b'{"text": "\\ud800"}',
        b'{"tags": ["\\ud800"]}',
        b'{"meta": {"\\ud800": "x"}}',
        b'{"host": "\\ud800"}',
    ):
        with pytest.raises(Unreadable):
            read(value)
    assert read(b'{"text": "\\ud83d\\ude00"}').text == "\U0001f600"


def test_text_and_meta_must_fit_into_one_record() -> None:
    assert len(of(text="x" * 65279).text) == 65279
    with pytest.raises(Unreadable, match="text"):
        of(text="x" * 65280)
    with pytest.raises(Unreadable, match="text"):
        of(text="ä" * 33000)
    fitting = {f"{n:03}": "x" * 251 for n in range(255)}
    assert len(of(meta=fitting).meta) == 255
    with pytest.raises(Unreadable, match="meta"):
        of(meta=fitting | {"more": "x" * 251})


def test_meta_strings() -> None:
    assert meta_string("a", "b=c") == b"a=b=c"
    assert len(meta_string("a", "x" * 253)) == 255
    assert of(meta={"a": "x" * 253, "b": ""}).meta["b"] == ""


def test_the_reason_says_what_is_wrong() -> None:
    with pytest.raises(Unreadable, match=r"port 70000 is not in 0\.\.65535"):
        of(port=70000)


# ---------------------------------------------------------------- writing

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
SERVICES = st.builds(
    Service,
    host=st.sampled_from(["", "10.0.0.1", "2001:db8::1", "web.d.test"]),
    port=st.integers(0, 65535),
    priority=st.integers(0, 65535),
    weight=st.integers(0, MAX),
    text=TEXT,
    mail=st.booleans(),
    ttl=st.integers(0, MAX),
    targetstrip=st.integers(-5, 5),
    group=TEXT,
    ports=st.dictionaries(st.sampled_from(["a", "b/udp", "c"]), st.integers(0, 65535)).map(MappingProxyType),
    tags=st.lists(st.sampled_from(["a", "b", "ä"]), unique=True).map(tuple),
    meta=st.dictionaries(TEXT.filter(lambda key: key != "" and "=" not in key), TEXT).map(MappingProxyType),
    lease_ttl=st.integers(0, MAX),
    own_lease=st.booleans(),
)


@settings(max_examples=50)
@given(SERVICES)
def test_what_is_written_is_read_back(service: Service) -> None:
    assert read(write(service)) == service


def test_defaults_are_left_out_and_skydns_fields_come_first() -> None:
    assert write(Service()) == b"{}"
    assert write(Service(tags=("a",), host="x", mail=True)) == b'{"host":"x","mail":true,"tags":["a"]}'


def test_addresses_are_what_the_standard_library_takes_for_them(rng: random.Random) -> None:
    texts = [
        "1.2.3.4",
        "255.255.255.255",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.4\n",
        "1.2.3",
        "::1",
        "::ffff:1.2.3.4",
        "1::",
    ]
    for _ in range(2000):
        text = list(rng.choice(texts))
        for _ in range(rng.randrange(3)):
            text[rng.randrange(len(text))] = rng.choice(
                ("", "0", "5", "9", ".", ":", "f", " ", "%", "\u0661")
            )
        host = "".join(text) or "x"
        expected: bytes | None = None
        if "%" not in host:
            with suppress(ValueError):
                address = ipaddress.ip_address(host)
                expected = (getattr(address, "ipv4_mapped", None) or address).packed
        assert address_of(host) == expected, host

"""Names, labels and keys: the one mapping between them."""

from __future__ import annotations

import ipaddress

import dns.name
import dns.reversename
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery import names
from discovery.errors import InvalidField

ZONES = (
    names.from_text("discovery.internal"),
    names.from_text("b.discovery.internal"),
    names.from_text("x.test"),
)
LABEL = st.binary(min_size=1, max_size=63)
PATH = st.lists(LABEL, max_size=6).map(tuple).filter(lambda path: names.wire_length(path) <= 255)


def test_a_name_reversed_under_the_prefix_is_the_key() -> None:
    path = names.from_text("1.rails.production.east.skydns.local.")
    assert names.key_of(path, "/skydns") == b"/skydns/local/skydns/east/production/rails/1"
    assert names.path_of(b"/skydns/local/skydns/east/production/rails/1", "/skydns") == path
    assert names.path_of(b"/skydns/Local/ONE", "/skydns") == (b"local", b"one")


@pytest.mark.parametrize(
    "key",
    [
        b"/skydns",
        b"/skydns/",
        b"/skydnsx/a",
        b"/other/a",
        b"/skydns//a",
        b"/skydns/a/",
        b"/skydns/a//b",
        b"/skydns/" + b"x" * 64,
        b"/skydns/" + b"/".join([b"x" * 63] * 4),
    ],
)
def test_a_key_with_an_empty_or_over_long_part_is_no_name(key: bytes) -> None:
    assert names.path_of(key, "/skydns") is None


@settings(max_examples=50)
@given(PATH)
def test_keys_are_read_as_they_are_written(path: names.Path) -> None:
    folded = tuple(label.lower() for label in path)
    key = names.key_of(path, "/p")
    plain = path and not any(b"/" in label for label in path)
    assert names.path_of(key, "/p") == folded if plain else True


@settings(max_examples=50)
@given(PATH)
def test_text_is_what_another_implementation_reads_as_the_same_name(path: names.Path) -> None:
    assert dns.name.from_text(names.to_text(path)) == dns.name.Name([*reversed(path), b""])


def test_255_bytes_are_a_name_and_256_are_not() -> None:
    longest = (b"x" * 63,) * 3 + (b"x" * 61,)
    assert names.wire_length(longest) == 255
    assert names.is_name(longest)
    assert not names.is_name((b"x" * 63,) * 3 + (b"x" * 62,))
    assert not names.is_name((b"x" * 64,))
    assert not names.is_name((b"a", b""))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".", ()),
        ("A.b", (b"b", b"a")),
        ("a.B.", (b"b", b"a")),
        ("ä.Ä", ("Ä".encode(), "ä".encode())),
        ("\u212a", ("\u212a".encode(),)),
    ],
)
def test_plain_names_fold_only_ascii(text: str, path: names.Path) -> None:
    assert names.from_text(text) == path


@pytest.mark.parametrize(
    "text", ["", "..", "a..", ".a", "a..b", "x" * 64, ".".join(["x" * 63] * 4), "\ud800"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        names.from_text(text)


@pytest.mark.parametrize("host", ["a", "a.b.", "A-_9.x1", "*.web.d", "-a", "1.2.3.4x", "x.*", "a.b.c-"])
def test_hosts_that_are_names(host: str) -> None:
    assert names.host_path(host) == names.from_text(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a b",
        "a\nb",
        "a\n",
        "a/b",
        "ä",
        "\u212a.com",
        "x.*a",
        "1.2.3.999",
        "a.9",
        "a.9.",
        "a:1",
        "[::1]",
    ],
)
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ValueError):
        names.host_path(host)


@settings(max_examples=50)
@given(st.ip_addresses())
def test_reverse_names(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    expected = dns.reversename.from_address(str(address))
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    if not mapped:
        assert names.to_text(names.reverse_path(address.packed)) == expected.to_text()


def test_key_order_is_a_key_before_those_below_it_else_label_by_label() -> None:
    keys = [b"/p/a", b"/p/a/b", b"/p/a/b/c", b"/p/a-b", b"/p/B"]
    paths = {key: names.path_of(key, "/p") or () for key in keys}
    shuffled = [keys[at] for at in (3, 0, 4, 2, 1)]
    assert sorted(shuffled, key=lambda key: names.key_order(key, paths[key])) == keys


# ---------------------------------------------------------------- names in the HTTP API


@pytest.mark.parametrize("label", ["a", "1", "_x", "a-b", "x" * 63, "A_9"])
def test_labels(label: str) -> None:
    assert names.check_label(label, "f") == label.lower().encode()


@pytest.mark.parametrize(
    "label", ["", "-a", "a-", "a.b", "a b", "x" * 64, "*", "any", "TAG", "ä", "a\n", "a/b", "\u212a"]
)
def test_labels_that_are_none_name_the_field(label: str) -> None:
    with pytest.raises(InvalidField) as caught:
        names.check_label(label, "instance")
    assert caught.value.field == "instance"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("@", "discovery.internal."),
        ("web.prod", "web.prod.discovery.internal."),
        ("Web", "web.discovery.internal."),
        ("web.x.test.", "web.x.test."),
        ("x.test.", "x.test."),
        ("web.b.discovery.internal.", "web.b.discovery.internal."),
    ],
)
def test_service_names(text: str, path: str) -> None:
    assert names.service_path(text, ZONES) == names.from_text(path)


@pytest.mark.parametrize(
    "text", ["", ".", "web.other.", "a..b", "*.prod", "web.*.x.test.", "internal.", "ä.x.test."]
)
def test_service_names_that_are_none(text: str) -> None:
    with pytest.raises(InvalidField):
        names.service_path(text, ZONES)


@settings(max_examples=50)
@given(st.lists(st.from_regex(r"[a-z0-9_]{1,5}", fullmatch=True), max_size=4), st.sampled_from(ZONES))
def test_the_shortest_text_reads_back(labels: list[str], apex: names.Path) -> None:
    path = apex + tuple(label.encode() for label in labels if label not in names.RESERVED_LABELS)
    assert names.service_path(names.service_text(path, ZONES), ZONES) == path


def test_a_text_too_long_for_a_name_is_not_kept() -> None:
    """A caller may send megabytes of them."""
    kept = names._service_path.cache_info().currsize
    assert len(names.service_path("a." * 200 + "a", ZONES)) == len(ZONES[0]) + 201
    assert names._service_path.cache_info().currsize == kept

"""Addresses of members: what is a whole URL, and which of them mean another program elsewhere."""

from __future__ import annotations

import pytest

from discovery.kv.etcd_urls import address_of, check_urls, is_local, is_whole


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://10.0.0.1:2379", "10.0.0.1:2379"),
        ("http://10.0.0.1", "10.0.0.1:2379"),
        ("https://etcd.example:4001/", "etcd.example:4001"),
        ("http://[2001:db8::1]:2379", "[2001:db8::1]:2379"),
        ("http://[::1]", "[::1]:2379"),
    ],
)
def test_a_whole_url_is_an_address(url: str, address: str) -> None:
    assert is_whole(url)
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.1:2379",
        "unix:///run/etcd.sock",
        "http://",
        "http://:2379",
        "http://10.0.0.1:port",
        "http://10.0.0.1:0",
        "http://10.0.0.1:70000",
        "http://[::1",
        "http://10.0.0.1:2379/v3",
        "http://10.0.0.1:2379?a=b",
        "http://user@10.0.0.1:2379",
    ],
)
def test_what_is_no_whole_url_is_refused_with_what_was_expected(url: str) -> None:
    assert not is_whole(url)
    with pytest.raises(ValueError, match=r"expected URLs such as http://10\.0\.0\.1:2379"):
        check_urls(["http://10.0.0.1:2379", url])


def test_a_list_is_all_http_or_all_https() -> None:
    check_urls(["https://a:1", "https://b:1"])
    with pytest.raises(ValueError, match="one form"):
        check_urls(["https://a:1", "http://b:1"])


def test_loopback_and_wildcard_addresses_are_local() -> None:
    for url in (
        "http://127.0.0.1:1",
        "http://127.8.9.1:1",
        "http://localhost:1",
        "http://[::1]:1",
        "http://0.0.0.0:1",
    ):
        assert is_local(url), url
    for url in ("http://10.0.0.1:1", "http://[2001:db8::1]:1", "http://etcd.example:1"):
        assert not is_local(url), url

"""DNS cookies: RFC 9018's own vectors, what is accepted for how long, and how secrets follow each other."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest

from discovery.dns.cookies import FUTURE, LIFE, PAST, SECRET, STAGED, Cookies, Secret, renewed

KEY = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")

ONE, TWO = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


class Wall:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def cookies(now: float, *secrets: Secret) -> tuple[Cookies, Wall]:
    wall = Wall(now)
    made = Cookies(wall)
    made.use(secrets or (Secret(KEY, 0),))
    return made, wall


@pytest.mark.parametrize(
    ("key", "client", "now", "client_cookie", "server_cookie"),
    [
        (KEY.hex(), "198.51.100.100", 1559731985, "2464c4abcf10c957", "010000005cf79f111f8130c3eee29480"),
        (KEY.hex(), "198.51.100.100", 1559734385, "2464c4abcf10c957", "010000005cf7a871d4a564a1442aca77"),
        (KEY.hex(), "203.0.113.203", 1559734700, "fc93fc62807ddb86", "010000005cf7a9acf73a7810aca2381e"),
        (
            "445536bcd2513298075a5d379663c962",
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            1559741961,
            "22681ab97d52c298",
            "010000005cf7c609a6bb79d16625507a",
        ),
    ],
)
def test_the_vectors_of_rfc_9018_appendix_a(
    key: str, client: str, now: int, client_cookie: str, server_cookie: str
) -> None:
    made, _ = cookies(now, Secret(bytes.fromhex(key), 0))
    option = made.option(bytes.fromhex(client_cookie), ip_address(client).packed)
    assert option.hex() == "000a0018" + client_cookie + server_cookie
    assert made.is_valid(option[4:], ip_address(client).packed)


def test_reserved_bits_of_a_cookie_are_hashed_as_they_came() -> None:
    """RFC 9018 appendix A.3: another implementation's, not zero, and 4715 seconds old there; here it is in time."""
    made, wall = cookies(1559727985 + PAST)
    cookie = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    assert made.is_valid(cookie, bytes((203, 0, 113, 203)))
    wall.now += 1
    assert not made.is_valid(cookie, bytes((203, 0, 113, 203)))


def test_a_cookie_of_a_secret_that_was_replaced_is_accepted() -> None:
    """RFC 9018 appendix A.4."""
    old, new = (
        bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715"),
        bytes.fromhex("445536bcd2513298075a5d379663c962"),
    )
    client = ip_address("2001:db8:220:1:59de:d0f4:8769:82b8").packed
    cookie = "22681ab97d52c298010000005cf7c57926556bd0934c72f8"
    made, _ = cookies(1559741961, Secret(old, 0), Secret(new, 1559741900))
    assert made.is_valid(bytes.fromhex(cookie), client)
    assert made.option(bytes.fromhex(cookie)[:8], client).hex().endswith("010000005cf7c609a6bb79d16625507a")
    made.use([Secret(new, 1559741900)])
    assert not made.is_valid(bytes.fromhex(cookie), client)


def test_what_is_not_ours_is_not_valid() -> None:
    made, wall = cookies(10_000)
    cookie = made.option(b"12345678", ONE)[4:]
    assert made.is_valid(cookie, ONE)
    assert made.is_valid(cookie, ip_address("::ffff:192.0.2.1").packed)
    assert not made.is_valid(cookie, TWO)
    assert not made.is_valid(cookie, b"")
    for bad in (
        cookie[:8],
        cookie[:-1],
        cookie + b"x",
        cookie[:8] + b"\2" + cookie[9:],
        b"87654321" + cookie[8:],
    ):
        assert not made.is_valid(bad, ONE)
    for bit in range(8 * 8, 24 * 8):
        changed = int.from_bytes(cookie, "big") ^ 1 << (24 * 8 - 1 - bit)
        assert not made.is_valid(changed.to_bytes(24, "big"), ONE), bit
    wall.now -= FUTURE
    assert made.is_valid(cookie, ONE)
    wall.now -= 1
    assert not made.is_valid(cookie, ONE)


def test_time_wraps_as_serial_numbers_do() -> None:
    made, wall = cookies((1 << 32) - 10)
    cookie = made.option(b"12345678", ONE)[4:]
    wall.now += 100
    assert made.is_valid(cookie, ONE)
    assert made.option(b"12345678", ONE)[16:20] == (90).to_bytes(4, "big")


def test_without_a_secret_or_an_address_none_is_made() -> None:
    made, _ = cookies(0)
    assert made.option(b"12345678", b"") == b""
    made.use([])
    assert made.option(b"12345678", ONE) == b""


def test_a_secret_is_used_from_its_time_on() -> None:
    made, wall = cookies(1000, Secret(b"a" * 16, 500), Secret(b"b" * 16, 1200))
    alone = [Cookies(wall), Cookies(wall)]
    alone[0].use([Secret(b"a" * 16, 0)])
    alone[1].use([Secret(b"b" * 16, 0)])
    for now, used in ((1000, 0), (1199.9, 0), (1200, 1), (5000, 1)):
        wall.now = now
        option = made.option(b"12345678", ONE)
        assert option == alone[used].option(b"12345678", ONE)


def test_secrets_follow_each_other_so_that_no_node_meets_one_that_it_does_not_know(
    rng: random.Random,
) -> None:
    """Two nodes that read at times of their own: what one makes, the other accepts."""
    kept: tuple[Secret, ...] = ()
    held: list[tuple[Secret, ...]] = [(), ()]
    read_at = [0, 0]
    seen = set()
    wall = Wall(0)
    nodes = [Cookies(wall), Cookies(wall)]
    for now in range(1_000_000, 1_000_000 + 5 * LIFE, 50):
        for node in (0, 1):
            if now >= read_at[node]:
                kept = renewed(kept, now, rng.randbytes)
                held[node] = kept
                nodes[node].use(kept)
                read_at[node] = now + rng.randint(50, STAGED - 50)
        wall.now = now
        cookie = nodes[0].option(b"12345678", ONE)[4:]
        assert nodes[1].is_valid(cookie, ONE)
        assert len(kept) <= 3
        seen |= {secret.key for secret in kept}
    assert 5 <= len(seen) <= 6


def test_an_old_secret_is_kept_for_as_long_as_its_cookies_are_good() -> None:
    old, new = Secret(b"a" * SECRET, 0), Secret(b"b" * SECRET, 1000)
    assert renewed([old, new], 1000 + PAST + FUTURE - 1, bytes) == (old, new)
    assert renewed([old, new], 1000 + PAST + FUTURE, bytes) == (new,)

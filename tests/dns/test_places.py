"""How places are shared out."""

from __future__ import annotations

from discovery.dns.places import Places


def test_a_network_has_as_many_places_as_it_leaves_to_others() -> None:
    places = Places()
    got = [sum(places.take(network, 16) for _ in range(20)) for network in (b"a", b"b", b"c", b"d")]
    assert got == [8, 4, 2, 1]
    for _ in range(8):
        places.leave(b"a")
    assert sum(places.take(b"e", 16) for _ in range(20)) == 5
    assert not places.take(b"b", 16)

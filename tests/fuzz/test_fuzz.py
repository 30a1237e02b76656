"""A minute of the fuzzer in all, with a seed that is printed; `make fuzz` runs it for as long as wanted."""

from __future__ import annotations

import pytest

from tests.conftest import SEED
from tests.fuzz.fuzz_dns import Fuzz, wrong
from tests.support.dns import query

SECONDS = {"packets": 30, "udp": 15, "tcp": 15}


@pytest.mark.slow
@pytest.mark.parametrize("what", SECONDS)
def test_nothing_is_found(what: str) -> None:
    fuzz = Fuzz(SEED)
    fuzz.run(what, SECONDS[what])
    assert fuzz.tried > 1000


def test_the_fuzzer_would_see_it() -> None:
    """Answers that break a rule are told from those that don't."""
    packet = query("web.prod", "A").to_wire()
    fuzz = Fuzz(SEED)
    answer = fuzz.expected(packet, udp=True)
    assert answer is not None
    assert wrong(packet, answer, 1232) == ""
    assert "without an answer" in wrong(packet, None, 1232)
    assert "no query" in wrong(answer, answer, 1232)
    assert "header" in wrong(packet, b"\0\0" + answer[2:], 1232)
    assert "well-formed" in wrong(packet, answer[:-1], 1232)
    assert "bytes" in wrong(packet, answer + bytes(1232), 1232)
    with_opt = fuzz.expected(query("web.prod", "A", edns=True).to_wire(), udp=True)
    assert "an OPT" in wrong(packet, with_opt, 1232)

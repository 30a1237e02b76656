"""Padding of answers on encrypted connections, so that their size tells little (RFC 7830, RFC 8467).

Owns lengthening an answer's OPT to whole blocks when the query had the Padding option. Pure; it never pads an answer
that is not encrypted, for it is only called for those that are.
"""

from __future__ import annotations

from discovery.dns import wire
from discovery.dns.answer import MAX_MESSAGE

BLOCK = 468  # bytes, for answers (RFC 8467 section 4.1)
OPTION_HEADER = 4


def padded(packet: bytes, answer: bytes) -> bytes:
    """The answer to that query, padded where it asks for it, there is an OPT and the message does not get too long."""
    query = wire.parse(packet)
    if query is None or query.rcode == wire.FORMERR or query.edns is None:
        return answer
    if wire.OPTION_PADDING not in wire.option_codes(query.edns.options):
        return answer
    at = _opt(answer)
    if at is None:
        return answer
    missing = -(len(answer) + OPTION_HEADER) % BLOCK
    if len(answer) + OPTION_HEADER + missing > MAX_MESSAGE:
        return answer
    length = int.from_bytes(answer[at + 9 : at + 11], "big")
    end = at + 11 + length
    option = wire.encode_option(wire.OPTION_PADDING, bytes(missing))
    return b"".join(
        (
            answer[: at + 9],
            (length + len(option)).to_bytes(2, "big"),
            answer[at + 11 : end],
            option,
            answer[end:],
        )
    )


def _opt(answer: bytes) -> int | None:
    """Where the OPT of an answer of ours begins."""
    counts = [int.from_bytes(answer[at : at + 2], "big") for at in (4, 6, 8, 10)]
    at = wire.HEADER_SIZE
    for _ in range(counts[0]):
        at = wire.skip_name(answer, at) + 4
    for _ in range(sum(counts[1:])):
        start = at
        at = wire.skip_name(answer, at)
        if answer[at : at + 2] == b"\0\x29":
            return start
        at += 10 + int.from_bytes(answer[at + 8 : at + 10], "big")
    return None

"""A line for every question, when `log.queries` is on.

Owns what such a line says. Listeners look once a wake-up whether it is on, so it costs nothing while it is off.
"""

from __future__ import annotations

import logging

from discovery.dns import text, wire

log = logging.getLogger("discovery.queries")


def is_on() -> bool:
    return log.isEnabledFor(logging.INFO)


def write(packet: bytes, answer: bytes | None, transport: str, client: str) -> None:
    """Who asked what over what, and the response code (`none`: no answer)."""
    query = wire.parse(packet)
    fields: dict[str, object] = {"client": client, "transport": transport}
    if query is not None:
        fields["qname"] = text.name(wire.path_of(query.name))
        fields["qtype"] = text.type_name(query.qtype)
    fields["rcode"] = answer[3] & 15 if answer is not None else "none"
    log.info("query", extra=fields)

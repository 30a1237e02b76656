"""resolv.conf(5) as the doctor reads it, and what it makes of resolvers' replies."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.cli.doctor_dns import ResolvConf, delegation, read_resolv_conf, resolver_address, set_up

ZONE = "discovery.internal."
SOA = "ns1.dns.discovery.internal. hostmaster.discovery.internal. 7 3600 600 86400 60"


def reply(status: str = "NOERROR", soa: str = "", owner: str = "Discovery.Internal.") -> dict[str, Any]:
    answer = [{"name": owner, "type": "SOA", "data": soa}] if soa else []
    return {"status": status, "answer": answer}


def test_resolv_conf_is_read_as_the_c_library_does() -> None:
    text = """\
# by hand
search a.example
nameserver 10.0.0.1 ; the first
nameserver fe80::1%eth0
search b.example c.example
options timeout:2 rotate
nameserver
"""
    assert read_resolv_conf(text) == ResolvConf(("10.0.0.1", "fe80::1%eth0"), ("b.example", "c.example"), 2)


@pytest.mark.parametrize(
    ("answered", "chosen", "verdict", "part"),
    [
        (reply(soa=SOA), True, "ok", "leads to"),
        (None, True, "wrong", "does not answer"),
        (None, False, "warning", "does not answer"),
        (reply("NXDOMAIN"), False, "warning", "does not know discovery.internal. (NXDOMAIN)"),
        (reply("NXDOMAIN"), True, "wrong", "does not know"),
        (reply("REFUSED"), True, "wrong", "(REFUSED)"),
        (reply("SERVFAIL"), True, "wrong", "fails at"),
        (reply(), True, "wrong", "does not know"),
        (reply(soa=SOA, owner="internal."), True, "wrong", "does not know"),
        (
            reply(soa="ns.elsewhere. x. 1 1 1 1 1"),
            True,
            "wrong",
            "finds discovery.internal. at ns.elsewhere.",
        ),
    ],
)
def test_a_resolver_leads_to_the_zone_or_not(answered: Any, chosen: bool, verdict: str, part: str) -> None:
    found = delegation(ZONE, "10.0.0.1", answered, reply(soa=SOA), chosen=chosen)
    assert found.verdict == verdict
    assert part in found.said
    assert bool(found.do) == (verdict != "ok")


def test_without_the_nodes_own_word_any_soa_will_do() -> None:
    assert delegation(ZONE, "10.0.0.1", reply(soa="ns.elsewhere. x."), None, chosen=True).verdict == "ok"


@pytest.mark.parametrize(
    ("conf", "answering", "forwards", "verdicts"),
    [
        (ResolvConf(), {}, False, ["warning"]),
        (ResolvConf(("10.0.0.1",)), {"10.0.0.1": True}, False, ["ok"]),
        (ResolvConf(("10.0.0.1", "10.0.0.2")), {"10.0.0.1": False, "10.0.0.2": True}, False, ["warning"]),
        (ResolvConf(("10.0.0.1", "10.0.0.2"), timeout=1), {"10.0.0.1": False}, False, []),
        (ResolvConf(("10.0.0.9",)), {}, False, ["warning"]),
        (ResolvConf(("10.0.0.9",)), {}, True, []),
        (ResolvConf(("10.0.0.1",) * 4), {}, False, ["warning", "ok"]),
    ],
)
def test_the_set_up_of_this_machine(
    conf: ResolvConf, answering: dict[str, bool], forwards: bool, verdicts: list[str]
) -> None:
    assert [each.verdict for each in set_up(conf, answering, ["10.0.0.9"], forwards)] == verdicts


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", ("10.0.0.1", 53)),
        ("10.0.0.1:5353", ("10.0.0.1", 5353)),
        ("fe80::1", ("fe80::1", 53)),
        ("[fe80::1]:5353", ("fe80::1", 5353)),
    ],
)
def test_where_a_resolver_is(text: str, address: tuple[str, int]) -> None:
    assert resolver_address(text) == address

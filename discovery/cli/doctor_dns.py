"""What `discovery doctor` asks over DNS: the node, and whether the resolvers lead to its zones.

Owns the questions, the reading of resolv.conf(5), and the verdicts over both. Resolvers are asked the way an
application's are, with recursion desired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from discovery.cli.findings import Finding, Verdict
from discovery.cli.lookup import ask
from discovery.config import Config, parse_address
from discovery.errors import DiscoveryError

RESOLV_CONF = Path("/etc/resolv.conf")
TIMEOUT = 3.0  # seconds a try
MAX_NAMESERVERS = 3  # that the C library looks at
PATIENCE = 5  # seconds a try, the C library's default

Reply = Mapping[str, Any]  # what `lookup --json` prints


class ResolvConf(msgspec.Struct, frozen=True):
    """`timeout`: seconds a try."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    timeout: int = PATIENCE


def read_resolv_conf(text: str) -> ResolvConf:
    """The last `search` or `domain` counts, as in the C library."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    timeout = PATIENCE
    for line in text.splitlines():
        match line.split("#")[0].split(";")[0].split():
            case ["nameserver", address, *_]:
                nameservers.append(address)
            case ["search" | "domain", *names]:
                search = tuple(names)
            case ["options", *options]:
                for option in options:
                    name, _, number = option.partition(":")
                    if name == "timeout" and number.isdigit():
                        timeout = int(number)
    return ResolvConf(tuple(nameservers), search, timeout)


def set_up(
    conf: ResolvConf, answering: Mapping[str, bool], node: Sequence[str], forwards: bool
) -> Iterator[Finding]:
    """The resolvers of this machine, of which some answered. `node`: this node's DNS addresses at port 53;
    `forwards`: it asks other servers for names that are not its own."""
    if not conf.nameservers:
        do = "name a resolver in /etc/resolv.conf"
        yield Finding("resolver", "warning", "/etc/resolv.conf names no server: 127.0.0.1 is asked", do)
        return
    if len(conf.nameservers) > MAX_NAMESERVERS:
        said = (
            f"/etc/resolv.conf names {len(conf.nameservers)} servers: only the first {MAX_NAMESERVERS} count"
        )
        yield Finding("resolver", "warning", said, "take some out")
    dead = [address for address in conf.nameservers[:-1] if answering.get(address) is False]
    if dead and conf.timeout > 1:
        said = f"{dead[0]}, before others in /etc/resolv.conf, does not answer: that costs {conf.timeout} s a lookup"
        yield Finding("resolver", "warning", said, "take it out, or set options timeout:1 attempts:2")
    own = [address for address in conf.nameservers if address in node]
    if own and not forwards:
        said = (
            f"this machine asks the node at {own[0]} for all names, and it refuses those that are not its own"
        )
        yield Finding("resolver", "warning", said, "set forward.upstreams and forward.allow")
    if not dead and not own:
        yield Finding("resolver", "ok", f"/etc/resolv.conf names {', '.join(conf.nameservers)}")


def delegation(zone: str, resolver: str, reply: Reply | None, own: Reply | None, *, chosen: bool) -> Finding:
    """Whether a resolver leads to the zone. `reply` None: it did not answer; `own`: the node's reply to the same
    question; `chosen`: it was named on the command line, so it has to."""
    bad: Verdict = "wrong" if chosen else "warning"
    if reply is None:
        return Finding(
            "delegation", bad, f"the resolver {resolver} does not answer", "correct its address, or start it"
        )
    found = next(
        (rr["data"] for rr in reply["answer"] if rr["type"] == "SOA" and _same(rr["name"], zone)), None
    )
    lead = f"make {resolver} forward {zone} to the nodes, or delegate it with NS records in the zone above"
    if found is None:
        if reply["status"] == "SERVFAIL":
            do = f"see whether it reaches the nodes' DNS, and let it not validate {zone} (DNSSEC)"
            return Finding("delegation", bad, f"the resolver {resolver} fails at {zone} (SERVFAIL)", do)
        return Finding(
            "delegation", bad, f"the resolver {resolver} does not know {zone} ({reply['status']})", lead
        )
    held = (
        next((rr["data"] for rr in own["answer"] if rr["type"] == "SOA"), None) if own is not None else None
    )
    if held is not None and not _same(held.split()[0], found.split()[0]):
        said = f"the resolver {resolver} finds {zone} at {found.split()[0]}, the node says {held.split()[0]}"
        return Finding("delegation", bad, said, lead)
    return Finding("delegation", "ok", f"the resolver {resolver} leads to {zone}")


def look(config: Config, resolvers: Sequence[str], *, runs: bool) -> Iterator[Finding]:
    """The node's DNS where it `runs`, then `resolvers` (HOST or HOST:PORT), else those of this machine."""
    zones = [zone.name for zone in config.zones]
    own: dict[str, Reply] = {}
    for text in config.dns.listen if runs else ():
        host, port = seen_from_here(text)
        for zone in zones if port else ():
            reply = _asked(zone, (host, port))
            if reply is None:
                do = "see its log, and firewalls on this machine"
                yield Finding("dns", "wrong", f"the node does not answer DNS at {host} port {port}", do)
                break
            if reply["status"] != "NOERROR" or "aa" not in reply["flags"]:
                said = f"{host} port {port} does not answer for {zone} ({reply['status']})"
                yield Finding(
                    "dns", "wrong", said, "see what listens there, and `zones` of the configuration"
                )
                continue
            own[zone] = reply
            yield Finding("dns", "ok", f"the node answers for {zone} at {host} port {port}")
    conf = ResolvConf()
    if not resolvers:
        try:
            conf = read_resolv_conf(RESOLV_CONF.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            yield Finding("resolver", "warning", f"{RESOLV_CONF} can't be read: {error.strerror}", "write it")
    answering: dict[str, bool] = {}
    for resolver in resolvers or conf.nameservers[:MAX_NAMESERVERS]:
        for zone in zones:
            reply = _asked(zone, resolver_address(resolver))
            answering[resolver] = reply is not None
            yield delegation(zone, resolver, reply, own.get(zone), chosen=bool(resolvers))
            if reply is None:
                break
    if not resolvers:
        at_53 = [host for host, port in map(parse_address, config.dns.listen) if port == 53]
        yield from set_up(conf, answering, at_53, bool(config.forward.upstreams))


def seen_from_here(text: str) -> tuple[str, int]:
    """Where an address that a node listens on is reached on its own machine."""
    host, port = parse_address(text)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 (not listened on)


def resolver_address(text: str) -> tuple[str, int]:
    """HOST, HOST:PORT or [HOST]:PORT; an IPv6 address may stand bare. Raises ValueError."""
    if text.startswith("[") or text.count(":") == 1:
        return parse_address(text)
    return text, 53


def _asked(zone: str, address: tuple[str, int]) -> Reply | None:
    try:
        return ask(zone, "SOA", address, TIMEOUT)
    except DiscoveryError:
        return None


def _same(one: str, other: str) -> bool:
    return one.rstrip(".").lower() == other.rstrip(".").lower()

"""discovery.reload: what changes while running and what needs a restart."""

from __future__ import annotations

from discovery.reload import restart_needed
from discovery.settings import Config, DnsConfig, LogConfig, ZoneConfig


def test_only_what_cannot_change_while_running_is_named() -> None:
    old = Config()
    new = Config(
        dns=DnsConfig(listen=("127.0.0.1:5300",)),
        zones=(ZoneConfig(name="other.test."),),
        log=LogConfig(level="debug"),
    )
    assert restart_needed(old, new) == ["zones", "dns.listen"]
    assert restart_needed(old, Config(log=LogConfig(level="error"))) == []

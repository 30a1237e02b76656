"""discovery.reload: what changes while running and what needs a restart."""

from __future__ import annotations

from operator import attrgetter

from discovery.reload import restart_needed, taken_over
from discovery.settings import (
    TABLE,
    Config,
    DnsConfig,
    HttpConfig,
    LogConfig,
    RrlConfig,
    TlsConfig,
    ZoneConfig,
)


def test_only_what_cannot_change_while_running_is_named() -> None:
    old = Config()
    new = Config(
        dns=DnsConfig(listen=("127.0.0.1:5300",)),
        zones=(ZoneConfig(name="other.test."),),
        log=LogConfig(level="debug"),
    )
    assert restart_needed(old, new) == ["zones", "dns.listen"]
    assert restart_needed(old, Config(log=LogConfig(level="error"))) == []


def test_what_runs_after_a_reload_needs_a_restart_for_the_rest() -> None:
    old = Config(stale_after=9, http=HttpConfig(tls=TlsConfig(cert="a")))
    new = Config(
        log=LogConfig(level="debug", format="json", queries=True),
        zones=(ZoneConfig(name="a.test."),),
        dns=DnsConfig(allow=("private",), deny=("loopback",), rrl=RrlConfig(answers=5), max_matched=5),
        http=HttpConfig(
            audit="a",
            tokens=("operate another",),
            tls=TlsConfig(cert="b", key="c", client_ca="d"),
            rate=5,
            max_connections=6,
            max_connections_per_client=7,
        ),
    )
    running = taken_over(old, new)
    assert (running.log, running.zones, running.stale_after) == (new.log, old.zones, 9)
    assert restart_needed(running, new) == restart_needed(old, new)
    for setting in TABLE.settings():
        wanted = new if "reload" in setting.marks else old
        assert attrgetter(setting.key)(running) == attrgetter(setting.key)(wanted), setting.key


def test_a_reload_never_takes_the_last_token() -> None:
    old, new = Config(http=HttpConfig(tokens=("operate one",))), Config()
    assert taken_over(old, new).http.tokens == ("operate one",)
    assert restart_needed(old, new) == ["http.tokens"]


def test_https_begins_and_ends_with_a_restart() -> None:
    plain, secure = Config(), Config(http=HttpConfig(tls=TlsConfig(cert="a", key="b")))
    assert taken_over(plain, secure).http.tls == plain.http.tls
    assert taken_over(secure, plain).http.tls == secure.http.tls
    assert restart_needed(plain, secure) == ["http.tls.cert", "http.tls.key"]

"""The lines a node greets with."""

from __future__ import annotations

import msgspec

from discovery.announcement import lines
from discovery.settings import Config, StoreConfig
from discovery.view import View

V4, V6 = ("127.0.0.1", 53), ("::1", 8053)


def said(config: Config, *, ready: bool, lost: bool = False) -> list[str]:
    view = View("/skydns", apexes=[], grace_of=lambda path: 0.0)
    if ready:
        view.restore([], 7, 0.0)
    return list(lines(config, view, lost=lost, dns=[V4], tls=[V6], http=[V6], scheme="https"))


def test_where_it_listens_what_it_has_and_what_to_try() -> None:
    assert said(Config(), ready=True) == [
        "DNS   127.0.0.1:53 (UDP, TCP)",
        "TLS   [::1]:8053 (DNS over TLS)",
        "HTTP  https://[::1]:8053",
        f"Store {Config().store.path} (0 records at revision 7)",
        "",
        "Try, in another shell:",
        '  curl -X PUT https://[::1]:8053/v1/services/web.prod/i1 -d \'{"host": "10.0.0.1", "port": 80}\'',
        "  dig @127.0.0.1 -p 53 web.prod.discovery.internal. SRV",
        "",
        "Ready; ^C stops.",
    ]


def test_a_store_that_is_away() -> None:
    config = msgspec.structs.replace(Config(), store=StoreConfig(engine="etcd"))
    kept, nothing = said(config, ready=True, lost=True), said(config, ready=False, lost=True)
    assert kept[3] == (
        "Store http://127.0.0.1:2379 (out of reach; the last view answers: 0 records at revision 7)"
    )
    assert nothing[3] == "Store http://127.0.0.1:2379 (out of reach)"
    assert nothing[-1].startswith("Started; DNS answers SERVFAIL (Not Ready)")

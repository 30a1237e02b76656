"""What a node says on the terminal when it runs: where it listens, what its store has, and what to try.

Owns these lines, on which scripts and tests go as well: the last begins with `Ready` or `Started`. It prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from discovery.settings import Config
from discovery.view import View

Address = tuple[str, int]


def lines(
    config: Config,
    view: View,
    *,
    lost: bool,
    dns: Sequence[Address],
    tls: Sequence[Address],
    http: Sequence[Address],
    scheme: str,
) -> Iterator[str]:
    """`lost`: the store is out of reach."""
    for address in dns:
        yield f"DNS   {address_text(address)} (UDP, TCP)"
    for address in tls:
        yield f"TLS   {address_text(address)} (DNS over TLS)"
    for address in http:
        yield f"HTTP  {scheme}://{address_text(address)}"
    store = config.store
    elsewhere = {"etcd": ", ".join(store.etcd.endpoints), "managed-etcd": store.member.client}
    where = elsewhere.get(store.engine, store.path)
    state = f"{view.root.count} records at revision {view.revision}"
    if lost:
        state = f"out of reach; the last view answers: {state}" if view.ready else "out of reach"
    yield f"Store {where} ({state})"
    yield ""
    yield "Try, in another shell:"
    url = f"{scheme}://{address_text(http[0])}/v1/services/web.prod/i1"
    yield f'  curl -X PUT {url} -d \'{{"host": "10.0.0.1", "port": 80}}\''
    host, port = dns[0]
    yield f"  dig @{host} -p {port} web.prod.{config.zones[0].name} SRV"
    yield ""
    if view.ready:
        yield "Ready; ^C stops."
    else:
        yield "Started; DNS answers SERVFAIL (Not Ready) until the store can be read. ^C stops."


def address_text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""What a reload can take over, and what needs a restart.

Owns the comparison of two configurations by the table's `reload` marks, and what runs after a reload.
"""

from __future__ import annotations

from operator import attrgetter

import msgspec

from discovery.settings import TABLE, Config


def restart_needed(old: Config, new: Config) -> list[str]:
    """The dotted keys that differ and cannot change while running, in the table's order."""
    return [
        setting.key
        for setting in TABLE.settings()
        if ("reload" not in setting.marks or _opens(setting.key, old, new) or _turns(setting.key, old, new))
        and attrgetter(setting.key)(old) != attrgetter(setting.key)(new)
    ]


def _opens(key: str, old: Config, new: Config) -> bool:
    """The last token goes only with a restart: what the node listens on still may be beyond loopback."""
    return key == "http.tokens" and bool(old.http.tokens) and not new.http.tokens


def _turns(key: str, old: Config, new: Config) -> bool:
    """HTTPS begins and ends with a restart only; its certificates may change."""
    return key.startswith("http.tls.") and bool(old.http.tls.cert) != bool(new.http.tls.cert)


def taken_over(old: Config, new: Config) -> Config:
    """`old` with what may change while running from `new`."""
    told = new.dns
    dns = msgspec.structs.replace(old.dns, tls=told.tls, allow=told.allow, deny=told.deny, rrl=told.rrl)
    tls = new.http.tls if new.http.tls.cert and old.http.tls.cert else old.http.tls
    http = msgspec.structs.replace(
        old.http,
        tokens=new.http.tokens or old.http.tokens,
        tls=tls,
        audit=new.http.audit,
        rate=new.http.rate,
        max_connections=new.http.max_connections,
        max_connections_per_client=new.http.max_connections_per_client,
    )
    return msgspec.structs.replace(old, log=new.log, dns=dns, http=http)

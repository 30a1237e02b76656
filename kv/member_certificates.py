"""The certificates that a managed member is configured with: checked before it starts, watched while it runs.

Owns what of them keeps a member from working, as one line each, and when their end is spoken of. It changes no file:
`discovery cluster certs` makes them. etcd reads them anew for every connection.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from discovery.errors import ConfigError
from discovery.kv import certificates
from discovery.kv.certificate_files import DUE, days_left, read_chain, read_key
from discovery.kv.certificates import Certificate
from discovery.kv.member_plan import MemberSettings, refuse

log = logging.getLogger(__name__)

LOOK_EVERY = 60.0  # seconds
TELL_EVERY = 86400.0  # seconds between two lines about a certificate that ends soon
MAKE = "`discovery cluster certs`"


def check_certificates(settings: MemberSettings, now: datetime.datetime) -> Mapping[str, datetime.datetime]:
    """When they end, by setting; nothing without TLS. Raises ConfigError. Blocks."""
    if not settings.cert:
        return {}
    authorities, chain = _read(settings.ca, "ca"), _read(settings.cert, "cert")
    try:
        key = read_key(Path(settings.key))
    except OSError as error:
        refuse("key", f"{settings.key} can't be read: {error.strerror}")
    except ValueError:
        refuse("key", f"{settings.key} is no private key in PEM without a password: {MAKE} makes one")
    own = chain[0]
    if not certificates.fits(own, key):
        refuse("key", f"{settings.key} is not the key of {settings.cert}: copy both of one node")
    for name, file, each in (("cert", settings.cert, own), ("ca", settings.ca, authorities[0])):
        if each.not_valid_after_utc <= now:
            refuse(name, f"{file} ended on {each.not_valid_after_utc:%Y-%m-%d}: renew it with {MAKE}")
        if each.not_valid_before_utc > now:
            refuse(
                name,
                f"{file} is good only from {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and it is "
                f"{now:%Y-%m-%d %H:%M} here: set this machine's clock, or renew it",
            )
    if not certificates.is_issued_by(chain, authorities):
        refuse("cert", f"{settings.cert} was not issued by {settings.ca}: copy both of one folder of {MAKE}")
    if certificates.lacks_use(own):
        refuse("cert", f"{settings.cert} is not for servers and clients both: make it with {MAKE}")
    hosts = certificates.hosts_in(own)
    for url in (settings.client, settings.peer):
        host = certificates.host_of(urllib.parse.urlsplit(url).hostname or "")
        if host not in hosts:
            refuse(
                "cert",
                f"{settings.cert} is for {', '.join(hosts) or 'nobody'}, not for {host}: "
                f"make it with {MAKE} DIR --node {settings.name}={host}",
            )
    return {
        "store.member.ca": authorities[0].not_valid_after_utc,
        "store.member.cert": own.not_valid_after_utc,
    }


def _read(file: str, name: str) -> Sequence[Certificate]:
    try:
        return read_chain(Path(file))
    except OSError as error:
        refuse(name, f"{file} can't be read: {error.strerror}")
    except ValueError:
        refuse(name, f"{file} is no certificate in PEM: {MAKE} makes one")


class CertificateWatch:
    """Looks every LOOK_EVERY whether the files still do, until cancelled. `ends` is what was seen last."""

    def __init__(self, settings: MemberSettings, ends: Mapping[str, datetime.datetime]) -> None:
        self._settings = settings
        self._told: dict[str, datetime.datetime] = {}
        self.ends = ends

    async def run(self) -> None:
        while True:
            await asyncio.to_thread(self.look, datetime.datetime.now(datetime.UTC))
            await asyncio.sleep(LOOK_EVERY)

    def look(self, now: datetime.datetime) -> None:
        """Reads the files, and says at most once a day what is wrong with each or ends soon. Blocks."""
        try:
            ends = check_certificates(self._settings, now)
        except ConfigError as error:
            self._tell(error.field or "", now, f"{error.detail}; new connections between members fail")
            return
        if ends != self.ends:
            self.ends = ends
            self._told.clear()
            log.info("the certificate was renewed", extra={"ends": f"{ends['store.member.cert']:%Y-%m-%d}"})
        for setting, end in ends.items():
            if end <= now + DUE:
                left = days_left(end, now)
                self._tell(
                    setting, now, f"{setting} ends in {left} days ({end:%Y-%m-%d}): renew it with {MAKE}"
                )

    def _tell(self, about: str, now: datetime.datetime, line: str) -> None:
        before = self._told.get(about)
        if before is None or (now - before).total_seconds() >= TELL_EVERY:
            self._told[about] = now
            log.warning("%s", line)
